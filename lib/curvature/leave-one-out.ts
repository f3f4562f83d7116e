import { LosscapeError } from '../errors.js'
import type { Sketch } from './sketch.js'

/** Error of a mean of leave-one-out estimates over that of as many independent ones; measured. */
export const LEAVE_ONE_OUT = Math.SQRT2

/**
 * Row i is the unit vector s_i, in coordinates of Q, that is orthogonal to every sketched y_j but
 * y_i: Q (I - s_i s_iᵀ) Qᵀ projects on the sketch without row i. With R = Qᵀ Yᵀ it is row i of R⁻¹,
 * normalised. O(q³).
 */
export function leaveOneOut({ columns, count }: Sketch): Float64Array[] {
  const matrix = new Float64Array(count * count)
  for (const [i, column] of columns.entries()) {
    for (const [j, x] of column.entries()) matrix[j * count + i] = x
  }
  const inverse = invert(matrix, count)
  return Array.from({ length: count }, (_, i) => {
    const row = inverse.subarray(i * count, (i + 1) * count)
    const norm = Math.hypot(...row)
    return row.map((x) => x / norm)
  })
}

export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i]
  return sum
}

/** Gauss-Jordan elimination with row pivots. */
function invert(matrix: Float64Array, n: number): Float64Array {
  const rows = Array.from({ length: n }, (_, i) => {
    const row = new Float64Array(2 * n)
    row.set(matrix.subarray(i * n, (i + 1) * n))
    row[n + i] = 1
    return row
  })
  for (let k = 0; k < n; k++) {
    let pivot = k
    for (let i = k + 1; i < n; i++) {
      if (Math.abs(rows[i][k]) > Math.abs(rows[pivot][k])) pivot = i
    }
    ;[rows[k], rows[pivot]] = [rows[pivot], rows[k]]
    const scale = 1 / rows[k][k]
    if (!Number.isFinite(scale)) {
      throw new LosscapeError('ERR_RANGE', 'The sketch of the operator is singular.')
    }
    for (let j = k; j < 2 * n; j++) rows[k][j] *= scale
    for (let i = 0; i < n; i++) {
      const factor = rows[i][k]
      if (i === k || factor === 0) continue
      for (let j = k; j < 2 * n; j++) rows[i][j] -= factor * rows[k][j]
    }
  }
  const inverse = new Float64Array(n * n)
  for (let i = 0; i < n; i++) inverse.set(rows[i].subarray(n), i * n)
  return inverse
}
