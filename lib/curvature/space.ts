import { orAborted } from '../callbacks.js'
import { defaultBinding } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import { LosscapeError } from '../errors.js'
import type { NativeBinding, NativeBuffer, NativeToken, NativeView } from '../native.js'
import type { FloatVector, ParameterLayout } from '../nn/layout.js'
import {
  allocate,
  isNative,
  type LinearOperator,
  type Precision,
  requireVectors,
  vectorLayout,
} from './operator.js'
import { applyNative } from './tangents.js'

/** Rows of n elements each, in memory of the space that made it. */
export interface VectorBlock {
  readonly count: number
  /** Rows [from, from + count) of the same memory. Disposing a part does nothing. */
  rows(from: number, count: number): VectorBlock
  dispose(): void
}

/**
 * The linear algebra of block algorithms on vectors that stay where the operator keeps them. Sums
 * run in float64, in an order that does not depend on the threads. Blocks belong to the space that
 * made them.
 *
 * Calls take effect in the order in which they are made, whether or not their promises are awaited
 * one by one: making several and awaiting them together saves the way through JavaScript between.
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
  /** Also after the signal has fired, so that what there is can be saved. */
  read(x: VectorBlock, row: number): Promise<FloatVector>
  /** Y = A X row by row; x and y have equally many rows and do not overlap. */
  apply(x: VectorBlock, y: VectorBlock): Promise<void>
  /** [x.count, y.count] dot products, row-major. The longer block belongs in front. */
  gram(x: VectorBlock, y: VectorBlock): Promise<Float64Array>
  /**
   * y_k = [y_k +] Σ_j c[k, j] x_j, with c row-major [y.count, x.count]; x and y do not overlap.
   */
  combine(c: ArrayLike<number>, x: VectorBlock, y: VectorBlock, add?: boolean): Promise<void>
  /** y = [y +] a ∘ b, elementwise; equally many rows. y may be a or b. */
  multiply(a: VectorBlock, b: VectorBlock, y: VectorBlock, add?: boolean): Promise<void>
  /** y = √(y² + Σ_j x_j²), elementwise over the rows of x; over the whole range of the precision. */
  hypot(x: VectorBlock, y: VectorBlock): Promise<void>
}

export interface SpaceOptions {
  readonly signal?: AbortSignal
}

/**
 * The space in which `operator` works: vectors lie in device storage, and a product of a native
 * operator never leaves it. For a user's operator the vectors of a product are copied out and back,
 * which is small beside what the native sums save.
 */
export function spaceOf(operator: LinearOperator, options: SpaceOptions = {}): VectorSpace {
  return new DeviceSpace(operator, options.signal)
}

class DeviceBlock implements VectorBlock {
  constructor(
    readonly buffer: NativeBuffer,
    /** Bytes. */
    readonly offset: number,
    readonly count: number,
    readonly rowBytes: number,
    private readonly owner: boolean,
  ) {}

  get view(): NativeView {
    return { buffer: this.buffer, offset: this.offset }
  }

  rows(from: number, count: number): DeviceBlock {
    if (from < 0 || count < 0 || from + count > this.count) {
      throw new LosscapeError(
        'ERR_RANGE',
        `Rows ${from} to ${from + count} of a block with ${this.count} rows.`,
      )
    }
    return new DeviceBlock(
      this.buffer,
      this.offset + from * this.rowBytes,
      count,
      this.rowBytes,
      false,
    )
  }

  dispose(): void {
    if (this.owner) this.buffer.dispose()
  }
}

/** Vectors in device storage, padding zero. */
class DeviceSpace implements VectorSpace {
  readonly size: number
  readonly dtype: Precision
  private readonly binding: NativeBinding
  private readonly layout: ParameterLayout
  private readonly rowBytes: number
  /** Calls before this one, where products come from JavaScript. */
  private last: Promise<unknown> = Promise.resolve()

  constructor(
    private readonly operator: LinearOperator,
    private readonly signal: AbortSignal | undefined,
  ) {
    this.size = operator.size
    this.dtype = operator.dtype
    this.binding = isNative(operator) ? operator.device.binding : defaultBinding()
    this.layout = isNative(operator) ? operator.layout : vectorLayout(operator.size)
    this.rowBytes = this.layout.storage * (this.dtype === 'f64' ? 8 : 4)
  }

  allocate(count: number): DeviceBlock {
    const buffer = this.binding.createBuffer(Math.max(1, count) * this.rowBytes)
    return new DeviceBlock(buffer, 0, count, this.rowBytes, true)
  }

  fill(x: DeviceBlock, kind: 'rademacher' | 'normal', seed: number, stream: number): Promise<void> {
    const segments = this.layout.segments()
    return this.submit(async (token) => {
      const rows = Array.from({ length: x.count }, (_, r) => {
        const { view } = x.rows(r, 1)
        return this.binding.fillProbe(view, this.dtype, segments, kind, seed, stream + r, { token })
      })
      await Promise.all(rows)
    })
  }

  async write(x: DeviceBlock, row: number, vector: ArrayLike<number>): Promise<void> {
    requireVectors(vector, this.size, 1, this.dtype)
    const stored = this.layout.toStorage(vector, allocate(this.dtype, this.layout.storage))
    const { buffer, offset } = x.rows(row, 1)
    await this.submit((token) => buffer.write(offset, stored, { token }))
  }

  async read(x: DeviceBlock, row: number): Promise<FloatVector> {
    const stored = allocate(this.dtype, this.layout.storage)
    const { buffer, offset } = x.rows(row, 1)
    await this.submit((token) => buffer.read(offset, stored, { token }), null)
    return this.layout.fromStorage(stored, allocate(this.dtype, this.size))
  }

  async apply(x: DeviceBlock, y: DeviceBlock): Promise<void> {
    if (x.count === 0) return
    const { operator } = this
    await this.submit((token) =>
      isNative(operator)
        ? applyNative(operator.native, x.view, y.view, x.count, { token })
        : this.applyInJavaScript(x, y, token),
    )
  }

  async gram(x: DeviceBlock, y: DeviceBlock): Promise<Float64Array> {
    const { storage } = this.layout
    return this.submit((token) =>
      this.binding.gram(x.view, x.count, y.view, y.count, storage, this.dtype, { token }),
    )
  }

  async combine(c: ArrayLike<number>, x: DeviceBlock, y: DeviceBlock, add = false): Promise<void> {
    const factors = c instanceof Float64Array ? c : Float64Array.from(c)
    const { storage } = this.layout
    await this.submit((token) =>
      this.binding.combineVectors(
        factors,
        ...([x.view, x.count, y.view, y.count, storage, this.dtype, add] as const),
        { token },
      ),
    )
  }

  async multiply(a: DeviceBlock, b: DeviceBlock, y: DeviceBlock, add = false): Promise<void> {
    const elements = y.count * this.layout.storage
    await this.submit((token) =>
      this.binding.multiplyVectors(a.view, b.view, y.view, elements, this.dtype, add, { token }),
    )
  }

  async hypot(x: DeviceBlock, y: DeviceBlock): Promise<void> {
    const { storage } = this.layout
    await this.submit((token) =>
      this.binding.hypotVectors(x.view, x.count, y.view, storage, this.dtype, { token }),
    )
  }

  /** The executor keeps the order of native jobs; products in JavaScript wait for those before. */
  private submit<T>(
    job: (token: NativeToken) => Promise<T>,
    signal: AbortSignal | undefined | null = this.signal,
  ): Promise<T> {
    const run = (): Promise<T> => withSignal(this.binding, signal ?? undefined, job)
    if (isNative(this.operator)) return run()
    const result = this.last.then(run, run)
    this.last = result.catch(() => {})
    return result
  }

  private async applyInJavaScript(
    x: DeviceBlock,
    y: DeviceBlock,
    token: NativeToken,
  ): Promise<void> {
    const { layout, operator, size, dtype } = this
    const { storage } = layout
    const stored = allocate(dtype, x.count * storage)
    await x.buffer.read(x.offset, stored, { token })
    const vectors = allocate(dtype, x.count * size)
    for (let r = 0; r < x.count; r++) {
      layout.fromStorage(
        stored.subarray(r * storage, (r + 1) * storage),
        vectors.subarray(r * size, (r + 1) * size),
      )
    }
    const product = operator.matmat(vectors, x.count, { signal: this.signal })
    const products = await orAborted(product, this.signal)
    if (products.length !== vectors.length) {
      throw new LosscapeError(
        'ERR_OPERATOR',
        `The operator returned ${products.length} elements for ${x.count} vectors of n = ${size}.`,
      )
    }
    for (let r = 0; r < x.count; r++) {
      layout.toStorage(
        products.subarray(r * size, (r + 1) * size),
        stored.subarray(r * storage, (r + 1) * storage),
      )
    }
    await y.buffer.write(y.offset, stored, { token })
  }
}
