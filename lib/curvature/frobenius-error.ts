import {
  type Estimate,
  largestMagnitude,
  meanAndError,
  probeSums,
  type SpectralMeasure,
} from './measure.js'

/**
 * ||A||_F² = Σ λ² of an n x n matrix from the measure of Rademacher probes. A few large eigenvalues
 * make zᵀ A² z skew: where probes happen to miss them, both the mean and the spread over probes
 * come out small, and the spread alone understates the error (by 1.2 to 2 at 12 probes). The
 * standard error is therefore at least what the spectrum itself implies for eigenvectors that are
 * not aligned with single parameters: with c the mean of λ²,
 *   Var zᵀ A² z = 2 Σ_{i≠j} (A²)_ij² ≤ 2 Σ (λ² - c)²,
 * where the sum is the quadrature's, and no less than its largest node's term, which Lanczos knows
 * however small its weight. It overstates the error of operators that are nearly diagonal.
 */
export function frobeniusSquaredOf(measure: SpectralMeasure, n: number): Estimate {
  const { value, standardError } = meanAndError(
    probeSums(measure, (t) => t * t).map((sum) => n * sum),
  )
  const centre = value / n
  const spread = (t: number): number => (t * t - centre) ** 2
  const sums = probeSums(measure, spread)
  const sum = (n * sums.reduce((total, x) => total + x, 0)) / sums.length
  const variance = 2 * Math.max(sum, spread(largestMagnitude(measure)))
  return { value, standardError: Math.max(standardError, Math.sqrt(variance / sums.length)) }
}
