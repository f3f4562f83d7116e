import { argumentError } from '../arguments.js'
import type { DataSet } from '../data/dataset.js'
import { LosscapeError } from '../errors.js'
import * as ops from '../ops/index.js'
import { elements } from '../program/shape.js'
import { Tensor } from '../program/tensor.js'

/** What a loss needs of its targets. */
export type TargetKind = 'labels' | 'values'

/**
 * The distribution of targets under which a loss is -log p(y | z) up to a constant: labels with
 * probabilities softmax(z), a label 1 with probability σ(z), or values y ~ N(z, variance I).
 */
export type Likelihood =
  | {
      readonly family: 'categorical'
      /** Weight of each sample [B] by its own label; default 1. */
      readonly weight?: (targets: Tensor, outputs: Tensor) => Tensor
    }
  | { readonly family: 'bernoulli' }
  | { readonly family: 'gaussian'; readonly variance: (outputs: number) => number }

/**
 * Loss of each sample [B] from outputs [B, ..] and targets: i32 labels [B], or [B, ..] for outputs
 * [B, C, ..] of every place, or values of the outputs' shape. Means over a data set weight every
 * sample alike.
 */
export interface Loss {
  readonly name: string
  readonly targets: TargetKind
  readonly perSample: (outputs: Tensor, targets: Tensor) => Tensor
  /** Its Hessian in the outputs vanishes, so that the Gauss-Newton matrix is zero. */
  readonly flat?: boolean
  /**
   * Present where targets have a distribution given the outputs; its Fisher information is the
   * loss's Hessian in the outputs (times the sample's weight). Needed by the Fisher operators.
   */
  readonly likelihood?: Likelihood
}

/** A loss by name, by name with options, or one's own. */
export type LossSpec =
  | 'cross-entropy'
  | 'mse'
  | 'half-squared-error'
  | 'logistic'
  | 'margin-logistic'
  | 'hinge'
  | {
      readonly kind: 'cross-entropy'
      readonly smoothing?: number
      readonly ignoreLabel?: number
      readonly classWeights?: readonly number[]
    }
  | Loss

const NAMED: Record<string, Loss> = {
  'cross-entropy': {
    name: 'cross-entropy',
    targets: 'labels',
    likelihood: { family: 'categorical' },
    perSample: (z, y) => crossEntropy(z, y, {}),
  },
  mse: {
    name: 'mse',
    targets: 'values',
    likelihood: { family: 'gaussian', variance: (outputs) => outputs / 2 },
    perSample: (z, y) => ops.squaredError(z, y),
  },
  'half-squared-error': {
    name: 'half-squared-error',
    targets: 'values',
    likelihood: { family: 'gaussian', variance: () => 1 },
    perSample: (z, y) => ops.squaredError(z, y, 'half-sum'),
  },
  logistic: {
    name: 'logistic',
    targets: 'labels',
    likelihood: { family: 'bernoulli' },
    perSample: ops.logistic,
  },
  'margin-logistic': {
    name: 'margin-logistic',
    targets: 'labels',
    likelihood: { family: 'bernoulli' },
    perSample: (z, y) => ops.marginLogistic(z, signs(z, y)),
  },
  hinge: {
    name: 'hinge',
    targets: 'labels',
    flat: true,
    perSample: (z, y) => ops.hinge(z, signs(z, y)),
  },
}

/**
 * Of logits [B, C] with labels [B], or of [B, C, ..] with a label for every place [B, ..]: then the
 * mean over the places of a sample whose label is not ignored, 0 where there is none.
 */
function crossEntropy(z: Tensor, y: Tensor, options: ops.CrossEntropyOptions): Tensor {
  if (z.rank === 2) return ops.crossEntropy(z, y, options)
  const [samples, classes, ...space] = z.shape
  const places = elements(space)
  const last = ops.transpose(ops.reshape(z, [samples, classes, places]), [0, 2, 1])
  // Labels come without the axis of the classes, probabilities with it.
  const targets =
    y.rank === z.rank
      ? ops.transpose(ops.reshape(y, [samples, classes, places]), [0, 2, 1])
      : ops.reshape(y, [samples, places])
  const each = ops.crossEntropy(last, targets, options)
  const { ignoreLabel } = options
  if (ignoreLabel === undefined || y.rank === z.rank) return ops.mean(each, [1])
  const counted = ops.sum(ops.cast(ops.ne(targets, ignoreLabel), z.dtype), [1])
  return ops.div(ops.sum(each, [1]), ops.maximum(counted, 1))
}

/** Labels 0 and 1 as -1 and 1. */
function signs(z: Tensor, y: Tensor): Tensor {
  return ops.sub(ops.mul(ops.cast(y, z.dtype), 2), 1)
}

/** Cross-entropy for labels, mean squared error for values. */
export function defaultLoss(set: DataSet): LossSpec {
  return set.classes === null ? 'mse' : 'cross-entropy'
}

/** @throws ERR_ARGUMENT for an unknown name, listing the known ones */
export function resolveLoss(spec: LossSpec): Loss {
  if (typeof spec === 'string') {
    if (Object.hasOwn(NAMED, spec)) return NAMED[spec]
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `Unknown loss '${spec}'; expected one of ${Object.keys(NAMED).join(', ')}.`,
    )
  }
  if (typeof spec !== 'object' || spec === null) {
    throw argumentError('The model', 'loss', 'a name, an object with options, or a Loss', spec)
  }
  if (!('kind' in spec)) return checkedLoss(spec)
  if (spec.kind !== 'cross-entropy') {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `A loss with options must be of kind 'cross-entropy', got '${String(spec.kind)}'; the others are named by a string.`,
    )
  }
  const { smoothing, ignoreLabel, classWeights } = spec
  return {
    name: 'cross-entropy',
    targets: 'labels',
    likelihood: { family: 'categorical', weight: (y, z) => labelWeights(y, z, spec) },
    perSample: (z, y) =>
      crossEntropy(z, y, {
        smoothing,
        ignoreLabel,
        classWeights: classWeights && ops.constant(classWeights, { dtype: z.dtype }),
      }),
  }
}

/** W = Σ_c w_c q_c, by which a sample's residual and curvature are scaled; 0 for ignored labels. */
function labelWeights(
  y: Tensor,
  z: Tensor,
  spec: { smoothing?: number; ignoreLabel?: number; classWeights?: readonly number[] },
): Tensor {
  const { smoothing = 0, ignoreLabel = Number.NaN, classWeights } = spec
  const classes = z.shape[1]
  let weight = ops.constant(1, { dtype: z.dtype, shape: y.shape })
  const ignored = Number.isInteger(ignoreLabel) ? ops.eq(y, ignoreLabel) : null
  if (classWeights) {
    const table = ops.constant(classWeights, { dtype: z.dtype, shape: [classes, 1] })
    const own = ops.reshape(ops.gather(table, ignored ? ops.where(ignored, 0, y) : y), y.shape)
    const mean = classWeights.reduce((s, w) => s + w, 0) / classes
    weight = ops.add(ops.mul(own, 1 - smoothing), smoothing * mean)
  }
  return ignored ? ops.where(ignored, 0, weight) : weight
}

/** A loss of the user's, whose results are checked where it is traced. */
function checkedLoss(loss: Loss): Loss {
  if (typeof loss?.perSample !== 'function' || !['labels', 'values'].includes(loss.targets)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      "A loss of one's own needs a name, targets ('labels' or 'values') and perSample(outputs, targets).",
    )
  }
  return {
    ...loss,
    perSample: (z, y) => {
      const result = loss.perSample(z, y)
      if (!(result instanceof Tensor) || result.rank !== 1 || result.shape[0] !== z.shape[0]) {
        const got = result instanceof Tensor ? `[${result.shape}]` : typeof result
        throw new LosscapeError(
          'ERR_SHAPE',
          `Loss '${loss.name}' must return one number per sample, [${z.shape[0]}]; got ${got}. Sum or mean over the other axes.`,
        )
      }
      return result
    },
  }
}

/**
 * 1 per sample whose prediction is right (argmax, or sign of a single score), else 0; the share of
 * right places for outputs [B, C, ..]; f32 [B].
 */
export function isCorrect(outputs: Tensor, labels: Tensor): Tensor {
  if (outputs.rank > 2) {
    const places = elements(outputs.shape.slice(2))
    const right = ops.cast(ops.eq(ops.argmax(outputs, 1), labels), 'f32')
    return ops.mean(ops.reshape(right, [outputs.shape[0], places]), [1])
  }
  const scores = elements(outputs.shape.slice(1))
  const predicted =
    scores === 1
      ? ops.cast(ops.gt(ops.reshape(outputs, [outputs.shape[0]]), 0), 'i32')
      : ops.argmax(outputs, 1)
  return ops.cast(ops.eq(predicted, labels), 'f32')
}
