import { LosscapeError } from '../errors.js'
import { defineOperation } from '../program/registry.js'
import {
  elements,
  normalizeAxes,
  normalizeAxis,
  range,
  sameShape,
  stridedOffsets,
  stridesOf,
} from '../program/shape.js'
import { emitOne, type Tensor } from '../program/tensor.js'
import { formatType, type Shape } from '../program/types.js'
import { sum } from './reduce.js'

function take(x: Float64Array, offsets: Int32Array): Float64Array {
  return Float64Array.from(offsets, (at) => x[at])
}

defineOperation({
  name: 'broadcast',
  recompute: true,
  batching: 'batch',
  type([input], { shape, axes }) {
    const to = shape as Shape
    const at = axes as readonly number[]
    const fits =
      at.length === input.shape.length &&
      at.every((axis, i) => to[axis] === input.shape[i] && (i === 0 || at[i - 1] < axis))
    if (!fits) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `'broadcast' cannot put ${formatType(input)} on axes [${at}] of shape [${to}].`,
      )
    }
    return [{ dtype: input.dtype, shape: to }]
  },
  evaluate([x], [type], { axes }, [result]) {
    const own = stridesOf(type.shape)
    const strides = result.shape.map((_, axis) => {
      const i = (axes as readonly number[]).indexOf(axis)
      return i < 0 ? 0 : own[i]
    })
    return [take(x, stridedOffsets(result.shape, strides))]
  },
  jvp({ attributes }, [t]) {
    return [t && emitOne('broadcast', [t], attributes)]
  },
  vjp({ attributes }, [ct]) {
    if (!ct) return [null]
    const kept = attributes.axes as readonly number[]
    return [
      sum(
        ct,
        range(ct.rank).filter((axis) => !kept.includes(axis)),
      ),
    ]
  },
  vmap([x], _batched, { shape, axes }, size) {
    return [
      emitOne('broadcast', [x], {
        shape: [size, ...(shape as Shape)],
        axes: [0, ...(axes as readonly number[]).map((axis) => axis + 1)],
      }),
    ]
  },
})

/** Repeats x along new and size-1 axes, aligned from the last axis. Throws ERR_SHAPE. */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x
  const skip = shape.length - x.rank
  const misfit = skip < 0 || x.shape.some((d, i) => d !== 1 && d !== shape[i + skip])
  if (misfit) {
    throw new LosscapeError('ERR_SHAPE', `Cannot broadcast [${x.shape}] to [${shape}].`)
  }
  const kept = range(x.rank).filter((i) => x.shape[i] === shape[i + skip])
  const squeezed = reshape(
    x,
    kept.map((i) => x.shape[i]),
  )
  return emitOne('broadcast', [squeezed], { shape, axes: kept.map((i) => i + skip) })
}

defineOperation({
  name: 'reshape',
  recompute: true,
  batching: 'batch',
  type([input], { shape }) {
    if (elements(input.shape) !== elements(shape as Shape)) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `Cannot reshape ${formatType(input)} (${elements(input.shape)} elements) to [${shape}] (${elements(shape as Shape)}).`,
      )
    }
    return [{ dtype: input.dtype, shape: shape as Shape }]
  },
  evaluate: ([x]) => [x],
  jvp({ attributes }, [t]) {
    return [t && emitOne('reshape', [t], attributes)]
  },
  vjp({ inputs }, [ct]) {
    return [ct && reshape(ct, inputs[0].shape)]
  },
  vmap([x], _batched, { shape }, size) {
    return [reshape(x, [size, ...(shape as Shape)])]
  },
})

/** The same elements in another shape; one size may be -1. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const unknown = shape.indexOf(-1)
  let target = shape
  if (unknown >= 0) {
    const rest = elements(shape.filter((_, i) => i !== unknown))
    target = shape.with(unknown, rest === 0 ? 0 : elements(x.shape) / rest)
  }
  return sameShape(target, x.shape) ? x : emitOne('reshape', [x], { shape: target })
}

defineOperation({
  name: 'transpose',
  recompute: true,
  batching: 'batch',
  type([input], { perm }) {
    const p = normalizeAxes(perm as readonly number[], input.shape.length)
    if (p.length !== input.shape.length) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `'transpose' of ${formatType(input)} needs ${input.shape.length} axes, got [${p}].`,
      )
    }
    return [{ dtype: input.dtype, shape: p.map((axis) => input.shape[axis]) }]
  },
  evaluate([x], [type], { perm }, [result]) {
    const own = stridesOf(type.shape)
    const strides = (perm as readonly number[]).map((axis) => own[axis])
    return [take(x, stridedOffsets(result.shape, strides))]
  },
  jvp({ attributes }, [t]) {
    return [t && emitOne('transpose', [t], attributes)]
  },
  vjp({ attributes }, [ct]) {
    return [ct && transpose(ct, inversePermutation(attributes.perm as readonly number[]))]
  },
  vmap([x], _batched, { perm }) {
    return [transpose(x, [0, ...(perm as readonly number[]).map((axis) => axis + 1)])]
  },
})

export function inversePermutation(perm: readonly number[]): number[] {
  const inverse = new Array<number>(perm.length)
  for (const [i, axis] of perm.entries()) inverse[axis] = i
  return inverse
}

/** Result axis i is axis perm[i] of x; default reverses the last two axes. */
export function transpose(x: Tensor, perm?: readonly number[]): Tensor {
  const axes = perm
    ? normalizeAxes(perm, x.rank, 'transpose()')
    : [...range(x.rank - 2), x.rank - 1, x.rank - 2].filter((axis) => axis >= 0)
  return axes.every((axis, i) => axis === i) ? x : emitOne('transpose', [x], { perm: axes })
}

defineOperation({
  name: 'slice',
  recompute: true,
  batching: 'batch',
  type([input], { start, sizes }) {
    const from = start as readonly number[]
    const size = sizes as readonly number[]
    const inside =
      from.length === input.shape.length &&
      size.length === input.shape.length &&
      input.shape.every((d, i) => from[i] >= 0 && size[i] >= 0 && from[i] + size[i] <= d)
    if (!inside) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `'slice' [${from}] + [${size}] does not lie inside ${formatType(input)}.`,
      )
    }
    return [{ dtype: input.dtype, shape: size }]
  },
  evaluate([x], [type], { start }, [result]) {
    const strides = stridesOf(type.shape)
    const offset = (start as readonly number[]).reduce((at, s, i) => at + s * strides[i], 0)
    return [take(x, stridedOffsets(result.shape, strides, offset))]
  },
  jvp({ attributes }, [t]) {
    return [t && emitOne('slice', [t], attributes)]
  },
  vjp({ inputs, attributes }, [ct]) {
    if (!ct) return [null]
    const low = attributes.start as readonly number[]
    return [
      pad(
        ct,
        low,
        low.map((s, i) => inputs[0].shape[i] - s - ct.shape[i]),
      ),
    ]
  },
  vmap([x], _batched, { start, sizes }, size) {
    return [slice(x, [0, ...(start as Shape)], [size, ...(sizes as Shape)])]
  },
})

/** The box of the given sizes that begins at `start`. */
export function slice(x: Tensor, start: Shape, sizes: Shape): Tensor {
  const whole = sameShape(sizes, x.shape) && start.every((s) => s === 0)
  return whole ? x : emitOne('slice', [x], { start, sizes })
}

defineOperation({
  name: 'pad',
  batching: 'batch',
  type([input], { low, high }) {
    const before = low as readonly number[]
    const after = high as readonly number[]
    if (
      before.length !== input.shape.length ||
      after.length !== input.shape.length ||
      [...before, ...after].some((p) => !(p >= 0))
    ) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `'pad' of ${formatType(input)} needs non-negative sizes per axis, got [${before}] and [${after}].`,
      )
    }
    return [{ dtype: input.dtype, shape: input.shape.map((d, i) => d + before[i] + after[i]) }]
  },
  evaluate([x], [type], { low, value }, [result]) {
    const out = new Float64Array(elements(result.shape)).fill(value as number)
    const strides = stridesOf(result.shape)
    const offset = (low as readonly number[]).reduce((at, p, i) => at + p * strides[i], 0)
    const offsets = stridedOffsets(type.shape, strides, offset)
    for (const [i, at] of offsets.entries()) out[at] = x[i]
    return [out]
  },
  jvp({ attributes }, [t]) {
    return [t && emitOne('pad', [t], { ...attributes, value: 0 })]
  },
  vjp({ inputs, attributes }, [ct]) {
    return [ct && slice(ct, attributes.low as Shape, inputs[0].shape)]
  },
  vmap([x], _batched, { low, high, value }) {
    return [pad(x, [0, ...(low as Shape)], [0, ...(high as Shape)], value as number)]
  },
})

/** Adds `low` and `high` elements of `value` before and after each axis. */
export function pad(x: Tensor, low: Shape, high: Shape, value = 0): Tensor {
  const none = [...low, ...high].every((p) => p === 0)
  return none && low.length === x.rank ? x : emitOne('pad', [x], { low, high, value })
}

defineOperation({
  name: 'concat',
  batching: 'batch',
  type(inputs, { axis }) {
    const [first] = inputs
    const at = axis as number
    for (const type of inputs) {
      const fits =
        type.dtype === first.dtype &&
        type.shape.length === first.shape.length &&
        type.shape.every((d, i) => i === at || d === first.shape[i])
      if (!fits) {
        throw new LosscapeError(
          'ERR_SHAPE',
          `'concat' on axis ${at} cannot join ${inputs.map(formatType).join(', ')}.`,
        )
      }
    }
    const total = inputs.reduce((n, type) => n + type.shape[at], 0)
    return [{ dtype: first.dtype, shape: first.shape.with(at, total) }]
  },
  evaluate(inputs, types, { axis }, [result]) {
    const out = new Float64Array(elements(result.shape))
    const strides = stridesOf(result.shape)
    let at = 0
    for (const [k, x] of inputs.entries()) {
      const offsets = stridedOffsets(types[k].shape, strides, at * strides[axis as number])
      for (const [i, to] of offsets.entries()) out[to] = x[i]
      at += types[k].shape[axis as number]
    }
    return [out]
  },
  jvp({ inputs, attributes }, tangents) {
    const filled = tangents.map((t, i) => t ?? zeros(inputs[i]))
    return [concat(filled, attributes.axis as number)]
  },
  vjp({ inputs, attributes }, [ct], needed) {
    if (!ct) return inputs.map(() => null)
    const axis = attributes.axis as number
    let at = 0
    return inputs.map((x, i) => {
      const start = x.shape.map((_, k) => (k === axis ? at : 0))
      at += x.shape[axis]
      return needed[i] ? slice(ct, start, x.shape) : null
    })
  },
  vmap(inputs, batched, { axis }, size) {
    const aligned = inputs.map((x, i) => (batched[i] ? x : broadcastTo(x, [size, ...x.shape])))
    return [concat(aligned, (axis as number) + 1)]
  },
})

function zeros(like: Tensor): Tensor {
  return emitOne('constant', [], { data: [0], dtype: like.dtype, shape: like.shape })
}

/** Joins tensors that agree in all other axes. */
export function concat(tensors: readonly Tensor[], axis = 0): Tensor {
  if (tensors.length === 0) {
    throw new LosscapeError('ERR_ARGUMENT', 'concat() needs at least one tensor.')
  }
  if (tensors.length === 1) return tensors[0]
  return emitOne('concat', tensors, { axis: normalizeAxis(axis, tensors[0].rank, 'concat()') })
}
