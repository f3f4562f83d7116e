import { LosscapeError } from '../errors.js'
import { defineOperation } from '../program/registry.js'
import { elements, range } from '../program/shape.js'
import { emitOne, type Tensor } from '../program/tensor.js'
import { formatType, type TensorType } from '../program/types.js'
import { iota } from './constant.js'
import { add, ge, logicalAnd, lt, mul, where } from './elementwise.js'
import { broadcastTo, reshape, transpose } from './movement.js'

function requireIndex(name: string, index: TensorType): void {
  if (index.dtype !== 'i32') {
    throw new LosscapeError(
      'ERR_DTYPE',
      `'${name}' expected an i32 index, got ${formatType(index)}.`,
    )
  }
}

function checkedRow(name: string, row: number, rows: number): number {
  if (!(row >= 0 && row < rows)) {
    throw new LosscapeError('ERR_RANGE', `'${name}': index ${row} is outside [0, ${rows}).`)
  }
  return row
}

/**
 * Makes row numbers of R tables into row numbers of one table of R * rows rows. A row outside its
 * own table becomes -1, so that it is refused rather than found in a neighbour.
 */
function globalRows(index: Tensor, rows: number): Tensor {
  const [size, ...rest] = index.shape
  const base = reshape(mul(iota([size]), rows), [size, ...rest.map(() => 1)])
  const inside = logicalAnd(ge(index, 0), lt(index, rows))
  return where(inside, add(index, broadcastTo(base, index.shape)), -1)
}

defineOperation({
  name: 'gather',
  batching: 'merge',
  type([x, index]) {
    requireIndex('gather', index)
    if (x.shape.length === 0) {
      throw new LosscapeError('ERR_SHAPE', "'gather' needs a table with at least one axis.")
    }
    return [{ dtype: x.dtype, shape: [...index.shape, ...x.shape.slice(1)] }]
  },
  evaluate([x, index], [type], _attributes, [result]) {
    const width = elements(type.shape.slice(1))
    const out = new Float64Array(elements(result.shape))
    for (const [i, at] of index.entries()) {
      const row = checkedRow('gather', at, type.shape[0])
      out.set(x.subarray(row * width, (row + 1) * width), i * width)
    }
    return [out]
  },
  jvp({ inputs: [, index] }, [t]) {
    return [t && gather(t, index)]
  },
  vjp({ inputs: [x, index] }, [ct], needed) {
    return [ct && needed[0] ? scatterAdd(index, ct, x.shape[0]) : null, null]
  },
  vmap([x, index], batched, _attributes, size) {
    if (!batched[0]) return [gather(x, index)]
    const rows = x.shape[1]
    const indices = batched[1] ? index : broadcastTo(index, [size, ...index.shape])
    return [gather(reshape(x, [-1, ...x.shape.slice(2)]), globalRows(indices, rows))]
  },
})

/**
 * Rows of x: y[i.., ..] = x[index[i..], ..]. Derivative: scatterAdd.
 * @throws ERR_DTYPE when the index is not i32; ERR_RANGE at run time for an index outside x
 */
export function gather(x: Tensor, index: Tensor): Tensor {
  return emitOne('gather', [x, index])
}

defineOperation({
  name: 'scatter_add',
  batching: 'merge',
  type([index, updates], { size }) {
    requireIndex('scatter_add', index)
    const lead = index.shape.length
    if (!index.shape.every((d, i) => d === updates.shape[i])) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `'scatter_add': updates ${formatType(updates)} must begin with the index's shape [${index.shape}].`,
      )
    }
    return [{ dtype: updates.dtype, shape: [size as number, ...updates.shape.slice(lead)] }]
  },
  evaluate([index, updates], _types, { size }, [result]) {
    const width = elements(result.shape.slice(1))
    const out = new Float64Array(elements(result.shape))
    for (const [i, at] of index.entries()) {
      const row = checkedRow('scatter_add', at, size as number)
      for (let j = 0; j < width; j++) out[row * width + j] += updates[i * width + j]
    }
    return [out]
  },
  jvp({ inputs: [index], attributes }, [, t]) {
    return [t && scatterAdd(index, t, attributes.size as number)]
  },
  vjp({ inputs: [index] }, [ct], needed) {
    return [null, ct && needed[1] ? gather(ct, index) : null]
  },
  vmap([index, updates], batched, attributes, size) {
    const rows = attributes.size as number
    if (!batched[0]) {
      // One scatter of wider rows: the new axis moves behind the index axes and back.
      const lead = index.rank
      const wide = transpose(updates, [
        ...range(lead).map((axis) => axis + 1),
        0,
        ...range(updates.rank).slice(lead + 1),
      ])
      const y = scatterAdd(index, wide, rows)
      return [transpose(y, [1, 0, ...range(y.rank).slice(2)])]
    }
    const all = batched[1] ? updates : broadcastTo(updates, [size, ...updates.shape])
    const y = scatterAdd(globalRows(index, rows), all, size * rows)
    return [reshape(y, [size, rows, ...y.shape.slice(1)])]
  },
})

/** y[r, ..] = sum over i with index[i..] = r of updates[i.., ..], in a fixed order. */
export function scatterAdd(index: Tensor, updates: Tensor, size: number): Tensor {
  return emitOne('scatter_add', [index, updates], { size })
}
