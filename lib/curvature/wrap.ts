import { describe, isVector } from '../arguments.js'
import { orAborted, withProgress } from '../callbacks.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import type { WrapperSpec } from '../native.js'
import type { FloatVector } from '../nn/layout.js'
import { DeviceOperator } from './native-operator.js'
import {
  allocate,
  isNative,
  type LinearOperator,
  type NativeLinearOperator,
  type Precision,
  type ProductOptions,
  requireVectors,
} from './operator.js'
import { prepareWrapped } from './tangents.js'

/** An operator made from others. Disposing it leaves those alone. */
export interface WrappedOperator extends LinearOperator {
  dispose(): void
  [Symbol.dispose](): void
}

/** A applied to `count` vectors in JavaScript memory; `vs` must not be changed. */
export type BlockProduct = (
  vs: FloatVector,
  count: number,
  options: ProductOptions,
) => Promise<FloatVector>

/** A wrapper of operators whose products run in JavaScript. */
export class HostOperator implements WrappedOperator {
  readonly adjoint?: LinearOperator['adjoint']
  private disposed = false

  constructor(
    readonly size: number,
    readonly dtype: Precision,
    private readonly product: BlockProduct,
    adjoint?: BlockProduct,
  ) {
    if (adjoint) this.adjoint = (v, options) => this.run(adjoint, v, 1, options)
  }

  matvec(v: ArrayLike<number>, options?: ProductOptions): Promise<FloatVector> {
    return this.run(this.product, v, 1, options)
  }

  matmat(vs: ArrayLike<number>, count: number, options?: ProductOptions): Promise<FloatVector> {
    return this.run(this.product, vs, count, options)
  }

  dispose(): void {
    this.disposed = true
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  private async run(
    product: BlockProduct,
    vs: ArrayLike<number>,
    count: number,
    options: ProductOptions = {},
  ): Promise<FloatVector> {
    if (this.disposed) throw new LosscapeError('ERR_DISPOSED', 'The operator has been disposed.')
    requireVectors(vs, this.size, count, this.dtype)
    throwIfAborted(options.signal)
    const argument = allocate(this.dtype, this.size * count)
    argument.set(vs)
    return withProgress(options, (watched) =>
      orAborted(product(argument, count, watched), watched.signal),
    )
  }
}

/** Aᵀ on a block, where A is not symmetric. */
export function adjointOf(operator: LinearOperator): BlockProduct | undefined {
  const { adjoint, size, dtype } = operator
  if (!adjoint) return undefined
  return async (vs, count, options) => {
    const out = allocate(dtype, vs.length)
    for (let at = 0; at < size * count; at += size) {
      const v = vs.subarray(at, at + size)
      out.set(await adjoint.call(operator, v, { signal: options.signal }), at)
      options.onProgress?.(at / size + 1, count)
    }
    return out
  }
}

/** The operators, if one native operator can be made of them: same device, precision, storage. */
export function allNative(
  operators: readonly LinearOperator[],
): readonly NativeLinearOperator[] | null {
  if (!operators.every(isNative)) return null
  const [first] = operators
  const fits = operators.every(
    ({ device, dtype, layout }) =>
      device.binding === first.device.binding &&
      dtype === first.dtype &&
      layout.entries.length === first.layout.entries.length &&
      layout.entries.every(
        ({ size, storageOffset }, i) =>
          size === first.layout.entries[i].size &&
          storageOffset === first.layout.entries[i].storageOffset,
      ),
  )
  return fits ? operators : null
}

/** Native operator with the device and the layout of `like`. */
export function wrapNative(like: NativeLinearOperator, spec: WrapperSpec): DeviceOperator {
  const { device, layout, dtype } = like
  const native = device.binding.createWrappedOperator(spec)
  prepareWrapped(native, spec)
  return new DeviceOperator(device, native, layout, dtype)
}

/** A vector in device storage, whose padding holds `padding`. */
export function stored(
  { layout }: NativeLinearOperator,
  vector: Float64Array,
  padding = 0,
): Float64Array {
  return layout.toStorage(vector, new Float64Array(layout.storage).fill(padding))
}

/** A finite vector of n elements, copied. Throws ERR_ARGUMENT, ERR_SHAPE, ERR_NOT_FINITE. */
export function numbers(name: string, values: ArrayLike<number>, size: number): Float64Array {
  if (!isVector(values)) {
    throw new LosscapeError('ERR_ARGUMENT', `${name} must be numbers, got ${describe(values)}.`)
  }
  if (values.length !== size) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `${name} needs n = ${size} elements, got ${values.length}.`,
    )
  }
  const out = new Float64Array(size)
  for (let i = 0; i < size; i++) {
    const value: unknown = values[i]
    if (typeof value !== 'boolean' && !Number.isFinite(value)) {
      throw new LosscapeError('ERR_NOT_FINITE', `${name} has ${describe(value)} at element ${i}.`)
    }
    out[i] = Number(value)
  }
  return out
}

/** The same, and every element above zero. Throws ERR_ARGUMENT. */
export function positives(name: string, values: ArrayLike<number>, size: number): Float64Array {
  const out = numbers(name, values, size)
  const bad = out.findIndex((x) => !(x > 0))
  if (bad >= 0) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${name} must be positive, but element ${bad} is ${out[bad]}.`,
    )
  }
  return out
}

/** @throws ERR_ARGUMENT for NaN and infinity */
export function finite(name: string, value: number): number {
  if (typeof value === 'number' && Number.isFinite(value)) return value
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `${name} must be a finite number, got ${describe(value)}.`,
  )
}
