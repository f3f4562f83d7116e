/** Element types of a program. `f32` stands for the run's precision: an f64 run computes it in f64. */
export type DType = 'f32' | 'f64' | 'bf16' | 'f16' | 'i32' | 'u8'

/** In wire order (native/runtime/types.h). */
export const DTYPES: readonly DType[] = ['f32', 'f64', 'bf16', 'f16', 'i32', 'u8']

export const BYTES: Readonly<Record<DType, number>> = {
  f32: 4,
  f64: 8,
  bf16: 2,
  f16: 2,
  i32: 4,
  u8: 1,
}

export type Shape = readonly number[]

export interface TensorType {
  readonly dtype: DType
  readonly shape: Shape
}

/** One tensor of a program; `id` is unique in the process. */
export interface Value extends TensorType {
  readonly id: number
}

/** Compile-time parameter of an operation. */
export type Attribute = number | string | readonly number[] | readonly string[]
export type Attributes = Readonly<Record<string, Attribute>>

export interface Operation {
  readonly name: string
  readonly inputs: readonly Value[]
  readonly outputs: readonly Value[]
  readonly attributes: Attributes
}

/** A pure function as a flat list of operations in topological order, with static shapes. */
export interface Program {
  readonly inputs: readonly Value[]
  readonly operations: readonly Operation[]
  readonly outputs: readonly Value[]
  /** For messages and printing; same length as `inputs`, or absent. */
  readonly inputNames?: readonly string[]
}

export function isFloat(dtype: DType): boolean {
  return dtype !== 'i32' && dtype !== 'u8'
}

let nextId = 0

export function newValue(type: TensorType): Value {
  return { id: nextId++, dtype: type.dtype, shape: type.shape }
}

/** `f32[3,4]` */
export function formatType(type: TensorType): string {
  return `${type.dtype}[${type.shape.join(',')}]`
}
