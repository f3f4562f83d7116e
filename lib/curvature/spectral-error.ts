import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import { checkMeasure, extremes, requireSize, type SpectralMeasure } from './measure.js'

export interface WassersteinBoundOptions {
  /** Probability with which the bound holds. Default 0.99. */
  readonly confidence?: number
  /** Bounds of the spectrum. Default the extreme nodes, which lie inside it. */
  readonly ends?: readonly [number, number]
}

export interface WassersteinBound {
  /** Of the distribution averaged over probes, because they are few. */
  readonly sampling: number
  /** Of the quadrature: what the steps cannot resolve. The smaller of the two below. */
  readonly quadrature: number
  /** 12 range / (2m - 1), known before the run. */
  readonly aPriori: number
  /** From the weights of this run. */
  readonly aPosteriori: number
  /** sampling + quadrature. */
  readonly total: number
  readonly confidence: number
}

/**
 * A bound of the Wasserstein-1 distance between the measure and the spectral distribution of the
 * n x n matrix, in units of the eigenvalue.
 *
 * Sampling: range · √(ln(2n / η) / ((n + 2) P)) with probability 1 - η, P probes uniform on the
 * sphere (those of `slq()` are Rademacher, which behave alike for n in the hundreds and more).
 * Quadrature: the distribution function F of a probe obeys the inequalities of Chebyshev, Markov
 * and Stieltjes, Σ_{l<k} ω_l <= F(θ_k) <= Σ_{l<=k} ω_l, so between two nodes it differs from the
 * rule by the larger of their weights at most. Both are pessimistic by an order of magnitude or
 * more; what they prove is that the error falls as 1/m and 1/√(n P). Outside the extreme nodes
 * nothing is known unless `ends` says where the spectrum stops.
 *
 * Source: Chen, Trogdon, Ubaru 2021, arXiv 2105.06595.
 *
 * @throws ERR_ARGUMENT
 */
export function wassersteinBound(
  measure: SpectralMeasure,
  n: number,
  options: WassersteinBoundOptions = {},
): WassersteinBound {
  checkMeasure(measure)
  requireSize(n)
  requireOptions('wassersteinBound()', options, ['confidence', 'ends'])
  const { confidence = 0.99 } = options
  if (!(confidence > 0 && confidence < 1)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `confidence must be between 0 and 1, got ${String(confidence)}.`,
    )
  }
  const [low, high] = spectrumEnds(measure, options.ends)
  const range = high - low
  const probes = measure.nodes.length
  const sampling = range * Math.sqrt(Math.log((2 * n) / (1 - confidence)) / ((n + 2) * probes))
  const steps = Math.min(...measure.nodes.map((row) => row.length))
  const aPriori = (12 * range) / (2 * steps - 1)
  const perProbe = measure.nodes.map((row, p) => unresolved(row, measure.weights[p], low, high))
  const aPosteriori = perProbe.reduce((sum, x) => sum + x, 0) / probes
  const quadrature = Math.min(aPriori, aPosteriori)
  return { sampling, quadrature, aPriori, aPosteriori, total: sampling + quadrature, confidence }
}

/** ∫ over [low, high] of the largest weight beside t. */
function unresolved(
  nodes: ArrayLike<number>,
  weights: ArrayLike<number>,
  low: number,
  high: number,
): number {
  const order = Array.from({ length: nodes.length }, (_, l) => l).sort(
    (a, b) => nodes[a] - nodes[b],
  )
  const first = order[0]
  const last = order[order.length - 1]
  let sum = weights[first] * (nodes[first] - low) + weights[last] * (high - nodes[last])
  for (let k = 0; k + 1 < order.length; k++) {
    const gap = nodes[order[k + 1]] - nodes[order[k]]
    sum += gap * Math.max(weights[order[k]], weights[order[k + 1]])
  }
  return sum
}

function spectrumEnds(
  measure: SpectralMeasure,
  ends: readonly [number, number] | undefined,
): [number, number] {
  const [low, high] = extremes(measure)
  if (ends === undefined) return [low, high]
  const [below, above] = ends
  if (below <= low && above >= high && Number.isFinite(below) && Number.isFinite(above)) {
    return [below, above]
  }
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `ends must enclose the nodes, from ${low} to ${high}; got [${below}, ${above}].`,
  )
}
