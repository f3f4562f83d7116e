import { LosscapeError } from '../errors.js'
import { defineOperation } from '../program/registry.js'
import { elements, range } from '../program/shape.js'
import { emit, emitOne, type Tensor } from '../program/tensor.js'
import { type Attributes, formatType, type Shape, type TensorType } from '../program/types.js'
import type { ImageLayout } from './convolution-shapes.js'
import { broadcastTo, reshape, transpose } from './movement.js'
import { flatten, heightAxis, type Windows } from './pooling-windows.js'

/*
 *   max_pool          x                            -> y, index (i32, h W + w of the chosen element)
 *   max_pool_take     t like x (N a multiple), index -> t at the chosen positions
 *   max_pool_scatter  g like y (N a multiple), index -> g summed into the chosen positions
 *
 * The last two are linear and each other's adjoint, so that everything differentiates to any order.
 * Sample n of t or g uses sample n mod N of the index: tangents share it.
 */

const FAMILY = 'max_pool'

function checkImage(name: string, x: TensorType, { layout, size }: Attributes): void {
  const h = heightAxis(layout)
  const [height, width] = size as readonly number[]
  if (x.shape.length === 4 && x.shape[h] === height && x.shape[h + 1] === width) return
  throw new LosscapeError(
    'ERR_SHAPE',
    `'${name}' expected ${height} x ${width} positions in layout ${layout}, got ${formatType(x)}.`,
  )
}

const spatial = (shape: Shape, layout: unknown, size: readonly number[]): number[] =>
  shape.toSpliced(heightAxis(layout), 2, ...size)

const outputSize = ({ rows, columns }: Attributes): number[] =>
  [rows, columns].map((list) => (list as readonly number[]).length / 2)

function checkIndex(name: string, x: TensorType, index: TensorType): void {
  const [n, of] = [x.shape[0], index.shape[0]]
  const shared = of === 0 ? n === 0 : n % of === 0
  if (index.dtype === 'i32' && shared) return
  throw new LosscapeError(
    'ERR_SHAPE',
    `'${name}' expected samples in a multiple of the index's, got ${formatType(x)} and ${formatType(index)}.`,
  )
}

/** Calls visit(element of y, n C + c or n, channel's offset) with the strides of both layouts. */
function forEachOutput(
  shape: Shape,
  layout: unknown,
  inputSize: readonly number[],
  visit: (at: number, o: number, p: number, offset: (position: number) => number) => void,
): void {
  const h = heightAxis(layout)
  const outer = elements(shape.slice(0, h))
  const inner = elements(shape.slice(h + 2))
  const area = inputSize[0] * inputSize[1]
  let at = 0
  for (let n = 0; n < outer; n++) {
    for (let o = 0; o < shape[h]; o++) {
      for (let p = 0; p < shape[h + 1]; p++) {
        for (let c = 0; c < inner; c++, at++) {
          visit(at, o, p, (position) => (n * area + position) * inner + c)
        }
      }
    }
  }
}

defineOperation({
  name: 'max_pool',
  batching: 'merge',
  auxiliary: [1],
  family: FAMILY,
  type([x], attributes) {
    checkImage('max_pool', x, attributes)
    const shape = spatial(x.shape, attributes.layout, outputSize(attributes))
    return [
      { dtype: x.dtype, shape },
      { dtype: 'i32', shape },
    ]
  },
  evaluate([x], _types, attributes, [result]) {
    const y = new Float64Array(elements(result.shape))
    const index = new Float64Array(y.length)
    const rows = attributes.rows as readonly number[]
    const columns = attributes.columns as readonly number[]
    const [down, across] = attributes.step as readonly number[]
    const size = attributes.size as readonly number[]
    forEachOutput(result.shape, attributes.layout, size, (at, o, p, offset) => {
      let best = -Infinity
      let chosen = rows[2 * o] * size[1] + columns[2 * p]
      for (let h = rows[2 * o]; h < rows[2 * o + 1]; h += down) {
        for (let w = columns[2 * p]; w < columns[2 * p + 1]; w += across) {
          const value = x[offset(h * size[1] + w)]
          if (!(value > best || Number.isNaN(value))) continue
          best = value
          chosen = h * size[1] + w
        }
      }
      y[at] = best
      index[at] = chosen
    })
    return [y, index]
  },
  jvp({ outputs, attributes }, [t]) {
    return [t && emitOne('max_pool_take', [t, outputs[1]], attributes), null]
  },
  vjp({ outputs, attributes }, [ct]) {
    return [ct && emitOne('max_pool_scatter', [ct, outputs[1]], attributes)]
  },
  vmap([x], _batched, attributes, size) {
    const results = emit('max_pool', [reshape(x, [-1, ...x.shape.slice(2)])], attributes)
    return results.map((y) => reshape(y, [size, x.shape[1], ...y.shape.slice(1)]))
  },
})

/** vmap of the two linear operations: more samples that share the index, or an index each. */
function batching(name: string) {
  return (
    [x, index]: readonly Tensor[],
    [own, ownIndex]: readonly boolean[],
    attributes: Attributes,
    size: number,
  ): Tensor[] => {
    const rows = own ? x : broadcastTo(x, [size, ...x.shape])
    const samples = rows.shape[1]
    const all = (t: Tensor): Tensor => reshape(t, [-1, ...t.shape.slice(2)])
    const back = (y: Tensor): Tensor => reshape(y, [size, samples, ...y.shape.slice(1)])
    if (!ownIndex) return [back(emitOne(name, [all(rows), index], attributes))]
    const shared = index.shape[1]
    const repeats = shared === 0 ? 1 : samples / shared
    if (repeats === 1) return [back(emitOne(name, [all(rows), all(index)], attributes))]
    // The mapped axis goes between the repeats and the samples of the index.
    const swap = (t: Tensor): Tensor => transpose(t, [1, 0, ...range(t.rank).slice(2)])
    const inner = swap(reshape(rows, [size, repeats, shared, ...rows.shape.slice(2)]))
    const flat = reshape(inner, [-1, ...inner.shape.slice(3)])
    const y = emitOne(name, [flat, all(index)], attributes)
    const turned = swap(reshape(y, [repeats, size, shared, ...y.shape.slice(1)]))
    return [reshape(turned, [size, samples, ...y.shape.slice(1)])]
  }
}

defineOperation({
  name: 'max_pool_take',
  batching: 'merge',
  family: FAMILY,
  type([t, index], attributes) {
    checkImage('max_pool_take', t, attributes)
    checkIndex('max_pool_take', t, index)
    return [{ dtype: t.dtype, shape: spatial(t.shape, attributes.layout, outputSize(attributes)) }]
  },
  evaluate([t, index], _types, attributes, [result]) {
    const y = new Float64Array(elements(result.shape))
    forEachOutput(
      result.shape,
      attributes.layout,
      attributes.size as readonly number[],
      (at, _o, _p, offset) => {
        y[at] = t[offset(index[at % index.length])]
      },
    )
    return [y]
  },
  jvp({ inputs: [, index], attributes }, [t]) {
    return [t && emitOne('max_pool_take', [t, index], attributes)]
  },
  vjp({ inputs: [, index], attributes }, [ct]) {
    return [ct && emitOne('max_pool_scatter', [ct, index], attributes), null]
  },
  vmap: batching('max_pool_take'),
})

defineOperation({
  name: 'max_pool_scatter',
  batching: 'merge',
  family: FAMILY,
  type([g, index], attributes) {
    checkIndex('max_pool_scatter', g, index)
    const { layout, size } = attributes
    return [{ dtype: g.dtype, shape: spatial(g.shape, layout, size as readonly number[]) }]
  },
  evaluate([g, index], [type], attributes, [result]) {
    const x = new Float64Array(elements(result.shape))
    forEachOutput(
      type.shape,
      attributes.layout,
      attributes.size as readonly number[],
      (at, _o, _p, offset) => {
        x[offset(index[at % index.length])] += g[at]
      },
    )
    return [x]
  },
  jvp({ inputs: [, index], attributes }, [t]) {
    return [t && emitOne('max_pool_scatter', [t, index], attributes)]
  },
  vjp({ inputs: [, index], attributes }, [ct]) {
    return [ct && emitOne('max_pool_take', [ct, index], attributes), null]
  },
  vmap: batching('max_pool_scatter'),
})

/** The maximum of every pair of windows on the two spatial axes of a tensor of rank 4. */
export function maximumOver(
  x: Tensor,
  layout: ImageLayout,
  rows: Windows,
  columns: Windows,
  step: readonly [number, number],
): Tensor {
  const h = heightAxis(layout)
  const attributes = {
    layout,
    size: [x.shape[h], x.shape[h + 1]],
    rows: flatten(rows),
    columns: flatten(columns),
    step,
  }
  return emitOne('max_pool', [x], attributes)
}
