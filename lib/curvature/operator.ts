import { newArray } from '../allocation.js'
import { requireArguments } from '../arguments.js'
import type { Device } from '../device/device.js'
import { LosscapeError } from '../errors.js'
import type { NativeOperator } from '../native.js'
import { type FloatVector, ParameterLayout } from '../nn/layout.js'

export type Precision = 'f32' | 'f64'

export interface ProductOptions {
  readonly signal?: AbortSignal
  /** Chunks of the data set done, of all. */
  readonly onProgress?: (done: number, total: number) => void
}

/**
 * A square matrix known by its products. Algorithms take any of these and know nothing of networks.
 */
export interface LinearOperator {
  /** n */
  readonly size: number
  readonly dtype: Precision
  /** A v. Throws ERR_SHAPE unless v has n elements, ERR_NOT_FINITE for NaN or infinity in v. */
  matvec(v: ArrayLike<number>, options?: ProductOptions): Promise<FloatVector>
  /** A applied to `count` vectors, one after another in `vs` and in the result. */
  matmat(vs: ArrayLike<number>, count: number, options?: ProductOptions): Promise<FloatVector>
  /** Aᵀ v, where A is not symmetric. */
  adjoint?(v: ArrayLike<number>, options?: ProductOptions): Promise<FloatVector>
}

/** An operator whose products run natively, on vectors in device storage. */
export interface NativeLinearOperator extends LinearOperator {
  readonly device: Device
  readonly native: NativeOperator
  readonly layout: ParameterLayout
}

const nativeOperators = new WeakSet<LinearOperator>()

/** Called by operators whose `matvec` is the product of their native handle. */
export function registerNative(operator: NativeLinearOperator): void {
  nativeOperators.add(operator)
}

/** Not so for a copy whose `matvec` the user replaced (`{ ...operator, matvec }`). */
export function isNative(operator: LinearOperator): operator is NativeLinearOperator {
  return nativeOperators.has(operator)
}

/** Distance from 1 to the next number. */
export const EPSILON: Readonly<Record<Precision, number>> = { f32: 2 ** -23, f64: 2 ** -52 }

export function allocate(dtype: Precision, length: number): FloatVector {
  const Real = dtype === 'f64' ? Float64Array : Float32Array
  return newArray<FloatVector>(Real, length, 'Vectors of an operator')
}

/** A vector of n plain numbers has one segment. */
export function vectorLayout(size: number): ParameterLayout {
  return new ParameterLayout([{ name: 'vector', shape: [size] }])
}

/** @throws ERR_SHAPE, ERR_NOT_FINITE */
export function requireVectors(
  vs: ArrayLike<number>,
  size: number,
  count: number,
  dtype: Precision = 'f64',
): void {
  requireArguments('A product', { vs })
  if (!Number.isSafeInteger(count) || count < 1) {
    throw new LosscapeError('ERR_ARGUMENT', `Expected at least one vector, got ${String(count)}.`)
  }
  if (vs.length !== size * count) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `Expected ${count} vector(s) of n = ${size} elements, got ${vs.length} elements.`,
    )
  }
  for (let i = 0; i < vs.length; i++) {
    if (!Number.isFinite(dtype === 'f32' ? Math.fround(vs[i]) : vs[i])) {
      throw new LosscapeError('ERR_NOT_FINITE', `Element ${i} of the vector is ${vs[i]}.`)
    }
  }
}

/** Products of operators that are not ours. Throws ERR_OPERATOR. */
export function requireProducts(result: ArrayLike<number>, expected: number): void {
  if (result?.length !== expected) {
    throw new LosscapeError(
      'ERR_OPERATOR',
      `The operator returned ${result?.length ?? typeof result} elements, expected ${expected}.`,
    )
  }
  requireFinite(result)
}

/** What products or sums of them came to. Throws ERR_OPERATOR for NaN and infinity. */
export function requireFinite(values: ArrayLike<number>): void {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) {
      throw new LosscapeError('ERR_OPERATOR', `A product of the operator holds ${values[i]}.`)
    }
  }
}

/** An option that must be one of a few words. Throws ERR_ARGUMENT. */
export function oneOf<T extends string>(name: string, value: T, known: readonly T[]): T {
  if (known.includes(value)) return value
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `${name} must be one of ${known.join(', ')}; got '${String(value)}'.`,
  )
}
