import { LosscapeError, throwIfAborted } from '../errors.js'
import type { FloatVector } from '../nn/layout.js'
import { normals, rademacher } from '../random/index.js'
import { allocate, type LinearOperator, type Precision } from './operator.js'

/** Rows of n elements each, in memory of the space that made it. */
export interface VectorBlock {
  readonly count: number
  /** Rows [from, from + count) of the same memory. Disposing a part does nothing. */
  rows(from: number, count: number): VectorBlock
  dispose(): void
}

/**
 * The linear algebra of block algorithms on vectors that stay where the operator keeps them. Sums
 * run in float64. Blocks belong to the space that made them.
 */
export interface VectorSpace {
  /** n */
  readonly size: number
  readonly dtype: Precision
  /** Rows of zeros. Throws ERR_OUT_OF_MEMORY. */
  allocate(count: number): VectorBlock
  /** Row r becomes the random vector (seed, stream + r). */
  fill(x: VectorBlock, kind: 'rademacher' | 'normal', seed: number, stream: number): Promise<void>
  write(x: VectorBlock, row: number, vector: ArrayLike<number>): Promise<void>
  read(x: VectorBlock, row: number): Promise<FloatVector>
  /** Y = A X row by row; x and y have equally many rows and do not overlap. */
  apply(x: VectorBlock, y: VectorBlock): Promise<void>
  /** [x.count, y.count] dot products, row-major. */
  gram(x: VectorBlock, y: VectorBlock): Promise<Float64Array>
  /**
   * y_k = [y_k +] Σ_j c[k, j] x_j, with c row-major [y.count, x.count]; x and y do not overlap.
   */
  combine(c: ArrayLike<number>, x: VectorBlock, y: VectorBlock, add?: boolean): Promise<void>
  /** y = [y +] a ∘ b, elementwise; equally many rows. y may be a or b. */
  multiply(a: VectorBlock, b: VectorBlock, y: VectorBlock, add?: boolean): Promise<void>
}

export interface SpaceOptions {
  readonly signal?: AbortSignal
}

/** The space in which `operator` works. */
export function spaceOf(operator: LinearOperator, options: SpaceOptions = {}): VectorSpace {
  return new HostSpace(operator, options.signal)
}

class HostBlock implements VectorBlock {
  constructor(
    readonly data: FloatVector,
    readonly size: number,
  ) {}

  get count(): number {
    return this.data.length / this.size
  }

  rows(from: number, count: number): HostBlock {
    if (from < 0 || count < 0 || from + count > this.count) {
      throw new LosscapeError(
        'ERR_RANGE',
        `Rows ${from} to ${from + count} of a block with ${this.count} rows.`,
      )
    }
    return new HostBlock(
      this.data.subarray(from * this.size, (from + count) * this.size),
      this.size,
    )
  }

  row(i: number): FloatVector {
    return this.data.subarray(i * this.size, (i + 1) * this.size)
  }

  dispose(): void {}
}

/** Vectors in JavaScript memory. */
class HostSpace implements VectorSpace {
  readonly size: number
  readonly dtype: Precision

  constructor(
    private readonly operator: LinearOperator,
    private readonly signal: AbortSignal | undefined,
  ) {
    this.size = operator.size
    this.dtype = operator.dtype
  }

  allocate(count: number): HostBlock {
    return new HostBlock(allocate(this.dtype, count * this.size), this.size)
  }

  async fill(
    x: HostBlock,
    kind: 'rademacher' | 'normal',
    seed: number,
    stream: number,
  ): Promise<void> {
    const draw = kind === 'normal' ? normals : rademacher
    for (let r = 0; r < x.count; r++) draw(seed, stream + r, 0, this.size, x.row(r))
  }

  async write(x: HostBlock, row: number, vector: ArrayLike<number>): Promise<void> {
    x.row(row).set(vector)
  }

  async read(x: HostBlock, row: number): Promise<FloatVector> {
    return x.row(row).slice()
  }

  async apply(x: HostBlock, y: HostBlock): Promise<void> {
    throwIfAborted(this.signal)
    y.data.set(await this.operator.matmat(x.data, x.count, { signal: this.signal }))
  }

  async gram(x: HostBlock, y: HostBlock): Promise<Float64Array> {
    throwIfAborted(this.signal)
    const result = new Float64Array(x.count * y.count)
    for (let i = 0; i < x.count; i++) {
      for (let j = 0; j < y.count; j++) {
        const a = x.row(i)
        const b = y.row(j)
        let sum = 0
        for (let e = 0; e < this.size; e++) sum += a[e] * b[e]
        result[i * y.count + j] = sum
      }
    }
    return result
  }

  async combine(c: ArrayLike<number>, x: HostBlock, y: HostBlock, add = false): Promise<void> {
    throwIfAborted(this.signal)
    for (let k = 0; k < y.count; k++) {
      const out = y.row(k)
      for (let e = 0; e < this.size; e++) {
        let sum = add ? out[e] : 0
        for (let j = 0; j < x.count; j++) sum += c[k * x.count + j] * x.data[j * this.size + e]
        out[e] = sum
      }
    }
  }

  async multiply(a: HostBlock, b: HostBlock, y: HostBlock, add = false): Promise<void> {
    for (let e = 0; e < y.data.length; e++) {
      y.data[e] = (add ? y.data[e] : 0) + a.data[e] * b.data[e]
    }
  }
}
