import { describe } from '../arguments.js'
import { LosscapeError } from '../errors.js'

/** Cells of the quadrature over the support. */
const CELLS = 4000

/**
 * Upper edge σ² (1 + √γ)² of the Marchenko-Pastur law of X Xᵀ / N with γ = n / N, whose scale σ² is
 * fitted by the median of the positive values: few outliers hardly move it.
 *
 * @param values eigenvalues; those below 1e-10 of the largest count as zero
 * @throws ERR_ARGUMENT unless γ > 0 and some value is positive
 */
export function marchenkoPasturEdge(values: ArrayLike<number>, ratio: number): number {
  const all = Float64Array.from(values).sort()
  const floor = 1e-10 * all[all.length - 1]
  const positive = all.filter((x) => x > floor && x > 0)
  if (!(Number.isFinite(ratio) && ratio > 0) || positive.length === 0) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `A Marchenko-Pastur edge needs a ratio n / N > 0 and positive values, got ratio ${describe(ratio)}.`,
    )
  }
  const variance = positive[positive.length >> 1] / unitMedian(ratio)
  return variance * (1 + Math.sqrt(ratio)) ** 2
}

/** Median of the law for σ² = 1 without its atom at 0, with density ∝ √((b - x)(x - a)) / x. */
function unitMedian(ratio: number): number {
  const low = (1 - Math.sqrt(ratio)) ** 2
  const high = (1 + Math.sqrt(ratio)) ** 2
  // x = (a + b)/2 - (b - a)/2 cos φ removes the root's singular ends.
  const at = (k: number): number =>
    (low + high) / 2 - ((high - low) / 2) * Math.cos(((k + 0.5) * Math.PI) / CELLS)
  const masses = Float64Array.from({ length: CELLS }, (_, k) => {
    return Math.sin(((k + 0.5) * Math.PI) / CELLS) ** 2 / at(k)
  })
  const half = masses.reduce((sum, x) => sum + x, 0) / 2
  let sum = 0
  let k = 0
  while (k < CELLS - 1 && sum + masses[k] < half) sum += masses[k++]
  return at(k)
}
