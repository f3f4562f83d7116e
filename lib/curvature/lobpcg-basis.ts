import { pickRows, type Workspace } from './eigenpairs.js'

/** Of a direction, below which it says nothing that X does not. */
const NEGLIGIBLE = 1e-10

export interface RitzBasis {
  /** Of X, in the order wanted. */
  readonly values: Float64Array
  /** Rows of P, at most k. */
  readonly directions: number
  /** Coefficients of X, then P, in the basis S: row-major [k + directions, count]. */
  readonly coefficients: Float64Array
}

/**
 * The next X and P from H = S A Sᵀ and G = S Sᵀ of a basis whose first k rows are X. P is what the
 * other rows bring to X, made orthogonal to it among coefficients, so that [X, P] is orthonormal
 * without a pass over the vectors. G is the identity but for rounding, to first order
 * G^-1/2 = (3 I - G) / 2, which keeps rounding from piling up over the steps.
 *
 * Source: Hetmaniuk and Lehoucq 2006.
 */
export async function ritzBasis(
  h: Float64Array,
  g: Float64Array,
  count: number,
  options: {
    readonly k: number
    readonly which: 'smallest' | 'largest'
    readonly work: Workspace
  },
): Promise<RitzBasis> {
  const { k, which, work } = options
  const root = g.map((x, at) => ((at % (count + 1) === 0 ? 3 : 0) - x) / 2)
  const projected = multiply(multiply(root, h, count), root, count)
  const { values, vectors } = await work.eigen(projected, count)
  const order = Array.from({ length: k }, (_, i) => (which === 'smallest' ? i : count - 1 - i))
  const top = pickRows(vectors, order, count)
  const rows = order.map((_, i) => top.subarray(i * count, (i + 1) * count))
  for (let i = 0; i < k && count > k; i++) {
    const direction = rows[i].slice().fill(0, 0, k)
    const before = norm(direction)
    for (let pass = 0; pass < 2; pass++) {
      for (const row of rows) subtract(direction, row)
    }
    const left = norm(direction)
    if (left > NEGLIGIBLE && left > NEGLIGIBLE * before) rows.push(direction.map((x) => x / left))
  }
  const orthonormal = new Float64Array(rows.length * count)
  for (const [i, row] of rows.entries()) orthonormal.set(row, i * count)
  return {
    values: Float64Array.from(order, (i) => values[i]),
    directions: rows.length - k,
    coefficients: multiply(orthonormal, root, count),
  }
}

/** direction -= (rowᵀ direction) row */
function subtract(direction: Float64Array, row: Float64Array): void {
  let dot = 0
  for (let i = 0; i < row.length; i++) dot += direction[i] * row[i]
  for (let i = 0; i < row.length; i++) direction[i] -= dot * row[i]
}

function norm(v: Float64Array): number {
  return Math.sqrt(v.reduce((sum, x) => sum + x * x, 0))
}

/** a [rows, n] times b [n, n]. */
function multiply(a: Float64Array, b: Float64Array, n: number): Float64Array {
  const out = new Float64Array(a.length)
  for (let at = 0; at < a.length; at += n) {
    for (let p = 0; p < n; p++) {
      const factor = a[at + p]
      for (let j = 0; j < n; j++) out[at + j] += factor * b[p * n + j]
    }
  }
  return out
}
