import { LosscapeError } from '../errors.js'
import { EPSILON } from './operator.js'
import type { VectorBlock, VectorSpace } from './space.js'

export interface OrthonormalizeOptions {
  /** A row depends on others when at most this part of its norm is left. Default 100 eps. */
  readonly tol?: number
  /** Or when at most `tol` of this is left: the size of what the rows come from. Default 0. */
  readonly scale?: number
  /** Dependent rows are dropped (default), or random orthonormal ones take their place. */
  readonly dependent?: 'drop' | 'replace'
  /** Of the random rows: streams stream .. stream + 3 x.count. Default 0, 0. */
  readonly seed?: number
  readonly stream?: number
  /**
   * Rows at the end of `against` along which x lies but for rounding: the first pass takes only
   * these, and the others wait for the second. Default all.
   */
  readonly nearest?: number
  /** As many rows as x, to work in; default its own, allocated for the call. */
  readonly scratch?: VectorBlock
}

/** X before = Σ_i C_i V_i + R Q, with Q the first `rank` rows of x now. */
export interface Orthonormalization {
  readonly rank: number
  /** Orthonormal rows of x: `rank`, and the random ones of 'replace'. The rest is undefined. */
  readonly count: number
  /** R, row-major [x.count, rank]. */
  readonly r: Float64Array
  /** C_i, row-major [x.count, V_i.count]. */
  readonly coefficients: readonly Float64Array[]
  /** Norms of the rows as they came. */
  readonly norms: Float64Array
}

/** Less of a row than this cannot be taken from sums of squares in float64: it is measured anew. */
const CANCELLED = 1e-10
/** A row that keeps this part of its square in a pass needs no further one. */
const ENOUGH = 0.5
const MAX_PASSES = 8
const DRAWS = 3

/**
 * Makes the rows of x orthonormal, also to the rows of `against`, which have to be orthonormal.
 *
 *   C = X Vᵀ;  L Lᵀ = P (X Xᵀ - C Cᵀ) Pᵀ;  X ← L⁻¹ P (X - C V);      at least twice
 *
 * The Cholesky factor is pivoted; rows of which little is left after a pass are set apart, scaled
 * up and measured in the next one, so that dependent rows are told from small ones. Costs per pass,
 * of which there are two but for nearly dependent rows: two reads of V and of x.
 *
 * Sources: block classical Gram-Schmidt with a Pythagorean inner product, twice (Carson, Lund,
 * Rozložník, Thomas 2022); Cholesky QR, twice (Yamamoto et al. 2015).
 *
 * @throws ERR_NOT_FINITE when rows hold NaN or infinity
 */
export async function orthonormalize(
  space: VectorSpace,
  x: VectorBlock,
  against: readonly VectorBlock[] = [],
  options: OrthonormalizeOptions = {},
): Promise<Orthonormalization> {
  const basis = against.filter((v) => v.count > 0)
  const scratch = options.scratch ?? space.allocate(x.count)
  try {
    const result = await passes(space, x, basis, scratch, options)
    const coefficients = against.map((v) => {
      const at = basis.indexOf(v)
      return at < 0 ? new Float64Array(0) : result.coefficients[at]
    })
    let count = result.rank
    for (let draw = 0; options.dependent === 'replace' && count < x.count; draw++) {
      if (draw === DRAWS) break
      const fresh = x.rows(count, x.count - count)
      const { seed = 0, stream = 0 } = options
      const filled = space.fill(fresh, 'normal', seed, stream + draw * x.count)
      const known = count > 0 ? [...basis, x.rows(0, count)] : basis
      const [more] = await Promise.all([passes(space, fresh, known, scratch, {}), filled])
      count += more.rank
    }
    return { ...result, coefficients, count }
  } finally {
    if (!options.scratch) scratch.dispose()
  }
}

async function passes(
  space: VectorSpace,
  x: VectorBlock,
  basis: readonly VectorBlock[],
  scratch: VectorBlock,
  options: OrthonormalizeOptions,
): Promise<Omit<Orthonormalization, 'count'>> {
  const { tol = 100 * EPSILON[space.dtype], scale = 0 } = options
  const rows = x.count
  const known = basis.map((v) => ({ v, sums: new Float64Array(rows * v.count), at: 0 }))
  let norms = new Float64Array(rows)
  // x before = Σ C V + factor · rows now, [rows, count]; a row now stands for size · itself of
  // what came, and is dropped when at most `limits` of it is left.
  let factor = identity(rows)
  let sizes = new Float64Array(rows).fill(1)
  let limits = new Float64Array(rows)
  let from = x
  let to = scratch
  // Not waited for before the sums of the next pass are asked for.
  let moves: Promise<void>[] = []
  for (let pass = 0; pass < MAX_PASSES && sizes.length > 0; pass++) {
    const count = sizes.length
    const current = from.rows(0, count)
    const parts = pass === 0 ? nearestOf(known, options.nearest) : known
    const sums = await waitFor(moves, [
      space.gram(current, current),
      ...parts.map(({ v }) => space.gram(v, current)),
    ])
    const squares = sums[0]
    const overlaps = sums.slice(1)
    requireFinite(sums)
    if (pass === 0) {
      norms = Float64Array.from({ length: rows }, (_, i) => Math.sqrt(squares[i * rows + i]))
      limits = norms.map((norm) => tol * Math.max(norm, scale))
    }
    for (const [i, overlap] of overlaps.entries()) {
      addProduct(parts[i], factor, overlap, rows, count)
    }
    const cholesky = factorize(squares, overlaps, count, { sizes, limits, pass })
    const { order, lower, inverse } = cholesky
    const next = to.rows(0, order.length)
    moves = [space.combine(inverse, current, next)]
    for (const [i, { v }] of parts.entries()) {
      moves.push(space.combine(negated(inverse, overlaps[i], count), v, next, true))
    }
    factor = product(factor, lower, rows, count, order.length)
    limits = Float64Array.from(order, (i) => limits[i])
    sizes = Float64Array.from(cholesky.sizes)
    ;[from, to] = [to, from]
    if (cholesky.settled && pass > 0) break
  }
  const rank = sizes.length
  if (from === scratch && rank > 0) {
    moves.push(space.combine(identity(rank), scratch.rows(0, rank), x.rows(0, rank)))
  }
  await Promise.all(moves)
  return { rank, r: factor, coefficients: known.map(({ sums }) => sums), norms }
}

/** Rows of a basis, and the sums [rows of x, n] in whose columns `at` .. their coefficients go. */
interface Part {
  readonly v: VectorBlock
  readonly sums: Float64Array
  readonly at: number
}

/** The last rows. */
function nearestOf(parts: readonly Part[], rows = Infinity): readonly Part[] {
  let left = rows
  const taken: Part[] = []
  for (const { v, sums } of [...parts].reverse()) {
    const count = Math.min(left, v.count)
    if (count === 0) break
    taken.unshift({ v: v.rows(v.count - count, count), sums, at: v.count - count })
    left -= count
  }
  return taken
}

async function waitFor<T>(moves: Promise<void>[], sums: Promise<T>[]): Promise<T[]> {
  const [results] = await Promise.all([Promise.all(sums), ...moves])
  return results
}

interface Cholesky {
  /** Rows that stay, in the order of their pivots. */
  readonly order: readonly number[]
  /** Rows now = lower · rows next, [count, order.length]. */
  readonly lower: Float64Array
  /** Rows next = inverse · (rows now - what lies along the basis), [order.length, count]. */
  readonly inverse: Float64Array
  readonly sizes: readonly number[]
  /** Every row kept enough of itself: orthogonal to rounding. */
  readonly settled: boolean
}

/** Pivoted, of the squares less what lies along the basis; rows scaled to one. */
function factorize(
  squares: Float64Array,
  overlaps: readonly Float64Array[],
  count: number,
  state: { sizes: Float64Array; limits: Float64Array; pass: number },
): Cholesky {
  const norms = Float64Array.from({ length: count }, (_, i) => Math.sqrt(squares[i * count + i]))
  const { sizes, limits, pass } = state
  const left = Float64Array.from(squares)
  for (const overlap of overlaps) subtractSquares(left, overlap, count)
  const waiting = new Set<number>()
  for (let i = 0; i < count; i++) if (norms[i] * sizes[i] > limits[i]) waiting.add(i)
  const order: number[] = []
  const nextSizes: number[] = []
  // Column q of `lower`, by row now.
  const columns: Float64Array[] = []
  let settled = true
  const share = (i: number): number => left[i * count + i] / (norms[i] * norms[i])
  while (waiting.size > 0) {
    const pivot = [...waiting].reduce((best, i) => (share(i) > share(best) ? i : best))
    if (!(share(pivot) > CANCELLED)) break
    waiting.delete(pivot)
    const norm = Math.sqrt(left[pivot * count + pivot])
    if (norm * sizes[pivot] <= limits[pivot]) continue
    settled &&= share(pivot) >= ENOUGH
    const column = new Float64Array(count)
    for (const i of [pivot, ...waiting]) column[i] = left[i * count + pivot] / norm
    for (const i of waiting) {
      for (const j of waiting) left[i * count + j] -= column[i] * column[j]
    }
    order.push(pivot)
    nextSizes.push(sizes[pivot] * norm)
    columns.push(column)
  }
  // What is left of these is not known, but how much it may be; the last pass has no next one.
  for (const i of pass + 1 < MAX_PASSES ? waiting : []) {
    const norm = norms[i] * Math.sqrt(Math.max(share(i), CANCELLED ** 2))
    const column = new Float64Array(count)
    column[i] = norm
    order.push(i)
    nextSizes.push(sizes[i] * norm)
    columns.push(column)
    settled = false
  }
  const kept = order.length
  const lower = new Float64Array(count * kept)
  for (const [q, column] of columns.entries()) {
    for (let i = 0; i < count; i++) lower[i * kept + q] = column[i]
  }
  return { order, lower, inverse: invert(lower, order, count), sizes: nextSizes, settled }
}

/** L⁻¹ P for the rows of `lower` in `order`, where it is triangular: [order.length, count]. */
function invert(lower: Float64Array, order: readonly number[], count: number): Float64Array {
  const kept = order.length
  const inverse = new Float64Array(kept * count)
  for (let q = 0; q < kept; q++) {
    const row = order[q]
    inverse[q * count + row] = 1
    for (let p = 0; p < q; p++) {
      const factor = lower[row * kept + p]
      if (factor === 0) continue
      for (let i = 0; i < count; i++) inverse[q * count + i] -= factor * inverse[p * count + i]
    }
    for (let i = 0; i < count; i++) inverse[q * count + i] /= lower[row * kept + q]
  }
  return inverse
}

function identity(n: number): Float64Array {
  const matrix = new Float64Array(n * n)
  for (let i = 0; i < n; i++) matrix[i * n + i] = 1
  return matrix
}

/** a [m, k] times b [k, n]. */
function product(a: Float64Array, b: Float64Array, m: number, k: number, n: number): Float64Array {
  const out = new Float64Array(m * n)
  for (let i = 0; i < m; i++) {
    for (let p = 0; p < k; p++) {
      const factor = a[i * k + p]
      if (factor === 0) continue
      for (let j = 0; j < n; j++) out[i * n + j] += factor * b[p * n + j]
    }
  }
  return out
}

/** sums[:, at ..] += factor [rows, count] · overlapᵀ, with overlap [n, count]. */
function addProduct(
  { sums, at }: Omit<Part, 'v'>,
  factor: Float64Array,
  overlap: Float64Array,
  rows: number,
  count: number,
): void {
  const width = sums.length / rows
  const n = overlap.length / count
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0
      for (let p = 0; p < count; p++) sum += factor[i * count + p] * overlap[j * count + p]
      sums[i * width + at + j] += sum
    }
  }
}

/** - inverse [kept, count] · overlapᵀ, with overlap [n, count]: [kept, n]. */
function negated(inverse: Float64Array, overlap: Float64Array, count: number): Float64Array {
  const kept = inverse.length / count
  const sums = new Float64Array((kept * overlap.length) / count)
  const negative = inverse.map((x) => -x)
  addProduct({ sums, at: 0 }, negative, overlap, kept, count)
  return sums
}

/** left [count, count] -= overlapᵀ overlap, with overlap [n, count]. */
function subtractSquares(left: Float64Array, overlap: Float64Array, count: number): void {
  for (let e = 0; e < overlap.length; e += count) {
    for (let i = 0; i < count; i++) {
      const factor = overlap[e + i]
      for (let j = 0; j < count; j++) left[i * count + j] -= factor * overlap[e + j]
    }
  }
}

function requireFinite(sums: readonly Float64Array[]): void {
  for (const sum of sums) {
    for (const value of sum) {
      if (Number.isFinite(value)) continue
      throw new LosscapeError('ERR_NOT_FINITE', 'Vectors to orthonormalise hold NaN or infinity.')
    }
  }
}
