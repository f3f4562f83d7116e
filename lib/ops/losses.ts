import { LosscapeError } from '../errors.js'
import { elements } from '../program/shape.js'
import type { Tensor } from '../program/tensor.js'
import { cast, maximum, mul, neg, softplus, sub } from './elementwise.js'
import { reshape } from './movement.js'
import { sum } from './reduce.js'

/** Everything but the first axis flattened: [B, ..] -> [B, n]. */
function rows(x: Tensor): Tensor {
  return reshape(x, [x.shape[0], elements(x.shape.slice(1))])
}

/**
 * Squared error of each sample over its C outputs: |z - y|² / C (`mean`) or |z - y|² / 2
 * (`half-sum`). z and y [B, ..] of one shape; returns [B].
 */
export function squaredError(z: Tensor, y: Tensor, scaling: 'mean' | 'half-sum' = 'mean'): Tensor {
  const difference = rows(sub(z, y))
  const scale = scaling === 'mean' ? 1 / difference.shape[1] : 0.5
  return mul(sum(mul(difference, difference), [1]), scale)
}

/** Scores of one output per sample, [B] or [B, 1] as [B]. */
function scores(z: Tensor): Tensor {
  if (elements(z.shape.slice(1)) !== 1) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `A loss of binary scores needs one output per sample, [B] or [B, 1], got [${z.shape}]: use a model with one output, or cross-entropy for ${elements(z.shape.slice(1))} classes.`,
    )
  }
  return reshape(z, [z.shape[0]])
}

/** Binary logistic loss softplus(z) - y z, targets y in {0, 1} (any dtype) [B]; returns [B]. */
export function logistic(z: Tensor, y: Tensor): Tensor {
  const s = scores(z)
  return sub(softplus(s), mul(cast(y, s.dtype), s))
}

/** Margin logistic loss log(1 + e^(-y z)), targets y in {-1, 1}; returns [B]. */
export function marginLogistic(z: Tensor, y: Tensor): Tensor {
  const s = scores(z)
  return softplus(neg(mul(cast(y, s.dtype), s)))
}

/**
 * Hinge loss max(0, 1 - y z), targets y in {-1, 1}; returns [B]. Piecewise linear: its
 * Gauss-Newton matrix is zero.
 */
export function hinge(z: Tensor, y: Tensor): Tensor {
  const s = scores(z)
  return maximum(sub(1, mul(cast(y, s.dtype), s)), 0)
}
