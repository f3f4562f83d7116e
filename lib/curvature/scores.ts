import { LosscapeError } from '../errors.js'
import type { Likelihood, Loss } from '../nn/loss.js'
import * as ops from '../ops/index.js'
import { vjp } from '../program/functions.js'
import { elements } from '../program/shape.js'
import type { Tensor } from '../program/tensor.js'

/** @throws ERR_ARGUMENT for a loss that belongs to no distribution of targets */
export function requireLikelihood(loss: Loss, what: string): Likelihood {
  const { likelihood } = loss
  if (!likelihood) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${what} needs a loss that is a negative log-likelihood: cross-entropy, logistic, margin-logistic, mse or half-squared-error. Loss '${loss.name}' is none; use empiricalFisher(), or give a loss of your own a \`likelihood\`.`,
    )
  }
  if (!['categorical', 'bernoulli', 'gaussian'].includes(likelihood.family)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `The likelihood of loss '${loss.name}' must be of family categorical, bernoulli or gaussian; got '${String((likelihood as Likelihood).family)}'.`,
    )
  }
  return likelihood
}

/** Random numbers that one draw of a sample's target takes. */
export function noisePerDraw({ family }: Likelihood, outputs: number): number {
  return family === 'gaussian' ? outputs : 1
}

/** Everything but the first axis flattened: [B, ..] -> [B, C]. */
export function flatten(z: Tensor): Tensor {
  return ops.reshape(z, [z.shape[0], elements(z.shape.slice(1))])
}

/** Gradient of each sample's loss in its outputs, r_i [B, C]. */
export function residuals(loss: Loss, z: Tensor, y: Tensor): Tensor {
  const ones = ops.constant(1, { dtype: z.dtype, shape: [z.shape[0]] })
  return flatten(vjp(loss.perSample, [z, y], [0]).pullback(ones)[0])
}

/**
 * Gradients in the outputs of -log p(ŷ | z) at drawn targets ŷ, [B, S, C].
 *
 * @param z outputs [B, ..]
 * @param noise uniform numbers [B, S] that choose labels by the cumulative probabilities; standard
 * normal ones [B, S, C] for values
 */
export function drawnScores(likelihood: Likelihood, z: Tensor, noise: Tensor): Tensor {
  const outputs = flatten(z)
  const [rows, classes] = outputs.shape
  const draws = noise.shape[1]
  const shape = [rows, draws, classes]
  switch (likelihood.family) {
    case 'categorical': {
      const labels = drawLabels(outputs, noise)
      const repeated = ops.broadcastTo(ops.reshape(outputs, [rows, 1, classes]), shape)
      const ones = ops.constant(1, { dtype: z.dtype, shape: [rows, draws] })
      // The fused residual keeps 1 - p of confident samples exact.
      return vjp((t, l) => ops.crossEntropy(t, l), [repeated, labels], [0]).pullback(ones)[0]
    }
    case 'bernoulli': {
      const s = ops.broadcastTo(outputs, [rows, draws])
      const isOne = ops.lt(noise, ops.sigmoid(s))
      const score = ops.where(isOne, ops.neg(ops.sigmoid(ops.neg(s))), ops.sigmoid(s))
      return ops.reshape(score, shape)
    }
    case 'gaussian':
      return ops.mul(noise, -1 / Math.sqrt(likelihood.variance(classes)))
  }
}

/** Labels i32 [B, S]: the number of classes whose cumulative probability lies below u. */
function drawLabels(z: Tensor, u: Tensor): Tensor {
  const [rows, classes] = z.shape
  const draws = u.shape[1]
  const upTo = ops.le(ops.iota([classes, classes], 0), ops.iota([classes, classes], 1))
  const cumulative = ops.matmul(ops.softmax(z), ops.cast(upTo, z.dtype))
  const full = [rows, draws, classes]
  const passed = ops.lt(
    ops.broadcastTo(ops.reshape(cumulative, [rows, 1, classes]), full),
    ops.broadcastTo(ops.reshape(u, [rows, draws, 1]), full),
  )
  const label = ops.sum(ops.cast(passed, z.dtype), [2])
  // Rounding may leave the last cumulative probability below u.
  return ops.cast(ops.minimum(label, classes - 1), 'i32')
}
