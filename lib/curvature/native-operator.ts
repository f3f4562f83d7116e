import type { Device } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import { LosscapeError } from '../errors.js'
import type { NativeBuffer, NativeOperator } from '../native.js'
import type { FloatVector, ParameterLayout } from '../nn/layout.js'
import { requireOptions } from '../options.js'
import type { OperatorDescription } from './description.js'
import {
  allocate,
  type NativeLinearOperator,
  type Precision,
  type ProductOptions,
  registerNative,
  requireVectors,
} from './operator.js'
import { applyNative } from './tangents.js'

/** A pair of device vectors for products from JavaScript. */
interface Workspace {
  readonly count: number
  readonly input: NativeBuffer
  readonly output: NativeBuffer
}

/** Vectors go to device storage, through the native product, and back. Disposable. */
export class DeviceOperator implements NativeLinearOperator {
  readonly size: number
  private idle: Workspace | null = null
  private disposed = false

  constructor(
    readonly device: Device,
    readonly native: NativeOperator,
    readonly layout: ParameterLayout,
    readonly dtype: Precision,
    private readonly release: () => void = () => {},
    /** What it is, when it comes from a network. */
    readonly description?: OperatorDescription,
  ) {
    this.size = layout.size
    registerNative(this)
  }

  /** Bytes that the operator keeps for its data set between products. */
  get keptBytes(): number {
    return this.native.keptBytes
  }

  matvec(v: ArrayLike<number>, options: ProductOptions = {}): Promise<FloatVector> {
    return this.matmat(v, 1, options)
  }

  async matmat(
    vs: ArrayLike<number>,
    count: number,
    options: ProductOptions = {},
  ): Promise<FloatVector> {
    if (this.disposed) throw new LosscapeError('ERR_DISPOSED', 'The operator has been disposed.')
    requireVectors(vs, this.size, count, this.dtype)
    requireOptions('A product', options, ['signal', 'onProgress'])
    const { storage } = this.layout
    const staged = allocate(this.dtype, storage * count)
    for (let r = 0; r < count; r++) {
      this.layout.toStorage(
        slice(vs, r * this.size, this.size),
        staged.subarray(r * storage, (r + 1) * storage),
      )
    }
    const work = this.workspace(count)
    try {
      await withSignal(this.device.binding, options.signal, async (token, guard) => {
        const { input, output } = work
        const written = input.write(0, staged, { token })
        const applied = applyNative(
          this.native,
          { buffer: input, offset: 0 },
          { buffer: output, offset: 0 },
          count,
          { token, onProgress: guard(options.onProgress) },
        )
        const read = output.read(0, staged, { token })
        // Queued together: the executor goes from one to the next without waiting for JavaScript.
        await Promise.all([written, applied, read])
      })
    } finally {
      this.giveBack(work)
    }
    const result = allocate(this.dtype, this.size * count)
    for (let r = 0; r < count; r++) {
      this.layout.fromStorage(
        staged.subarray(r * storage, (r + 1) * storage),
        result.subarray(r * this.size, (r + 1) * this.size),
      )
    }
    return result
  }

  dispose(): void {
    if (this.disposed) return
    this.disposed = true
    this.idle?.input.dispose()
    this.idle?.output.dispose()
    this.idle = null
    this.native.dispose()
    this.release()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose()
  }

  private workspace(count: number): Workspace {
    const reusable = this.idle
    if (reusable && reusable.count >= count) {
      this.idle = null
      return reusable
    }
    const bytes = count * this.layout.storage * (this.dtype === 'f64' ? 8 : 4)
    const { binding } = this.device
    return { count, input: binding.createBuffer(bytes), output: binding.createBuffer(bytes) }
  }

  private giveBack(work: Workspace): void {
    const smaller = this.disposed || (this.idle !== null && this.idle.count >= work.count)
    const drop = smaller ? work : this.idle
    if (!smaller) this.idle = work
    drop?.input.dispose()
    drop?.output.dispose()
  }
}

function slice(vs: ArrayLike<number>, from: number, length: number): ArrayLike<number> {
  if (from === 0 && vs.length === length) return vs
  if (vs instanceof Float32Array || vs instanceof Float64Array) {
    return vs.subarray(from, from + length)
  }
  return Array.prototype.slice.call(vs, from, from + length)
}
