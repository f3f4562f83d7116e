import type { FloatVector } from '../nn/layout.js'
import type { LanczosRun, Reorthogonalize } from './lanczos-run.js'
import { projectedEigen } from './projection.js'
import type { Selection } from './ritz.js'

/** Y = S V for the selected rows of S, the eigenvectors of the projection. */
export async function ritzVectors(
  run: LanczosRun,
  { indices }: Selection,
  { reorthogonalize }: { reorthogonalize: Reorthogonalize },
): Promise<FloatVector[]> {
  const { steps } = run.state
  const { vectors } = await projectedEigen(run.binding, run.state, { vectors: true })
  const s = vectors as Float64Array
  const coefficients = new Float64Array(indices.length * steps)
  for (const [row, index] of indices.entries()) {
    coefficients.set(s.subarray(index * steps, (index + 1) * steps), row * steps)
  }
  if (reorthogonalize === 'partial' || reorthogonalize === 'selective') {
    orthonormalize(coefficients, steps, await run.gram())
  }
  return run.combine(coefficients, indices.length)
}

/**
 * A semi-orthogonal basis V = L Q is off by √eps from the orthonormal rows of Q, on which the
 * projection of A is T to rounding (Simon 1984): coefficients on Q become those on V, s L⁻¹.
 */
function orthonormalize(coefficients: Float64Array, m: number, gram: Float64Array): void {
  const l = cholesky(gram, m)
  for (let at = 0; at < coefficients.length; at += m) {
    for (let j = m - 1; j >= 0; j--) {
      let sum = coefficients[at + j]
      for (let i = j + 1; i < m; i++) sum -= l[i * m + j] * coefficients[at + i]
      coefficients[at + j] = sum / l[j * m + j]
    }
  }
}

/** Lower triangle L of A = L Lᵀ, row-major; A is the identity to √eps. */
function cholesky(a: Float64Array, m: number): Float64Array {
  const l = new Float64Array(m * m)
  for (let i = 0; i < m; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[i * m + j]
      for (let k = 0; k < j; k++) sum -= l[i * m + k] * l[j * m + k]
      l[i * m + j] = i === j ? Math.sqrt(sum) : sum / l[j * m + j]
    }
  }
  return l
}
