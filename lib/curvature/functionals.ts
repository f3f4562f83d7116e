/**
 * Functions of the spectrum by name, from the nodes and weights of one `slq()` run: no further
 * products. Each value comes with its standard error over probes (NaN for one probe). The error of
 * the quadrature is not in it: see {@link wassersteinBound} for that.
 */

import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import {
  checkMeasure,
  type Estimate,
  functional,
  largestMagnitude,
  meanAndError,
  NEGLIGIBLE_WEIGHT,
  probeSums,
  requireSize,
  type SpectralMeasure,
} from './measure.js'
import { oneOf, type Precision } from './operator.js'

/** tr A = Σ λ. n = 1 gives the mean eigenvalue. */
export function trace(measure: SpectralMeasure, n: number): Estimate {
  return functional(measure, (t) => t, n)
}

/** ||A||_F² = Σ λ². */
export function frobeniusSquared(measure: SpectralMeasure, n: number): Estimate {
  return functional(measure, (t) => t * t, n)
}

/**
 * log det (A + δ I) = Σ ln(λ + δ).
 * @throws ERR_ARGUMENT unless every node is above -δ
 */
export function logDeterminant(measure: SpectralMeasure, n: number, delta: number): Estimate {
  requireDefinite('logDeterminant', measure, delta)
  return functional(measure, (t) => Math.log(t + delta), n)
}

/**
 * Effective dimension Σ λ / (λ + δ): the number of directions whose curvature exceeds δ.
 * Source: MacKay 1992.
 * @throws ERR_ARGUMENT unless every node is above -δ; take the Gauss-Newton matrix or a larger δ
 */
export function effectiveDimension(measure: SpectralMeasure, n: number, delta: number): Estimate {
  requireDefinite('effectiveDimension', measure, delta)
  return functional(measure, (t) => t / (t + delta), n)
}

/**
 * Estrada index Σ exp(scale · λ), scale 1 by default. May overflow to Infinity.
 * @throws ERR_ARGUMENT for a scale that is not finite
 */
export function estrada(measure: SpectralMeasure, n: number, scale = 1): Estimate {
  if (!Number.isFinite(scale)) {
    throw new LosscapeError('ERR_ARGUMENT', `scale must be a finite number, got ${String(scale)}.`)
  }
  return functional(measure, (t) => Math.exp(scale * t), n)
}

/**
 * Number of eigenvalues with |λ| < τ; their fraction with n = 1, the default. A statement about
 * mass, not a count of zeros: a node stands for all eigenvalues around it.
 * @throws ERR_ARGUMENT unless τ is positive
 */
export function massBelow(measure: SpectralMeasure, tau: number, n = 1): Estimate {
  requirePositive('tau', tau)
  return functional(measure, (t) => (Math.abs(t) < tau ? 1 : 0), n)
}

export interface NegativeMassOptions {
  /** Precision of the products; 1e-6 of the largest magnitude for 'f32' (default), 1e-14 for 'f64'. */
  readonly precision?: Precision
  /** Magnitude below which a sign means nothing, instead. */
  readonly floor?: number
}

export interface NegativeMass {
  /** Fraction of the eigenvalues below -floor. */
  readonly fraction: Estimate
  /** Their share of ||A||_F²; 0 for the zero operator. */
  readonly energy: Estimate
  /** Fraction within ± floor, whose sign is rounding. */
  readonly undecided: Estimate
  readonly floor: number
}

/**
 * How much of the spectrum is negative, by number and by energy. Eigenvalues within the precision
 * floor are not counted: products in f32 are wrong by about 1e-6 of the largest eigenvalue.
 * @throws ERR_ARGUMENT
 */
export function negativeMass(
  measure: SpectralMeasure,
  options: NegativeMassOptions = {},
): NegativeMass {
  checkMeasure(measure)
  requireOptions('negativeMass()', options, ['precision', 'floor'])
  const precision = oneOf('precision', options.precision ?? 'f32', ['f32', 'f64'])
  const relative = precision === 'f64' ? 1e-14 : 1e-6
  const floor = options.floor ?? relative * largestMagnitude(measure)
  if (!(floor >= 0 && Number.isFinite(floor))) {
    throw new LosscapeError('ERR_ARGUMENT', `floor must not be negative, got ${String(floor)}.`)
  }
  const squares = probeSums(measure, (t) => t * t)
  const negative = probeSums(measure, (t) => (t < -floor ? t * t : 0))
  return {
    fraction: functional(measure, (t) => (t < -floor ? 1 : 0), 1),
    energy: quotient(negative, squares),
    undecided: functional(measure, (t) => (Math.abs(t) <= floor ? 1 : 0), 1),
    floor,
  }
}

/**
 * Entropy -Σ p ln p of the shares p_i = |λ_i| / Σ |λ|: 0 when one eigenvalue carries all, ln n when
 * all are equal; exp of it is an effective rank. NaN for the zero operator. With T = Σ |λ| and
 * L = Σ |λ| ln |λ| it is ln T - L / T; the standard error is its linearisation in (T, L).
 * Source: Roy, Vetterli 2007 (effective rank).
 */
export function spectralEntropy(measure: SpectralMeasure, n: number): Estimate {
  checkMeasure(measure)
  requireSize(n)
  const totals = probeSums(measure, Math.abs).map((x) => n * x)
  const logs = probeSums(measure, (t) => (t === 0 ? 0 : Math.abs(t) * Math.log(Math.abs(t)))).map(
    (x) => n * x,
  )
  const total = meanAndError(totals).value
  const log = meanAndError(logs).value
  if (total === 0) return { value: Number.NaN, standardError: Number.NaN }
  const slope = 1 / total + log / total ** 2
  const { standardError } = meanAndError(totals.map((t, p) => slope * t - logs[p] / total))
  return { value: Math.log(total) - log / total, standardError }
}

/** Ratio of two means over the same probes; error by linearisation. */
function quotient(above: readonly number[], below: readonly number[]): Estimate {
  const denominator = meanAndError(below).value
  if (denominator === 0) return meanAndError(above)
  const value = meanAndError(above).value / denominator
  const { standardError } = meanAndError(above.map((a, p) => (a - value * below[p]) / denominator))
  return { value, standardError }
}

function requireDefinite(name: string, measure: SpectralMeasure, delta: number): void {
  checkMeasure(measure)
  if (!(delta >= 0 && Number.isFinite(delta))) {
    throw new LosscapeError('ERR_ARGUMENT', `delta must not be negative, got ${String(delta)}.`)
  }
  const { nodes, weights } = measure
  let lowest = Number.POSITIVE_INFINITY
  nodes.forEach((row, p) => {
    for (let l = 0; l < row.length; l++) {
      if (weights[p][l] >= NEGLIGIBLE_WEIGHT) lowest = Math.min(lowest, row[l])
    }
  })
  if (lowest + delta > 0) return
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `${name} needs A + δ I positive definite: the smallest node is ${lowest}, δ is ${delta}. Take δ > ${-lowest}.`,
  )
}

function requirePositive(name: string, value: number): void {
  if (value > 0) return
  throw new LosscapeError('ERR_ARGUMENT', `${name} must be positive, got ${String(value)}.`)
}
