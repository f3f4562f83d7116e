import { LosscapeError } from '../errors.js'
import { defineOperation } from '../program/registry.js'
import {
  elements,
  normalizeAxes,
  normalizeAxis,
  range,
  stridedOffsets,
  stridesOf,
} from '../program/shape.js'
import { emitOne, type Tensor } from '../program/tensor.js'
import { isFloat, type Shape, type TensorType } from '../program/types.js'
import { cast, div, eq, exp, mul, sub } from './elementwise.js'
import { broadcastTo, reshape, transpose } from './movement.js'

type Kind = 'sum' | 'max' | 'min'

const FOLDS: Readonly<Record<Kind, [number, (a: number, b: number) => number]>> = {
  sum: [0, (a, b) => a + b],
  max: [-Infinity, (a, b) => Math.max(a, b)],
  min: [Infinity, (a, b) => Math.min(a, b)],
}

function withoutAxes(shape: Shape, axes: readonly number[]): number[] {
  return shape.filter((_, i) => !axes.includes(i))
}

/** Puts reduced axes back with their size, so that a reduced tensor meets the full one. */
function expand(reduced: Tensor, full: TensorType, axes: readonly number[]): Tensor {
  return emitOne('broadcast', [reduced], {
    shape: full.shape,
    axes: range(full.shape.length).filter((axis) => !axes.includes(axis)),
  })
}

defineOperation({
  name: 'reduce',
  batching: 'batch',
  type([input], { axes }) {
    const at = normalizeAxes(axes as readonly number[], input.shape.length)
    return [{ dtype: input.dtype, shape: withoutAxes(input.shape, at) }]
  },
  evaluate([x], [type], { axes, kind }, [result]) {
    const at = axes as readonly number[]
    const [start, fold] = FOLDS[kind as Kind]
    const own = stridesOf(result.shape)
    const strides = new Array<number>(type.shape.length).fill(0)
    for (const [i, axis] of range(type.shape.length)
      .filter((a) => !at.includes(a))
      .entries()) {
      strides[axis] = own[i]
    }
    const out = new Float64Array(elements(result.shape)).fill(start)
    const offsets = stridedOffsets(type.shape, strides)
    for (const [i, to] of offsets.entries()) out[to] = fold(out[to], x[i])
    return [out]
  },
  jvp({ inputs: [x], outputs: [y], attributes }, [t]) {
    if (!t || !isFloat(x.dtype)) return [null]
    const axes = attributes.axes as readonly number[]
    if (attributes.kind === 'sum') return [sum(t, axes)]
    const share = winnerShare(x, y, axes)
    return [sum(mul(t, share), axes)]
  },
  vjp({ inputs: [x], outputs: [y], attributes }, [ct]) {
    if (!ct || !isFloat(x.dtype)) return [null]
    const axes = attributes.axes as readonly number[]
    const full = expand(ct, x, axes)
    return [attributes.kind === 'sum' ? full : mul(full, winnerShare(x, y, axes))]
  },
  vmap([x], _batched, { axes, kind }) {
    return [
      emitOne('reduce', [x], { kind, axes: (axes as readonly number[]).map((axis) => axis + 1) }),
    ]
  },
})

/** 1 / (number of equal extremes) at each of them: they share the derivative. */
function winnerShare(x: Tensor, y: Tensor, axes: readonly number[]): Tensor {
  const wins = cast(eq(x, expand(y, x, axes)), x.dtype)
  return div(wins, expand(sum(wins, axes), x, axes))
}

function reduce(kind: Kind, x: Tensor, axes?: readonly number[], keepAxes = false): Tensor {
  const at = normalizeAxes(axes ?? range(x.rank), x.rank, `${kind}()`).sort((a, b) => a - b)
  const y = at.length === 0 ? x : emitOne('reduce', [x], { kind, axes: at })
  return keepAxes
    ? reshape(
        y,
        x.shape.map((d, i) => (at.includes(i) ? 1 : d)),
      )
    : y
}

/** Sum over `axes` (default all), accumulated in float64. `keepAxes` leaves them with size 1. */
export function sum(x: Tensor, axes?: readonly number[], keepAxes = false): Tensor {
  return reduce('sum', x, axes, keepAxes)
}

/** Mean over `axes` (default all). */
export function mean(x: Tensor, axes?: readonly number[], keepAxes = false): Tensor {
  const at = normalizeAxes(axes ?? range(x.rank), x.rank, 'mean()')
  const count = elements(at.map((axis) => x.shape[axis]))
  return mul(sum(x, at, keepAxes), 1 / count)
}

/** Largest element over `axes`; NaN wins; equal ones share the derivative. */
export function max(x: Tensor, axes?: readonly number[], keepAxes = false): Tensor {
  return reduce('max', x, axes, keepAxes)
}

/** Smallest element over `axes`; NaN wins; equal ones share the derivative. */
export function min(x: Tensor, axes?: readonly number[], keepAxes = false): Tensor {
  return reduce('min', x, axes, keepAxes)
}

defineOperation({
  name: 'argmax',
  batching: 'batch',
  type([input], { axis }) {
    const [at] = normalizeAxes([axis as number], input.shape.length)
    if (input.shape[at] === 0) {
      throw new LosscapeError('ERR_SHAPE', 'argmax() needs at least one element along its axis.')
    }
    return [{ dtype: 'i32', shape: withoutAxes(input.shape, [at]) }]
  },
  evaluate([x], [type], { axis }, [result]) {
    const at = axis as number
    const size = type.shape[at]
    const inner = elements(type.shape.slice(at + 1))
    const out = new Float64Array(elements(result.shape))
    for (let i = 0; i < out.length; i++) {
      const base = Math.floor(i / inner) * size * inner + (i % inner)
      let best = 0
      for (let k = 1; k < size; k++) {
        const value = x[base + k * inner]
        const leader = x[base + best * inner]
        if (value > leader || (Number.isNaN(value) && !Number.isNaN(leader))) best = k
      }
      out[i] = best
    }
    return [out]
  },
  jvp: () => [null],
  vjp: () => [null],
  vmap([x], _batched, { axis }) {
    return [emitOne('argmax', [x], { axis: (axis as number) + 1 })]
  },
})

/** Index of the largest element along `axis` (i32): the first of equals; NaN wins. */
export function argmax(x: Tensor, axis = -1): Tensor {
  return emitOne('argmax', [x], { axis: normalizeAxis(axis, x.rank, 'argmax()') })
}

defineOperation({
  name: 'logsumexp',
  batching: 'merge',
  type: ([input]) => {
    if (input.shape.length === 0) {
      throw new LosscapeError('ERR_SHAPE', 'logsumexp() needs at least one axis.')
    }
    return [{ dtype: input.dtype, shape: input.shape.slice(0, -1) }]
  },
  evaluate([x], [type], _attributes, [result]) {
    const classes = type.shape.at(-1) as number
    return [
      Float64Array.from({ length: elements(result.shape) }, (_, i) =>
        logSumExp(x.subarray(i * classes, (i + 1) * classes)),
      ),
    ]
  },
  jvp({ inputs: [x], outputs: [y] }, [t]) {
    return [t && sum(mul(exp(sub(x, expandLast(y, x))), t), [-1])]
  },
  vjp({ inputs: [x], outputs: [y] }, [ct]) {
    return [ct && mul(exp(sub(x, expandLast(y, x))), expandLast(ct, x))]
  },
  vmap: ([x]) => [emitOne('logsumexp', [x])],
})

/** log sum exp of a row, without overflow; -Infinity for an empty row. */
export function logSumExp(row: Float64Array): number {
  let top = -Infinity
  for (const v of row) top = Math.max(top, v)
  if (!Number.isFinite(top)) return top
  let total = 0
  for (const v of row) total += Math.exp(v - top)
  return top + Math.log(total)
}

function expandLast(y: Tensor, x: TensorType): Tensor {
  return broadcastTo(reshape(y, [...y.shape, 1]), x.shape)
}

/** Moves `axis` to the end, applies f on rows, and moves it back if f keeps the axis. */
function alongLast(where: string, x: Tensor, axis: number, f: (x: Tensor) => Tensor): Tensor {
  const at = normalizeAxis(axis, x.rank, where)
  if (at === x.rank - 1) return f(x)
  const perm = [...range(x.rank).filter((a) => a !== at), at]
  const y = f(transpose(x, perm))
  if (y.rank < x.rank) return y
  return transpose(y, [...range(at), x.rank - 1, ...range(x.rank - 1).slice(at)])
}

/** log(sum(exp(x))) along `axis`, without overflow. */
export function logsumexp(x: Tensor, axis = -1): Tensor {
  return alongLast('logsumexp()', x, axis, (rows) => emitOne('logsumexp', [rows]))
}

defineOperation({
  name: 'softmax',
  batching: 'merge',
  type: ([input]) => {
    if (input.shape.length === 0) {
      throw new LosscapeError('ERR_SHAPE', 'softmax() needs at least one axis.')
    }
    return [{ dtype: input.dtype, shape: input.shape }]
  },
  evaluate([x], [type], { log: asLog }) {
    const classes = type.shape.at(-1) as number
    const out = new Float64Array(x.length)
    for (let from = 0; from < x.length; from += classes) {
      const total = logSumExp(x.subarray(from, from + classes))
      for (let i = from; i < from + classes; i++) {
        out[i] = asLog ? x[i] - total : Math.exp(x[i] - total)
      }
    }
    return [out]
  },
  jvp({ outputs: [y], attributes }, [t]) {
    if (!t) return [null]
    const p = attributes.log ? exp(y) : y
    const centred = sub(t, sum(mul(p, t), [-1], true))
    return [attributes.log ? centred : mul(y, centred)]
  },
  vjp({ outputs: [y], attributes }, [ct]) {
    if (!ct) return [null]
    if (attributes.log) return [sub(ct, mul(exp(y), sum(ct, [-1], true)))]
    return [mul(y, sub(ct, sum(mul(y, ct), [-1], true)))]
  },
  vmap: ([x], _batched, attributes) => [emitOne('softmax', [x], attributes)],
})

/** exp(x) / sum(exp(x)) along `axis`. */
export function softmax(x: Tensor, axis = -1): Tensor {
  return alongLast('softmax()', x, axis, (rows) => emitOne('softmax', [rows], { log: 0 }))
}

/** x - logsumexp(x) along `axis`. */
export function logSoftmax(x: Tensor, axis = -1): Tensor {
  return alongLast('logSoftmax()', x, axis, (rows) => emitOne('softmax', [rows], { log: 1 }))
}

/** Mean and (biased) variance over `axes`, which stay with size 1. Throws as `mean` does. */
export function moments(x: Tensor, axes: readonly number[]): { mean: Tensor; variance: Tensor } {
  const mu = mean(x, axes, true)
  const centred = sub(x, mu)
  return { mean: mu, variance: mean(mul(centred, centred), axes, true) }
}
