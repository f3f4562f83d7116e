import { withSignal } from '../device/native-call.js'
import type { LanczosState, NativeBinding } from '../native.js'
import { tridiagonalEigen } from './tridiagonal.js'

/** Eigenvalues of the projection of A on a Lanczos basis. */
export interface ProjectedEigen {
  /** Ascending, [m]. */
  readonly values: Float64Array
  /** Last components of the eigenvectors, [m]: the residual norms over that of the run. */
  readonly last: Float64Array
  /** Eigenvectors as rows, [m, m], when asked for. */
  readonly vectors?: Float64Array
}

/**
 * Solves the projection: tridiagonal in O(m²) before a restart, and as a dense matrix (an arrow and
 * a tridiagonal part) after one.
 */
export async function projectedEigen(
  binding: NativeBinding,
  state: LanczosState,
  options: { vectors?: boolean; signal?: AbortSignal } = {},
): Promise<ProjectedEigen> {
  const { alpha, beta, steps, kept } = state
  if (kept === 0) {
    const solved = tridiagonalEigen(alpha, beta.subarray(0, Math.max(0, steps - 1)), {
      vectors: options.vectors ? 'full' : 'ends',
    })
    return { values: solved.values, last: solved.last, vectors: solved.vectors }
  }
  const matrix = new Float64Array(steps * steps)
  for (let j = 0; j < steps; j++) {
    matrix[j * steps + j] = alpha[j]
    const other = j < kept ? kept : j + 1
    if (other < steps) matrix[j * steps + other] = matrix[other * steps + j] = beta[j]
  }
  const { values, vectors } = await withSignal(binding, options.signal, (token) =>
    binding.symmetricEigen(matrix, steps, true, { token }),
  )
  const rows = vectors as Float64Array
  const last = Float64Array.from({ length: steps }, (_, i) => rows[i * steps + steps - 1])
  return { values, last, vectors: rows }
}
