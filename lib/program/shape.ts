import { argumentError } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import type { Shape } from './types.js'

/** Number of elements. */
export function elements(shape: Shape): number {
  let n = 1
  for (const d of shape) n *= d
  return n
}

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length)
  let stride = 1
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride
    stride *= shape[axis]
  }
  return strides
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((d, i) => d === b[i])
}

/** The shape that both broadcast to, axes aligned from the last. Throws ERR_SHAPE. */
export function broadcastShapes(a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length)
  const out = new Array<number>(rank)
  for (let i = 1; i <= rank; i++) {
    const x = a[a.length - i] ?? 1
    const y = b[b.length - i] ?? 1
    if (x !== y && x !== 1 && y !== 1) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `Shapes [${a}] and [${b}] do not broadcast: sizes ${x} and ${y} differ and neither is 1.`,
      )
    }
    out[rank - i] = x === 1 ? y : x
  }
  return out
}

/**
 * Resolves negative axes. `where` names the function in messages.
 * @throws ERR_ARGUMENT unless a list of integers, ERR_SHAPE when outside the rank or repeated
 */
export function normalizeAxes(
  axes: readonly number[],
  rank: number,
  where = 'An operation',
): number[] {
  if (!Array.isArray(axes) || !axes.every(Number.isInteger)) {
    throw argumentError(where, 'axes', 'a list of integers', axes)
  }
  const out = axes.map((axis) => (axis < 0 ? axis + rank : axis))
  for (const [i, axis] of out.entries()) {
    if (axis < 0 || axis >= rank) {
      throw new LosscapeError('ERR_SHAPE', `Axis ${axes[i]} is outside a tensor of rank ${rank}.`)
    }
    if (out.indexOf(axis) !== i) {
      throw new LosscapeError('ERR_SHAPE', `Axis ${axes[i]} is named twice.`)
    }
  }
  return out
}

/** One axis; as {@link normalizeAxes}. */
export function normalizeAxis(axis: number, rank: number, where: string): number {
  if (!Number.isInteger(axis)) throw argumentError(where, 'axis', 'an integer', axis)
  return normalizeAxes([axis], rank, where)[0]
}

/** Integers 0 .. n-1. */
export function range(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i)
}

/**
 * For every element of `shape` in order, the offset into a buffer with these strides.
 * The oracle's way to read broadcast, transposed and sliced operands; not meant to be fast.
 */
export function stridedOffsets(shape: Shape, strides: readonly number[], offset = 0): Int32Array {
  const n = elements(shape)
  const out = new Int32Array(n)
  const index = new Array<number>(shape.length).fill(0)
  let at = offset
  for (let i = 0; i < n; i++) {
    out[i] = at
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += strides[axis]
      if (++index[axis] < shape[axis]) break
      at -= strides[axis] * shape[axis]
      index[axis] = 0
    }
  }
  return out
}
