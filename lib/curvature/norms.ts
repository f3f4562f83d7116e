import { requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import { requireOptions } from '../options.js'
import { type LanczosProgress, lanczos } from './lanczos.js'
import { type Estimate, meanAndError } from './measure.js'
import { type LinearOperator, requireFinite } from './operator.js'
import { ROWS, rowDots } from './sketch.js'
import { spaceOf } from './space.js'

export interface FrobeniusOptions {
  /** Products, the upper limit when `tol` is given. Default 100. */
  readonly products?: number
  /** Stop when the standard error is at most this fraction of the norm (after 10 products). */
  readonly tol?: number
  /** Default 0. */
  readonly seed?: number
  readonly signal?: AbortSignal
  readonly onProgress?: (done: number, products: number) => void
}

/** ||A||_F; the standard error is that of the square, linearised. */
export interface FrobeniusNorm extends Estimate {
  /** The unbiased estimate of ||A||_F². */
  readonly squared: Estimate
  readonly products: number
}

/**
 * The Frobenius norm from ||A||_F² = E ||A z||² over Rademacher z.
 * @throws ERR_ARGUMENT, ERR_ABORTED
 */
export async function frobenius(
  operator: LinearOperator,
  options: FrobeniusOptions = {},
): Promise<FrobeniusNorm> {
  requireArguments('frobenius()', { operator })
  requireOptions('frobenius()', options, ['products', 'tol', 'seed', 'signal', 'onProgress'])
  const { products = 100, tol } = options
  if (!Number.isInteger(products) || products < 1) {
    throw new LosscapeError('ERR_ARGUMENT', `products must be a positive integer, got ${products}.`)
  }
  if (tol !== undefined && !(tol >= 0)) {
    throw new LosscapeError('ERR_ARGUMENT', `tol must not be negative, got ${tol}.`)
  }
  const norm = await withProgress(options, (guarded) => meanOfSquares(operator, products, guarded))
  requireFinite([norm.value])
  return norm
}

async function meanOfSquares(
  operator: LinearOperator,
  products: number,
  { tol, seed = 0, signal, onProgress }: FrobeniusOptions,
): Promise<FrobeniusNorm> {
  const space = spaceOf(operator, { signal })
  const z = space.allocate(Math.min(ROWS, products))
  const az = space.allocate(z.count)
  const samples: number[] = []
  try {
    for (;;) {
      throwIfAborted(signal)
      const count = Math.min(z.count, products - samples.length)
      await space.fill(z.rows(0, count), 'rademacher', seed, samples.length)
      await space.apply(z.rows(0, count), az.rows(0, count))
      samples.push(...(await rowDots(space, az.rows(0, count), az.rows(0, count))))
      onProgress?.(samples.length, products)
      const norm = rootOf(samples)
      const reached =
        tol !== undefined && samples.length >= 10 && norm.standardError <= tol * norm.value
      if (reached || samples.length === products) return norm
    }
  } finally {
    z.dispose()
    az.dispose()
  }
}

function rootOf(samples: readonly number[]): FrobeniusNorm {
  const squared = meanAndError(samples)
  const value = Math.sqrt(squared.value)
  const standardError = value > 0 ? squared.standardError / (2 * value) : squared.standardError
  return { value, standardError, squared, products: samples.length }
}

export interface SpectralNormOptions {
  /** Converged when the residual is at most this fraction of the norm. Default 1e-4, f64 1e-8. */
  readonly tol?: number
  /** Default min(n, 200). */
  readonly maxSteps?: number
  /** Default 0. */
  readonly seed?: number
  /** Probe symmetry and determinism first, once per operator. Default true. */
  readonly check?: boolean
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: LanczosProgress) => void
}

export interface SpectralNorm {
  /** max |θ| over both ends: a lower bound of ||A||₂, whatever has converged. */
  readonly value: number
  /** Some eigenvalue lies within this distance of the Ritz value whose magnitude `value` is. */
  readonly residual: number
  /** Expected error, residual² / gap. */
  readonly errorBound: number
  readonly converged: boolean
  /** Extreme Ritz values. */
  readonly largest: number
  readonly smallest: number
  readonly steps: number
}

/**
 * The spectral norm ||A||₂ = max |λ| of a symmetric operator by Lanczos at both ends. The residual
 * certifies an eigenvalue near ± value; that none is larger holds with probability 1 over the start
 * vector in the limit, and in practice once the residual has converged.
 *
 * @throws ERR_ARGUMENT, ERR_OPERATOR, ERR_ABORTED
 */
export async function spectralNorm(
  operator: LinearOperator,
  options: SpectralNormOptions = {},
): Promise<SpectralNorm> {
  requireArguments('spectralNorm()', { operator })
  requireOptions('spectralNorm()', options, [
    ...(['tol', 'maxSteps', 'seed', 'check', 'signal', 'onProgress'] as const),
  ])
  const { maxSteps = Math.min(operator.size, 200), ...rest } = options
  const k = Math.min(2, operator.size)
  const result = await lanczos(operator, { ...rest, k, which: 'both-ends', maxSteps })
  const { values, residuals, errorBounds, converged, steps } = result
  const last = values.length - 1
  const at = Math.abs(values[last]) > Math.abs(values[0]) ? last : 0
  return {
    value: Math.abs(values[at]),
    residual: residuals[at],
    errorBound: errorBounds[at],
    converged: converged[at],
    largest: values[0],
    smallest: values[last],
    steps,
  }
}
