import { LosscapeError } from '../errors.js'
import type { Tensor } from '../program/tensor.js'
import { add, mul, rsqrt, sub } from './elementwise.js'
import { mean, moments } from './reduce.js'

/** Optional affine part of a normalisation, each of the normalised axis' size. */
export interface Affine {
  scale?: Tensor
  shift?: Tensor
}

function affine(x: Tensor, { scale, shift }: Affine): Tensor {
  const scaled = scale ? mul(x, scale) : x
  return shift ? add(scaled, shift) : scaled
}

function checkEpsilon(epsilon: number): void {
  if (!(epsilon >= 0)) {
    throw new LosscapeError('ERR_ARGUMENT', `epsilon must not be negative, got ${epsilon}.`)
  }
}

/**
 * Layer normalisation over the last axis: (x - mean) / sqrt(variance + epsilon) * scale + shift,
 * with the biased variance. Default epsilon 1e-5.
 */
export function layerNorm(x: Tensor, options: Affine & { epsilon?: number } = {}): Tensor {
  const { epsilon = 1e-5 } = options
  checkEpsilon(epsilon)
  const { mean: mu, variance } = moments(x, [-1])
  return affine(mul(sub(x, mu), rsqrt(add(variance, epsilon))), options)
}

/** RMS normalisation over the last axis: x / sqrt(mean(x²) + epsilon) * scale. Default epsilon 1e-6. */
export function rmsNorm(x: Tensor, options: Affine & { epsilon?: number } = {}): Tensor {
  const { epsilon = 1e-6 } = options
  checkEpsilon(epsilon)
  return affine(mul(x, rsqrt(add(mean(mul(x, x), [-1], true), epsilon))), options)
}
