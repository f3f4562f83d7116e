import type { Likelihood } from '../nn/loss.js'
import * as ops from '../ops/index.js'
import { vjp } from '../program/functions.js'
import type { Tensor } from '../program/tensor.js'
import { flatten } from './scores.js'

/** Number of vectors q with Σ q qᵀ = Q: one per class or output, one for a single score. */
export function rootCount({ family }: Likelihood, outputs: number): number {
  return family === 'bernoulli' ? 1 : outputs
}

/**
 * Vector number `selector` of a decomposition Q = Σ_c q_c q_cᵀ of each sample's Hessian in the
 * outputs, [B, C]. For labels q_c = √(W p_c) (e_c - p): exact, since
 * Σ_c p_c (e_c - p)(e_c - p)ᵀ = diag(p) - p pᵀ.
 *
 * @param z outputs [B, ..]
 * @param y targets, which only weights read
 * @param selector i32 [1]
 */
export function outputRoot(likelihood: Likelihood, z: Tensor, y: Tensor, selector: Tensor): Tensor {
  const outputs = flatten(z)
  const [rows, width] = outputs.shape
  switch (likelihood.family) {
    case 'categorical': {
      const label = ops.broadcastTo(selector, [rows])
      const ones = ops.constant(1, { dtype: z.dtype, shape: [rows] })
      // The fused loss and residual keep p and 1 - p exact where they are small.
      const { values, pullback } = vjp((t, l) => ops.crossEntropy(t, l), [outputs, label], [0])
      const weight = likelihood.weight?.(y, z)
      const root = ops.exp(ops.mul(values[0], -0.5))
      const scale = weight ? ops.mul(root, ops.sqrt(weight)) : root
      return ops.mul(pullback(ones)[0], ops.reshape(ops.neg(scale), [rows, 1]))
    }
    case 'gaussian': {
      const chosen = ops.eq(ops.iota([rows, width]), ops.reshape(selector, [1, 1]))
      return ops.mul(ops.cast(chosen, z.dtype), 1 / Math.sqrt(likelihood.variance(width)))
    }
    case 'bernoulli': {
      // σ (1 - σ) without cancellation.
      const product = ops.mul(ops.sigmoid(outputs), ops.sigmoid(ops.neg(outputs)))
      return ops.sqrt(product)
    }
  }
}
