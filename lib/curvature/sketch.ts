import type { LinearOperator } from './operator.js'
import { orthonormalize } from './orthonormalize.js'
import { spaceOf, type VectorBlock, type VectorSpace } from './space.js'

export interface SketchOptions {
  readonly distribution?: 'rademacher' | 'normal'
  readonly seed?: number
  readonly signal?: AbortSignal
  /** After every few products, with their number so far. */
  readonly onProducts?: (done: number) => void
}

/** Rows of a block that share a pass over the data. */
export const ROWS = 16

/** Directions of Y below this part of its largest row are rounding of the products. */
const RANK_TOLERANCE = { f32: 1e-6, f64: 1e-10 }

/**
 * A random sketch of a square matrix: rows w_i, y_i = A w_i, an orthonormal basis Q of the y_i and
 * Z = A Q. It grows without repeating a product. Row i is stream i of the seed, so the sketch does
 * not depend on the stages in which it grew. Disposable; memory 3 n per row.
 *
 * When rows of Y depend on others (to 1e-6 in f32, 1e-10 in f64) they are left out of Q, and the
 * sketch is `complete`.
 */
export class Sketch {
  /** w_i. */
  private readonly w: VectorBlock
  private readonly q: VectorBlock
  private readonly z: VectorBlock
  /** w_iᵀ y_i. */
  readonly forms: number[] = []
  /** Column i holds the coefficients Qᵀ y_i; shorter ones end in zeros. */
  readonly columns: Float64Array[] = []
  /** Vectors in Q. */
  rank = 0
  /** Q spans the range of A (to rounding): nothing is left to estimate. */
  complete = false
  /** Bound of ||(I - Q Qᵀ) A||_F, over the rows, when complete. */
  remainder = 0
  /** Largest ||y_i|| so far. */
  private scale = 0

  constructor(
    readonly space: VectorSpace,
    readonly capacity: number,
    private readonly options: SketchOptions,
  ) {
    const blocks: VectorBlock[] = []
    try {
      for (let i = 0; i < 3; i++) blocks.push(space.allocate(capacity))
    } catch (error) {
      for (const block of blocks) block.dispose()
      throw error
    }
    ;[this.w, this.q, this.z] = blocks
  }

  static of(operator: LinearOperator, capacity: number, options: SketchOptions): Sketch {
    return new Sketch(spaceOf(operator, { signal: options.signal }), capacity, options)
  }

  /** Rows of the sketch. */
  get count(): number {
    return this.columns.length
  }

  get products(): number {
    return this.count + this.rank
  }

  get probes(): VectorBlock {
    return this.w.rows(0, this.count)
  }

  get basis(): VectorBlock {
    return this.q.rows(0, this.rank)
  }

  get images(): VectorBlock {
    return this.z.rows(0, this.rank)
  }

  /** Adds rows: at most 2 · rows products. */
  async grow(rows: number): Promise<void> {
    const { space } = this
    const from = this.count
    const w = this.w.rows(from, rows)
    const y = this.q.rows(this.rank, rows)
    await space.fill(w, this.options.distribution ?? 'rademacher', this.options.seed ?? 0, from)
    await this.apply(w, y, this.products)
    this.forms.push(...(await rowDots(space, w, y)))
    const squares = await rowDots(space, y, y)
    this.scale = Math.max(this.scale, ...squares.map(Math.sqrt))
    const { rank, r, coefficients } = await orthonormalize(space, y, [this.basis], {
      scratch: this.z.rows(this.rank, rows),
      tol: RANK_TOLERANCE[space.dtype],
      scale: this.scale,
    })
    for (let i = 0; i < rows; i++) {
      const column = new Float64Array(this.rank + rank)
      column.set(coefficients[0].subarray(i * this.rank, (i + 1) * this.rank))
      column.set(r.subarray(i * rank, (i + 1) * rank), this.rank)
      this.columns.push(column)
    }
    // Each row that was left out keeps at most the tolerance outside of Q.
    this.remainder = RANK_TOLERANCE[space.dtype] * this.scale * Math.sqrt((rows - rank) / rows)
    if (rank > 0) {
      const fresh = this.q.rows(this.rank, rank)
      await this.apply(fresh, this.z.rows(this.rank, rank), this.products)
    }
    this.rank += rank
    this.complete = rank < rows || this.rank === space.size
  }

  /** rows [x.count] of A x. */
  async apply(x: VectorBlock, y: VectorBlock, done: number): Promise<void> {
    for (let from = 0; from < x.count; from += ROWS) {
      const count = Math.min(ROWS, x.count - from)
      await this.space.apply(x.rows(from, count), y.rows(from, count))
      this.options.onProducts?.(done + from + count)
    }
  }

  /** x -= Q Qᵀ x. */
  async removeBasis(x: VectorBlock): Promise<void> {
    const { space, basis } = this
    if (basis.count === 0) return
    const inner = await space.gram(x, basis)
    await space.combine(
      inner.map((c) => -c),
      basis,
      x,
      true,
    )
  }

  dispose(): void {
    for (const block of [this.w, this.q, this.z]) block.dispose()
  }
}

/** Σ_e x_ie y_ie of every row i. */
export async function rowDots(
  space: VectorSpace,
  x: VectorBlock,
  y: VectorBlock,
): Promise<number[]> {
  const dots: Promise<Float64Array>[] = []
  for (let i = 0; i < x.count; i++) dots.push(space.gram(x.rows(i, 1), y.rows(i, 1)))
  return (await Promise.all(dots)).map(([dot]) => dot)
}
