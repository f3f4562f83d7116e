import type { DataSet } from '../data/dataset.js'
import { LosscapeError } from '../errors.js'
import * as ops from '../ops/index.js'
import { elements } from '../program/shape.js'
import { Tensor } from '../program/tensor.js'

/** What a loss needs of its targets. */
export type TargetKind = 'labels' | 'values'

/**
 * Loss of each sample [B] from outputs [B, ..] and targets: i32 labels [B], or values of the
 * outputs' shape. Means over a data set weight every sample alike.
 */
export interface Loss {
  readonly name: string
  readonly targets: TargetKind
  readonly perSample: (outputs: Tensor, targets: Tensor) => Tensor
  /** Its Hessian in the outputs vanishes, so that the Gauss-Newton matrix is zero. */
  readonly flat?: boolean
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
    perSample: (z, y) => ops.crossEntropy(z, y),
  },
  mse: { name: 'mse', targets: 'values', perSample: (z, y) => ops.squaredError(z, y) },
  'half-squared-error': {
    name: 'half-squared-error',
    targets: 'values',
    perSample: (z, y) => ops.squaredError(z, y, 'half-sum'),
  },
  logistic: { name: 'logistic', targets: 'labels', perSample: ops.logistic },
  'margin-logistic': {
    name: 'margin-logistic',
    targets: 'labels',
    perSample: (z, y) => ops.marginLogistic(z, signs(z, y)),
  },
  hinge: {
    name: 'hinge',
    targets: 'labels',
    flat: true,
    perSample: (z, y) => ops.hinge(z, signs(z, y)),
  },
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
    perSample: (z, y) =>
      ops.crossEntropy(z, y, {
        smoothing,
        ignoreLabel,
        classWeights: classWeights && ops.constant(classWeights, { dtype: z.dtype }),
      }),
  }
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

/** 1 per sample whose prediction is right (argmax, or sign of a single score), else 0; f32 [B]. */
export function isCorrect(outputs: Tensor, labels: Tensor): Tensor {
  const scores = elements(outputs.shape.slice(1))
  const predicted =
    scores === 1
      ? ops.cast(ops.gt(ops.reshape(outputs, [outputs.shape[0]]), 0), 'i32')
      : ops.argmax(outputs, 1)
  return ops.cast(ops.eq(predicted, labels), 'f32')
}
