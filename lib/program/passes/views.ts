import { stridesOf } from '../shape.js'
import type { Operation, Value } from '../types.js'

/** A tensor read in place: strides (per axis, in elements; 0 repeats) and offset into `base`. */
export interface View {
  readonly base: Value
  readonly strides: readonly number[]
  readonly offset: number
}

/** Looks through broadcasts, slices and transposes to the tensor whose memory is read. */
export function viewOf(value: Value, producers: ReadonlyMap<number, Operation>): View {
  const op = producers.get(value.id)
  switch (op?.name) {
    case 'broadcast': {
      const inner = viewOf(op.inputs[0], producers)
      const axes = op.attributes.axes as readonly number[]
      const strides = value.shape.map((_, axis) => {
        const i = axes.indexOf(axis)
        return i < 0 ? 0 : inner.strides[i]
      })
      return { ...inner, strides }
    }
    case 'slice': {
      const inner = viewOf(op.inputs[0], producers)
      const start = op.attributes.start as readonly number[]
      const offset = start.reduce((at, s, i) => at + s * inner.strides[i], inner.offset)
      return { ...inner, offset }
    }
    case 'transpose': {
      const inner = viewOf(op.inputs[0], producers)
      const perm = op.attributes.perm as readonly number[]
      return { ...inner, strides: perm.map((axis) => inner.strides[axis]) }
    }
    default:
      return { base: value, strides: stridesOf(value.shape), offset: 0 }
  }
}

export function isViewOperation(op: Operation): boolean {
  return op.name === 'broadcast' || op.name === 'slice' || op.name === 'transpose'
}

/** Merges neighbouring axes that all views walk through as one, so that the machine sees few. */
export function collapseAxes(
  shape: readonly number[],
  strides: readonly (readonly number[])[],
): { shape: number[]; strides: number[][] } {
  const kept: number[] = []
  const rows = strides.map(() => [] as number[])
  for (const [axis, size] of shape.entries()) {
    if (size === 1) continue
    const joins = kept.length > 0 && rows.every((row, i) => row.at(-1) === strides[i][axis] * size)
    if (joins) {
      kept[kept.length - 1] *= size
      rows.forEach((row, i) => {
        row[row.length - 1] = strides[i][axis]
      })
    } else {
      kept.push(size)
      rows.forEach((row, i) => {
        row.push(strides[i][axis])
      })
    }
  }
  return { shape: kept, strides: rows }
}
