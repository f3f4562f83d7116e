import { LosscapeError } from '../errors.js'
import { defineOperation } from '../program/registry.js'
import { elements } from '../program/shape.js'
import { emitOne, type Tensor } from '../program/tensor.js'
import { type Attributes, formatType } from '../program/types.js'
import type { ImageLayout } from './convolution-shapes.js'
import { reshape } from './movement.js'
import { heightAxis } from './pooling-windows.js'

/*
 *   resample  x [N, H, W, C] or [N, C, H, W] -> y,  y[o, p] = sum_h sum_w R[o, h] C[p, w] x[h, w]
 *
 * with banded matrices R and C: average pooling, interpolation, and the derivatives of both. It is
 * linear, and its adjoint is the same operation with the transposed matrices.
 */

/** A banded matrix: row o has its weights at positions [begin, end) of the input. */
export interface Band {
  /** Positions of the input. */
  readonly size: number
  readonly begin: readonly number[]
  readonly weights: readonly (readonly number[])[]
}

/** Zeros at the ends of rows are left out: they would make NaN of infinite numbers beside. */
export function band(
  size: number,
  rows: readonly { begin: number; weights: readonly number[] }[],
): Band {
  const trimmed = rows.map(({ begin, weights }) => {
    const first = weights.findIndex((w) => w !== 0)
    if (first < 0) return { begin: 0, weights: [] }
    return {
      begin: begin + first,
      weights: weights.slice(first, weights.findLastIndex((w) => w !== 0) + 1),
    }
  })
  return { size, begin: trimmed.map((r) => r.begin), weights: trimmed.map((r) => r.weights) }
}

function transposed({ size, begin, weights }: Band): Band {
  const rows = Array.from({ length: size }, () => ({ begin: 0, weights: [] as number[] }))
  for (const [o, list] of weights.entries()) {
    for (const [i, w] of list.entries()) {
      const row = rows[begin[o] + i]
      if (row.weights.length === 0) row.begin = o
      while (row.begin + row.weights.length < o) row.weights.push(0)
      row.weights.push(w)
    }
  }
  return band(begin.length, rows)
}

function attributesOf(layout: ImageLayout, rows: Band, columns: Band): Attributes {
  const windows = ({ begin, weights }: Band): number[] =>
    begin.flatMap((b, o) => [b, b + weights[o].length])
  return {
    layout,
    size: [rows.size, columns.size],
    rows: windows(rows),
    columns: windows(columns),
    rowWeights: rows.weights.flat(),
    columnWeights: columns.weights.flat(),
  }
}

function bandsOf(attributes: Attributes): { rows: Band; columns: Band } {
  const size = attributes.size as readonly number[]
  const read = (windows: readonly number[], weights: readonly number[], n: number): Band => {
    let at = 0
    const begin = windows.filter((_, i) => i % 2 === 0)
    return {
      size: n,
      begin,
      weights: begin.map((b, o) => {
        const count = windows[2 * o + 1] - b
        at += count
        return weights.slice(at - count, at)
      }),
    }
  }
  const list = (name: string) => attributes[name] as readonly number[]
  return {
    rows: read(list('rows'), list('rowWeights'), size[0]),
    columns: read(list('columns'), list('columnWeights'), size[1]),
  }
}

defineOperation({
  name: 'resample',
  batching: 'merge',
  type([x], { layout, size, rows, columns }) {
    const h = heightAxis(layout)
    const [height, width] = size as readonly number[]
    if (x.shape.length !== 4 || x.shape[h] !== height || x.shape[h + 1] !== width) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `'resample' expected ${height} x ${width} positions in layout ${layout}, got ${formatType(x)}.`,
      )
    }
    const counts = [rows, columns].map((list) => (list as readonly number[]).length / 2)
    return [{ dtype: x.dtype, shape: x.shape.toSpliced(h, 2, ...counts) }]
  },
  evaluate([x], [type], attributes, [result]) {
    const { rows, columns } = bandsOf(attributes)
    const h = heightAxis(attributes.layout)
    const outer = elements(type.shape.slice(0, h))
    const inner = elements(type.shape.slice(h + 2))
    const [height, width] = type.shape.slice(h)
    const y = new Float64Array(elements(result.shape))
    let at = 0
    for (let n = 0; n < outer; n++) {
      for (const [o, own] of rows.weights.entries()) {
        for (const [p, across] of columns.weights.entries()) {
          for (let c = 0; c < inner; c++, at++) {
            for (const [i, a] of own.entries()) {
              const line = (n * height + rows.begin[o] + i) * width + columns.begin[p]
              for (const [j, b] of across.entries()) y[at] += a * b * x[(line + j) * inner + c]
            }
          }
        }
      }
    }
    return [y]
  },
  jvp({ attributes }, [t]) {
    return [t && emitOne('resample', [t], attributes)]
  },
  vjp({ attributes }, [ct]) {
    if (!ct) return [null]
    const { rows, columns } = bandsOf(attributes)
    return [resample(ct, attributes.layout as ImageLayout, transposed(rows), transposed(columns))]
  },
  vmap([x], _batched, attributes, size) {
    const y = emitOne('resample', [reshape(x, [-1, ...x.shape.slice(2)])], attributes)
    return [reshape(y, [size, x.shape[1], ...y.shape.slice(1)])]
  },
})

/** R x Cᵀ on the two spatial axes of a tensor of rank 4. */
export function resample(x: Tensor, layout: ImageLayout, rows: Band, columns: Band): Tensor {
  return emitOne('resample', [x], attributesOf(layout, rows, columns))
}
