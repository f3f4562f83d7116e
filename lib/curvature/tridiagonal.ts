import { requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'

/** Which rows of the eigenvector matrix S (column i belongs to value i) are computed. */
export type TridiagonalVectors = 'none' | 'ends' | 'full'

export interface TridiagonalEigen {
  /** Eigenvalues, ascending, length m. */
  values: Float64Array
  /** First row of S, s_{1,i}: its squares are the Gauss quadrature weights. Empty for `'none'`. */
  first: Float64Array
  /** Last row of S, s_{m,i}: beta_m |s_{m,i}| is the residual of Ritz pair i. Empty for `'none'`. */
  last: Float64Array
  /** With `'full'`: S transposed, row i (`vectors.subarray(i * m, (i + 1) * m)`) is vector i. */
  vectors?: Float64Array
}

/** QL sweeps granted to one eigenvalue; two or three are usual. */
const MAX_SWEEPS = 50

/**
 * Eigenvalues of the symmetric tridiagonal matrix T with diagonal `alpha` (length m) and
 * off-diagonal `beta` (entries 0..m-2 are read, so a Lanczos run may pass its m betas as they
 * are), together with the first and last rows of its eigenvector matrix or all of it.
 *
 * Implicit QL with Wilkinson's shift. Only the rows that were asked for are rotated, hence O(m²)
 * for `'ends'` (the default) and about 3m³ flops for `'full'` (Golub and Welsch 1969, with one
 * more row). Matrices whose norm is outside [1e-150, 1e150] are scaled first.
 *
 * Signs are fixed so that every `first` entry is >= 0.
 *
 * @throws LosscapeError `ERR_SHAPE` when `beta` is too short, `ERR_NOT_FINITE` for NaN or infinite
 * entries, `ERR_RANGE` when a value has not settled after 50 sweeps.
 *
 * @example
 * const { values, first } = tridiagonalEigen(Float64Array.of(2, 2), Float64Array.of(1))
 * // values = [1, 3], first² = [0.5, 0.5]
 */
export function tridiagonalEigen(
  alpha: Float64Array,
  beta: Float64Array,
  options: { vectors?: TridiagonalVectors } = {},
): TridiagonalEigen {
  requireArguments('tridiagonalEigen()', { alpha, beta })
  requireOptions('tridiagonalEigen()', options, ['vectors'])
  const m = alpha.length
  const mode = options.vectors ?? 'ends'
  if (beta.length < m - 1) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `A tridiagonal matrix with ${m} diagonal entries needs at least ${m - 1} off-diagonal entries, got ${beta.length}.`,
    )
  }
  const d = Float64Array.from(alpha)
  const e = new Float64Array(Math.max(m, 1))
  for (let i = 0; i + 1 < m; i++) e[i] = beta[i]
  const scale = normalise(d, e)

  // rows[r * m + i]: entry of vector i in the r-th carried row of S.
  const carried = mode === 'full' ? m : mode === 'ends' ? 2 : 0
  const rows = new Float64Array(carried * m)
  if (mode === 'full') for (let i = 0; i < m; i++) rows[i * m + i] = 1
  if (mode === 'ends' && m > 0) {
    rows[0] = 1
    rows[m + m - 1] = 1
  }
  implicitQl(d, e, rows, carried)

  const order = Array.from(d.keys()).sort((i, j) => d[i] - d[j])
  const values = Float64Array.from(order, (i) => d[i] * scale)
  const empty = new Float64Array(0)
  if (mode === 'none') return { values, first: empty, last: empty }
  const lastRow = carried - 1
  const signs = order.map((i) => (rows[i] < 0 ? -1 : 1))
  const pick = (row: number) => Float64Array.from(order, (i, k) => signs[k] * rows[row * m + i])
  const result: TridiagonalEigen = {
    values,
    first: m > 0 ? pick(0) : empty,
    last: m > 0 ? pick(lastRow) : empty,
  }
  if (mode === 'full') {
    const vectors = new Float64Array(m * m)
    for (let k = 0; k < m; k++) {
      for (let r = 0; r < m; r++) vectors[k * m + r] = signs[k] * rows[r * m + order[k]]
    }
    result.vectors = vectors
  }
  return result
}

/** Checks the entries and divides them by their largest magnitude when squares could overflow. */
function normalise(d: Float64Array, e: Float64Array): number {
  let norm = 0
  for (const entries of [d, e]) {
    for (const x of entries) {
      if (!Number.isFinite(x)) {
        throw new LosscapeError(
          'ERR_NOT_FINITE',
          `A tridiagonal matrix must have finite entries, got ${x}: the operator returned NaN or infinity.`,
        )
      }
      norm = Math.max(norm, Math.abs(x))
    }
  }
  if (norm === 0 || (norm >= 1e-150 && norm <= 1e150)) return 1
  // Division rather than a reciprocal: 1 / norm overflows for subnormal norms.
  for (let i = 0; i < d.length; i++) d[i] /= norm
  for (let i = 0; i < e.length; i++) e[i] /= norm
  return norm
}

/** Diagonalises in place; applies every rotation to columns (i, i+1) of the carried rows. */
function implicitQl(d: Float64Array, e: Float64Array, rows: Float64Array, carried: number): void {
  const m = d.length
  let norm = 0
  for (let i = 0; i < m; i++) norm = Math.max(norm, Math.abs(d[i]), Math.abs(e[i]))
  // Where neighbouring diagonal entries vanish (a trailing zero block) the relative test never
  // fires; eps² of the norm is far below the backward error and keeps graded matrices accurate.
  const negligible = Number.EPSILON ** 2 * norm
  for (let l = 0; l < m; l++) {
    for (let sweep = 0; ; sweep++) {
      const k = blockEnd(d, e, l, negligible)
      if (k === l) break
      if (sweep === MAX_SWEEPS) {
        throw new LosscapeError(
          'ERR_RANGE',
          `Eigenvalue ${l} of a ${m} x ${m} tridiagonal matrix did not settle in ${MAX_SWEEPS} QL sweeps.`,
        )
      }
      sweepBlock(d, e, l, k, rows, carried)
    }
  }
}

/** First index k >= l at which the off-diagonal entry is negligible. */
function blockEnd(d: Float64Array, e: Float64Array, l: number, negligible: number): number {
  let k = l
  for (; k < d.length - 1; k++) {
    const size = Math.abs(e[k])
    if (size <= negligible || size <= Number.EPSILON * (Math.abs(d[k]) + Math.abs(d[k + 1]))) break
  }
  return k
}

/** One implicit QL sweep over the unreduced block l..k. */
function sweepBlock(
  d: Float64Array,
  e: Float64Array,
  l: number,
  k: number,
  rows: Float64Array,
  carried: number,
): void {
  const m = d.length
  let g = (d[l + 1] - d[l]) / (2 * e[l])
  let r = Math.hypot(g, 1)
  g = d[k] - d[l] + e[l] / (g + (g < 0 ? -r : r))
  let s = 1
  let c = 1
  let t = 0
  for (let i = k - 1; i >= l; i--) {
    const f = s * e[i]
    const b = c * e[i]
    r = Math.hypot(f, g)
    e[i + 1] = r
    if (r === 0) {
      d[i + 1] -= t
      e[k] = 0
      return
    }
    s = f / r
    c = g / r
    g = d[i + 1] - t
    r = (d[i] - g) * s + 2 * c * b
    t = s * r
    d[i + 1] = g + t
    g = c * r - b
    for (let row = 0; row < carried; row++) {
      const at = row * m + i
      const lower = rows[at]
      const upper = rows[at + 1]
      rows[at + 1] = s * lower + c * upper
      rows[at] = c * lower - s * upper
    }
  }
  d[l] -= t
  e[l] = g
  e[k] = 0
}
