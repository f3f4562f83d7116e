import { requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'

/**
 * What stochastic Lanczos quadrature returns: for every probe the Ritz values (nodes) and the
 * squared first components (weights, which sum to 1). Probes may differ in length.
 */
export interface SpectralMeasure {
  nodes: readonly ArrayLike<number>[]
  weights: readonly ArrayLike<number>[]
}

/** A mean over random probes. */
export interface Estimate {
  readonly value: number
  /** Of that mean; NaN for a single probe, whose error cannot be known. */
  readonly standardError: number
}

/**
 * Weights below are rounding. Harmless in a sum, but 0 · log 0 is not a number, and a logarithmic
 * plot would show them.
 */
export const NEGLIGIBLE_WEIGHT = 1e-30

/**
 * Fraction of the spectrum that is <= t, for each t: (1/P) Σ ω_l [θ_l <= t]. Needs no kernel,
 * hence the comparison to trust. O((K + M) log M) for K thresholds and M nodes in all.
 */
export function cumulative(measure: SpectralMeasure, t: ArrayLike<number>): Float64Array {
  checkMeasure(measure)
  requireArguments('cumulative()', { t })
  return steps(measure, t)
}

/**
 * The {@link cumulative} fraction with its standard error over probes at each t (NaN for one
 * probe). O((K + M) log M).
 */
export function cumulativeBand(
  measure: SpectralMeasure,
  t: ArrayLike<number>,
): { values: Float64Array; standardErrors: Float64Array } {
  checkMeasure(measure)
  requireArguments('cumulativeBand()', { t })
  const perProbe = measure.nodes.map((row, p) =>
    steps({ nodes: [row], weights: [measure.weights[p]] }, t),
  )
  const estimates = Array.from(t, (_, i) => meanAndError(perProbe.map((row) => row[i])))
  return {
    values: Float64Array.from(estimates, ({ value }) => value),
    standardErrors: Float64Array.from(estimates, ({ standardError }) => standardError),
  }
}

/**
 * tr f(A) ≈ n · mean over probes of Σ ω_l f(θ_l), with the standard error of that mean over
 * probes (NaN with a single probe, whose error cannot be known). n = 1 gives the mean of f over
 * the spectrum. Nodes of negligible weight (below 1e-30) are left out, so f may be infinite there.
 *
 * Source: Ubaru, Chen, Saad 2017.
 *
 * @throws ERR_ARGUMENT for an f that is no function or n that is not positive
 */
export function functional(
  measure: SpectralMeasure,
  f: (t: number) => number,
  n: number,
): Estimate {
  checkMeasure(measure)
  requireArguments('functional()', { f })
  requireSize(n)
  return meanAndError(probeSums(measure, f).map((sum) => n * sum))
}

/**
 * Wasserstein-1 distance ∫ |F_a(t) - F_b(t)| dt between two measures (F as in
 * {@link cumulative}), in units of the eigenvalue.
 */
export function wasserstein1(a: SpectralMeasure, b: SpectralMeasure): number {
  checkMeasure(a)
  checkMeasure(b)
  const points = [...a.nodes, ...b.nodes].flatMap((row) => Array.from(row)).sort((x, y) => x - y)
  const fa = cumulative(a, points)
  const fb = cumulative(b, points)
  let sum = 0
  for (let i = 0; i + 1 < points.length; i++) {
    sum += Math.abs(fa[i] - fb[i]) * (points[i + 1] - points[i])
  }
  return sum
}

/** Σ_l ω_l f(θ_l) of every probe, without nodes of negligible weight. */
export function probeSums({ nodes, weights }: SpectralMeasure, f: (t: number) => number): number[] {
  return nodes.map((row, p) => {
    let sum = 0
    for (let l = 0; l < row.length; l++) {
      if (weights[p][l] >= NEGLIGIBLE_WEIGHT) sum += weights[p][l] * f(row[l])
    }
    return sum
  })
}

/** The mean of samples and its standard error, NaN for a single one. */
export function meanAndError(samples: readonly number[]): Estimate {
  const count = samples.length
  const value = samples.reduce((sum, x) => sum + x, 0) / count
  const squares = samples.reduce((sum, x) => sum + (x - value) ** 2, 0)
  return {
    value,
    standardError: count > 1 ? Math.sqrt(squares / (count - 1) / count) : Number.NaN,
  }
}

/** Largest |node| over all probes. */
export function largestMagnitude(measure: SpectralMeasure): number {
  const [low, high] = extremes(measure)
  return Math.max(Math.abs(low), Math.abs(high))
}

/** Smallest and largest node over all probes. */
export function extremes(measure: SpectralMeasure): [number, number] {
  let low = Number.POSITIVE_INFINITY
  let high = Number.NEGATIVE_INFINITY
  for (const row of measure.nodes) {
    for (let l = 0; l < row.length; l++) {
      low = Math.min(low, row[l])
      high = Math.max(high, row[l])
    }
  }
  return [low, high]
}

/** Lanczos steps of the longest probe. */
export function longestProbe({ nodes }: SpectralMeasure): number {
  return Math.max(...nodes.map((row) => row.length))
}

/** n, or 1 for means over the spectrum. Throws ERR_ARGUMENT unless positive and finite. */
export function requireSize(n: number): void {
  if (typeof n === 'number' && n > 0 && Number.isFinite(n)) return
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `n, the size of the matrix (1 for a mean over the spectrum), must be positive, got ${String(n)}.`,
  )
}

/** @throws ERR_ARGUMENT, ERR_SHAPE, ERR_NOT_FINITE */
export function checkMeasure(measure: SpectralMeasure): void {
  const { nodes, weights } = measure ?? {}
  if (!Array.isArray(nodes) || !Array.isArray(weights)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      'Expected a spectral measure { nodes, weights } with a list per probe, as slq() returns.',
    )
  }
  if (nodes.length === 0 || nodes.length !== weights.length) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `A spectral measure needs nodes and weights of the same number (> 0) of probes, got ${nodes.length} and ${weights.length}.`,
    )
  }
  nodes.forEach((row, p) => {
    if (!(row?.length > 0) || row.length !== weights[p]?.length) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `Probe ${p} needs equally many (> 0) nodes and weights, got ${row?.length} and ${weights[p]?.length}.`,
      )
    }
    for (let l = 0; l < row.length; l++) {
      if (!Number.isFinite(row[l]) || !Number.isFinite(weights[p][l])) {
        throw new LosscapeError(
          'ERR_NOT_FINITE',
          `Node ${l} of probe ${p} is ${row[l]} with weight ${weights[p][l]}: both must be finite.`,
        )
      }
    }
  })
}

function steps(measure: SpectralMeasure, t: ArrayLike<number>): Float64Array {
  const { nodes, sums } = sortedMass(measure)
  return Float64Array.from(t, (threshold) => {
    let low = 0
    let high = nodes.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (nodes[middle] <= threshold) low = middle + 1
      else high = middle
    }
    return low === 0 ? 0 : Math.min(sums[low - 1], 1)
  })
}

/** All nodes ascending with the running sum of their weights over the number of probes. */
function sortedMass(measure: SpectralMeasure) {
  const all: [number, number][] = []
  measure.nodes.forEach((row, p) => {
    for (let l = 0; l < row.length; l++) all.push([row[l], measure.weights[p][l]])
  })
  all.sort((x, y) => x[0] - y[0])
  let sum = 0
  const sums = Float64Array.from(all, ([, weight]) => {
    sum += weight
    return sum / measure.nodes.length
  })
  return { nodes: Float64Array.from(all, ([node]) => node), sums }
}
