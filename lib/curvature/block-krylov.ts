import { LosscapeError } from '../errors.js'
import type { FloatVector } from '../nn/layout.js'
import { EPSILON } from './operator.js'
import { orthonormalize } from './orthonormalize.js'
import type { VectorBlock, VectorSpace } from './space.js'

/** A block Krylov space up to some product, without its basis. */
export interface BlockState {
  /** Rows of the basis whose products are known: the size of T. */
  readonly products: number
  /** Rows of each block so far; the last one waits for its products. */
  readonly blocks: readonly number[]
  /** V A Vᵀ, row-major [products, products], block tridiagonal. */
  readonly matrix: Float64Array
  /** What couples the last two blocks, [rows of the one, rows of the other]. */
  readonly coupling: Float64Array
  /** Numbers of blocks done when rows were dependent and random ones took their place. */
  readonly restarts: readonly number[]
  /** Blocks done when the space had been invariant first, or -1. */
  readonly invariantSubspaceAt: number
  /** Largest difference of a coupling taken from its two sides. */
  readonly asymmetry: number
  /** Largest part of a product along blocks that are not its neighbours. */
  readonly noise: number
  /** Largest norm of a product. */
  readonly largest: number
}

export interface BlockKrylovOptions {
  /** Rows of a block. */
  readonly block: number
  /** Rows of the basis for which memory is taken at once, where that is little. */
  readonly maxRows: number
  readonly seed: number
  /** Largest piece of memory. Default 64 MiB, or a block where that is more. */
  readonly pieceBytes?: number
}
/** Streams of rows that take the place of dependent ones, apart from those of the start. */
const FRESH = 2 ** 40

/** Basis rows, in pieces of memory that never move. */
class Basis {
  private readonly pieces: { block: VectorBlock; used: number }[] = []

  constructor(
    private readonly space: VectorSpace,
    private readonly rows: number,
    private readonly pieceBytes: number,
  ) {}

  /** Room for `count` more rows in one piece. */
  reserve(count: number): VectorBlock {
    const last = this.pieces.at(-1)
    if (last && last.used + count <= last.block.count) return last.block.rows(last.used, count)
    const bytes = this.space.size * (this.space.dtype === 'f64' ? 8 : 4)
    const affordable = Math.floor(this.pieceBytes / bytes)
    const block = this.space.allocate(Math.max(count, Math.min(this.rows, affordable)))
    this.pieces.push({ block, used: 0 })
    return block.rows(0, count)
  }

  /** The first `count` rows of what was reserved last belong to the basis. */
  adopt(count: number): void {
    const last = this.pieces.at(-1)
    if (last) last.used += count
  }

  parts(): VectorBlock[] {
    return this.pieces.map(({ block, used }) => block.rows(0, used))
  }

  dispose(): void {
    for (const { block } of this.pieces) block.dispose()
  }
}

/**
 * Block Lanczos with full reorthogonalisation, block by block:
 *
 *   W = A V_j;   W = Σ_i C_i V_i + R V_{j+1};   T_jj = C_j;   T_{j,j+1} = R
 *
 * First against the two blocks before, along which the rest of W lies but for rounding, then against
 * all: as orthogonal as two passes against all, for half of the reads.
 *
 * Rows of W that depend on the others are replaced by random ones, to which nothing couples.
 */
export class BlockKrylov {
  /** See {@link BlockState}. */
  restarts: readonly number[] = []
  private readonly basis: Basis
  private readonly scratch: VectorBlock
  private readonly block: number
  private pending: VectorBlock
  private blocks: number[] = []
  /** T, [capacity, capacity]. */
  private matrix: Float64Array
  private capacity: number
  private done = 0
  private coupling = new Float64Array(0)
  private invariantSubspaceAt = -1
  private asymmetry = 0
  private noise = 0
  private largest = 0

  constructor(
    private readonly space: VectorSpace,
    private readonly options: BlockKrylovOptions,
  ) {
    this.block = Math.min(options.block, space.size)
    const { maxRows, pieceBytes = 64 * 2 ** 20 } = options
    this.basis = new Basis(space, maxRows + this.block, pieceBytes)
    this.capacity = options.maxRows
    this.matrix = new Float64Array(this.capacity ** 2)
    this.scratch = space.allocate(this.block)
    this.pending = this.scratch.rows(0, 0)
  }

  get state(): BlockState {
    const { products, blocks, coupling, restarts, asymmetry, noise, largest } = this
    const { invariantSubspaceAt } = this
    const matrix = this.projected()
    const rest = { restarts, invariantSubspaceAt, asymmetry, noise, largest }
    return { products, blocks: [...blocks], matrix, coupling, ...rest }
  }

  /** Rows of the last block whose products are known. */
  get lastBlock(): number {
    return this.blocks[this.blocksDone - 1] ?? 0
  }

  /** Blocks whose products are known. */
  get blocksDone(): number {
    return this.blocks.length - (this.waiting > 0 ? 1 : 0)
  }

  /** Rows of the basis whose products are known. */
  get products(): number {
    return this.done
  }

  /** Rows whose products come next; 0 when no further vector exists. */
  get waiting(): number {
    return this.pending.count
  }

  async start(): Promise<void> {
    const { seed } = this.options
    const first = this.basis.reserve(this.block)
    const filled = this.space.fill(first, 'normal', seed, 0)
    const made = orthonormalize(this.space, first, [], { scratch: this.scratch })
    const [{ rank }] = await Promise.all([made, filled])
    this.adopt(first, rank)
  }

  /** Goes on where `state` was taken: the same bits as without the pause. */
  async resume(state: BlockState, vectors: readonly FloatVector[]): Promise<void> {
    let row = 0
    for (const rows of state.blocks) {
      const block = this.basis.reserve(this.block)
      for (let i = 0; i < rows; i++) await this.space.write(block, i, vectors[row++])
      this.adopt(block, rows)
    }
    this.done = state.products
    // The last block of an exhausted space has its products.
    if (row === state.products) this.pending = this.pending.rows(0, 0)
    this.reserveMatrix(state.products)
    for (let i = 0; i < state.products; i++) {
      const line = state.matrix.subarray(i * state.products, (i + 1) * state.products)
      this.matrix.set(line, i * this.capacity)
    }
    this.coupling = Float64Array.from(state.coupling)
    this.restarts = state.restarts
    this.invariantSubspaceAt = state.invariantSubspaceAt
    this.asymmetry = state.asymmetry
    this.noise = state.noise
    this.largest = state.largest
  }

  /** ||A v - what T says of it|| / ||A|| for the first vector: large for another operator. */
  async mismatch(): Promise<number> {
    const { space, products, blocks, coupling } = this
    if (products === 0) return 0
    const [first, second = 0] = blocks
    const image = this.scratch.rows(0, 1)
    const coefficients = new Float64Array(first + second)
    for (let j = 0; j < first + second; j++) {
      coefficients[j] = j < products ? -this.matrix[j] : -coupling[j - products]
    }
    const parts = this.basis.parts()
    const jobs: Promise<void>[] = [space.apply(parts[0].rows(0, 1), image)]
    const whole = space.gram(image, image)
    for (let at = 0, i = 0; at < first + second; at += parts[i++].count) {
      const rows = Math.min(parts[i].count, first + second - at)
      const some = coefficients.subarray(at, at + rows)
      jobs.push(space.combine(some, parts[i].rows(0, rows), image, true))
    }
    const rest = space.gram(image, image)
    const [[square], [error]] = await Promise.all([whole, rest, ...jobs])
    const norm = Math.max(Math.sqrt(square), this.largest)
    return error === 0 ? 0 : Math.sqrt(error) / norm
  }

  /** The products of the waiting block. Nothing changes when it throws. */
  async step(): Promise<void> {
    const { space, scratch, pending, products } = this
    const count = pending.count
    const next = this.basis.reserve(this.block).rows(0, count)
    const done = products + count
    const known = this.basis.parts()
    const applied = space.apply(pending, next)
    const made = orthonormalize(space, next, known, {
      tol: 10 * EPSILON[space.dtype] * Math.sqrt(done + 1),
      // A bulk may lie this far below the outliers and is no rounding.
      scale: this.largest / 100,
      dependent: 'replace',
      nearest: this.block + count,
      seed: this.options.seed,
      stream: FRESH + 4 * done,
      scratch,
    })
    const [, result] = await Promise.all([applied, made]).catch((error) => {
      throw productError(error, this.blocks.length)
    })
    const c = known.length === 1 ? result.coefficients[0] : sideBySide(result.coefficients, count)
    this.extend(c, count)
    // Rounding may seem to leave a direction where all are taken.
    const room = space.size - done
    const rank = Math.min(result.rank, room)
    const rows = Math.min(result.count, room)
    this.coupling = new Float64Array(count * rows)
    for (let i = 0; i < count; i++) {
      this.coupling.set(result.r.subarray(i * result.rank, i * result.rank + rank), i * rows)
    }
    this.done = done
    if (rank < count) {
      if (rank === 0 && this.invariantSubspaceAt < 0) this.invariantSubspaceAt = this.blocks.length
      if (rows > rank) this.restarts = [...this.restarts, this.blocks.length]
    }
    for (const norm of result.norms) this.largest = Math.max(this.largest, norm)
    this.adopt(next, rows)
  }

  /** T, [products, products]. */
  projected(): Float64Array {
    const { products: size, capacity, matrix } = this
    const out = new Float64Array(size * size)
    for (let i = 0; i < size; i++) {
      out.set(matrix.subarray(i * capacity, i * capacity + size), i * size)
    }
    return out
  }

  /** ||Rᵀ s|| for the part of an eigenvector of T along the last block. */
  residual(vector: Float64Array): number {
    const rows = this.pending.count
    const count = rows === 0 ? 0 : this.coupling.length / rows
    let square = 0
    for (let q = 0; q < rows; q++) {
      let sum = 0
      for (let i = 0; i < count; i++) {
        sum += this.coupling[i * rows + q] * vector[this.products - count + i]
      }
      square += sum * sum
    }
    return Math.sqrt(square)
  }

  /** Basis rows `from` .. to the end, those that wait included. */
  async read(from: number): Promise<FloatVector[]> {
    const rows: Promise<FloatVector>[] = []
    let at = 0
    for (const part of this.basis.parts()) {
      for (let r = Math.max(0, from - at); r < part.count; r++) rows.push(this.space.read(part, r))
      at += part.count
    }
    return Promise.all(rows)
  }

  /** Σ_j c[k, j] V_j over the rows whose products are known; c row-major [count, products]. */
  async combine(c: Float64Array, count: number): Promise<FloatVector[]> {
    const { products, space } = this
    const out = space.allocate(count)
    try {
      const moves: Promise<void>[] = []
      let at = 0
      for (const part of this.basis.parts()) {
        const rows = Math.min(part.count, products - at)
        const factors = new Float64Array(count * rows)
        for (let k = 0; k < count; k++) {
          factors.set(c.subarray(k * products + at, k * products + at + rows), k * rows)
        }
        moves.push(space.combine(factors, part.rows(0, rows), out, at > 0))
        at += rows
      }
      await Promise.all(moves)
      return await Promise.all(Array.from({ length: count }, (_, k) => space.read(out, k)))
    } finally {
      out.dispose()
    }
  }

  dispose(): void {
    this.basis.dispose()
    this.scratch.dispose()
  }

  private adopt(block: VectorBlock, rows: number): void {
    this.basis.adopt(rows)
    this.pending = block.rows(0, rows)
    if (rows > 0) this.blocks.push(rows)
  }

  /** Puts the products of the last `count` rows, c [count, products + count], into T. */
  private extend(c: Float64Array, count: number): void {
    const { products: at } = this
    const width = at + count
    this.reserveMatrix(width)
    const { matrix, capacity, coupling } = this
    const before = count === 0 ? 0 : coupling.length / count
    for (let i = 0; i < count; i++) {
      for (let j = 0; j < at - before; j++) {
        this.noise = Math.max(this.noise, Math.abs(c[i * width + j]))
      }
      for (let j = 0; j < before; j++) {
        const known = coupling[j * count + i]
        const difference = c[i * width + at - before + j] - known
        this.asymmetry = Math.max(this.asymmetry, Math.abs(difference))
        matrix[(at + i) * capacity + at - before + j] = known
        matrix[(at - before + j) * capacity + at + i] = known
      }
      for (let j = 0; j < count; j++) {
        const mean = (c[i * width + at + j] + c[j * width + at + i]) / 2
        matrix[(at + i) * capacity + at + j] = mean
      }
    }
  }

  private reserveMatrix(size: number): void {
    if (size <= this.capacity) return
    const old = this.matrix
    const from = this.capacity
    this.capacity = Math.max(size, 2 * from)
    this.matrix = new Float64Array(this.capacity ** 2)
    for (let i = 0; i < from; i++) {
      this.matrix.set(old.subarray(i * from, (i + 1) * from), i * this.capacity)
    }
  }
}

/** Matrices of `count` rows as one. */
function sideBySide(parts: readonly Float64Array[], count: number): Float64Array {
  const width = parts.reduce((sum, part) => sum + part.length / count, 0)
  const out = new Float64Array(count * width)
  let at = 0
  for (const part of parts) {
    const columns = part.length / count
    for (let i = 0; i < count; i++) {
      out.set(part.subarray(i * columns, (i + 1) * columns), i * width + at)
    }
    at += columns
  }
  return out
}

function productError(error: unknown, block: number): unknown {
  if (!(error instanceof LosscapeError) || error.code !== 'ERR_NOT_FINITE') return error
  return new LosscapeError(
    'ERR_NOT_FINITE',
    `A product of block ${block} holds NaN or infinity. Check the parameters and the data.`,
    { cause: error },
  )
}
