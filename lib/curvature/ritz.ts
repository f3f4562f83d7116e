import type { ProjectedEigen } from './projection.js'

export const WHICH = ['largest', 'smallest', 'largest-magnitude', 'both-ends'] as const

/** Which eigenvalues are wanted, by algebraic value or by magnitude. */
export type Which = (typeof WHICH)[number]

/** Ritz values picked from a projection, in descending order. */
export interface Selection {
  readonly values: Float64Array
  readonly residuals: Float64Array
  readonly errorBounds: Float64Array
  readonly converged: readonly boolean[]
  /** Indices among the ascending Ritz values. */
  readonly indices: readonly number[]
  /** max |θ|, the estimate of ||A||. */
  readonly norm: number
}

/** Indices into ascending Ritz values, in descending order of value. */
export function pickRitz(values: Float64Array, k: number, which: Which): number[] {
  const m = values.length
  const descending = Array.from({ length: m }, (_, i) => m - 1 - i)
  switch (which) {
    case 'largest':
      return descending.slice(0, k)
    case 'smallest':
      return descending.slice(m - k)
    case 'both-ends': {
      const top = Math.ceil(k / 2)
      return [...descending.slice(0, top), ...descending.slice(m - (k - top))].slice(0, k)
    }
    case 'largest-magnitude':
      return descending
        .sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]))
        .slice(0, k)
        .sort((a, b) => values[b] - values[a])
  }
}

/**
 * Ritz values of a projection T with residuals β_m |s_{i,m}| + eps ||T||: the first term is exact
 * arithmetic's, the second what rounding of the products leaves. Converged when the first term is
 * at most max(tol |θ|, 10 eps ||T||).
 *
 * @param residualNorm β_m
 */
export function selectRitz(
  { values, last }: ProjectedEigen,
  residualNorm: number,
  options: { k: number; which: Which; tol: number; epsilon: number },
): Selection {
  const m = values.length
  const norm = Math.max(0, ...[values[0], values[m - 1]].map(Math.abs))
  const indices = pickRitz(values, Math.min(options.k, m), options.which)
  const exact = Float64Array.from(indices, (i) => residualNorm * Math.abs(last[i]))
  const rounding = options.epsilon * norm
  const errorBounds = Float64Array.from(indices, (i, at) => {
    const gap = Math.min(
      i > 0 ? values[i] - values[i - 1] : Infinity,
      i < m - 1 ? values[i + 1] - values[i] : Infinity,
    )
    return rounding + Math.min(exact[at], exact[at] ** 2 / Math.max(gap, Number.MIN_VALUE))
  })
  return {
    values: Float64Array.from(indices, (i) => values[i]),
    residuals: exact.map((r) => r + rounding),
    errorBounds,
    converged: indices.map(
      (i, at) => exact[at] <= Math.max(options.tol * Math.abs(values[i]), 10 * rounding),
    ),
    indices,
    norm,
  }
}
