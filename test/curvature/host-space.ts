import { allocate, type LinearOperator, type Precision } from '../../lib/curvature/operator.js'
import type { VectorBlock, VectorSpace } from '../../lib/curvature/space.js'
import { LosscapeError, throwIfAborted } from '../../lib/errors.js'
import type { FloatVector } from '../../lib/nn/layout.js'
import { normals, rademacher } from '../../lib/random/index.js'

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

/** Plain loops over vectors in JavaScript memory: what spaces on devices are compared with. */
export class HostSpace implements VectorSpace {
  readonly size: number
  readonly dtype: Precision

  constructor(
    private readonly operator: LinearOperator,
    private readonly signal?: AbortSignal,
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

  async hypot(x: HostBlock, y: HostBlock): Promise<void> {
    for (let e = 0; e < y.data.length; e++) {
      const column = Array.from({ length: x.count }, (_, j) => x.row(j)[e])
      y.data[e] = Math.hypot(y.data[e], ...column)
    }
  }
}
