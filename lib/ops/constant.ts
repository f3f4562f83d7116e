import { LosscapeError } from '../errors.js'
import { defineOperation } from '../program/registry.js'
import { elements, normalizeAxes, normalizeAxis } from '../program/shape.js'
import { emitOne, type Tensor } from '../program/tensor.js'
import type { DType, Shape, TensorType } from '../program/types.js'

defineOperation({
  name: 'constant',
  recompute: true,
  batching: 'elementwise',
  type(_inputs, { shape, dtype, data }) {
    const n = elements(shape as Shape)
    const length = (data as readonly number[]).length
    if (length !== 1 && length !== n) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `A constant of shape [${shape}] needs 1 or ${n} numbers, got ${length}.`,
      )
    }
    return [{ dtype: dtype as DType, shape: shape as Shape }]
  },
  evaluate(_inputs, _types, { data }, [result]) {
    const numbers = data as readonly number[]
    const n = elements(result.shape)
    if (numbers.length === 1) return [new Float64Array(n).fill(numbers[0])]
    return [Float64Array.from(numbers)]
  },
  jvp: () => [null],
  vjp: () => [],
})

/** A tensor filled with one number, or with the given numbers in row-major order. */
export function constant(data: number | ArrayLike<number>, type?: Partial<TensorType>): Tensor {
  const numbers = typeof data === 'number' ? [data] : Array.from(data)
  const shape = type?.shape ?? (typeof data === 'number' ? [] : [numbers.length])
  return emitOne('constant', [], { data: numbers, dtype: type?.dtype ?? 'f32', shape })
}

export const zerosLike = (t: TensorType): Tensor => constant(0, t)
export const onesLike = (t: TensorType): Tensor => constant(1, t)

defineOperation({
  name: 'iota',
  recompute: true,
  batching: 'elementwise',
  type(_inputs, { shape, dtype, axis }) {
    normalizeAxes([axis as number], (shape as Shape).length)
    return [{ dtype: dtype as DType, shape: shape as Shape }]
  },
  evaluate(_inputs, _types, { axis }, [result]) {
    const n = elements(result.shape)
    const inner = elements(result.shape.slice((axis as number) + 1))
    const size = result.shape[axis as number]
    return [Float64Array.from({ length: n }, (_, i) => Math.floor(i / inner) % size)]
  },
  jvp: () => [null],
  vjp: () => [],
})

/** The index along `axis` (default the last) at every element; dtype i32 unless said otherwise. */
export function iota(shape: Shape, axis = -1, dtype: DType = 'i32'): Tensor {
  return emitOne('iota', [], { shape, dtype, axis: normalizeAxis(axis, shape.length, 'iota()') })
}
