import { LosscapeError } from '../errors.js'
import { defineOperation, type MaybeTensor } from '../program/registry.js'
import { elements, range, sameShape } from '../program/shape.js'
import { emitOne, type Tensor } from '../program/tensor.js'
import { formatType, isFloat, type TensorType } from '../program/types.js'
import { broadcastTo, reshape, transpose } from './movement.js'

/*
 *   simplex_project      x [.., n]                  -> y = max(x - lambda, 0)
 *   simplex_project_jvp  y [.., n], dx [R, .., n]   -> 1_A (dx - mean_A dx),  A = {y > 0}
 *
 * The Jacobian is a symmetric projection: tangents and cotangents take the same map. It depends on
 * x through the active set A only, which is constant almost everywhere, so the derivative of the
 * second operation with respect to y is exactly zero, of every order.
 */

const FAMILY = 'simplex_project'

function checkRows(name: string, x: TensorType): void {
  if (!isFloat(x.dtype)) {
    throw new LosscapeError(
      'ERR_DTYPE',
      `'${name}' expected floating-point numbers [.., n], got ${formatType(x)}.`,
    )
  }
  if (!(x.shape.at(-1) as number)) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `'${name}' expected a last axis of one number or more, got ${formatType(x)}.`,
    )
  }
}

/** lambda with sum_i max(z_i - lambda, 0) = 1, by sorting; NaN in z gives NaN. */
function threshold(z: Float64Array): number {
  if (z.some(Number.isNaN)) return Number.NaN
  let sum = 0
  let lambda = 0
  for (const [t, value] of z.slice().sort().reverse().entries()) {
    sum += value
    const candidate = (sum - 1) / (t + 1)
    if (!(value > candidate)) break
    lambda = candidate
  }
  return lambda
}

const one = (t: Tensor): Tensor => reshape(t, [1, ...t.shape])
const first = (t: Tensor): Tensor => reshape(t, t.shape.slice(1))
const tangentOf = (y: Tensor, dx: Tensor): Tensor => emitOne('simplex_project_jvp', [y, dx])

defineOperation({
  name: 'simplex_project',
  batching: 'merge',
  family: FAMILY,
  type([x]) {
    checkRows('simplex_project', x)
    return [{ dtype: x.dtype, shape: x.shape }]
  },
  evaluate([x], [type]) {
    const n = type.shape.at(-1) as number
    const y = new Float64Array(x.length)
    for (let row = 0; row < x.length; row += n) {
      const values = x.subarray(row, row + n)
      const max = values.reduce((a, b) => Math.max(a, b))
      const z = values.map((v) => v - max)
      const lambda = threshold(z)
      for (let i = 0; i < n; i++) y[row + i] = Math.max(z[i] - lambda, 0)
    }
    return [y]
  },
  jvp({ outputs }, [dx]) {
    return [dx && first(tangentOf(outputs[0], one(dx)))]
  },
  vjp({ outputs }, [g]) {
    return [g && first(tangentOf(outputs[0], one(g)))]
  },
  vmap([x]) {
    return [emitOne('simplex_project', [x])]
  },
})

defineOperation({
  name: 'simplex_project_jvp',
  batching: 'merge',
  family: FAMILY,
  type([y, dx]) {
    checkRows('simplex_project_jvp', y)
    if (dx.dtype !== y.dtype || !sameShape(dx.shape.slice(1), y.shape)) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `'simplex_project_jvp' expected tangents [R, ${y.shape}] for ${formatType(y)}, got ${formatType(dx)}.`,
      )
    }
    return [{ dtype: dx.dtype, shape: dx.shape }]
  },
  evaluate([y, dx], [type], _attributes, [result]) {
    const n = type.shape.at(-1) as number
    const out = new Float64Array(elements(result.shape))
    for (let row = 0; row < dx.length; row += n) {
      const point = y.subarray(row % y.length, (row % y.length) + n)
      const active = range(n).filter((i) => point[i] > 0)
      const mean = active.reduce((s, i) => s + dx[row + i], 0) / active.length
      for (const i of active) out[row + i] = dx[row + i] - mean
      for (let i = 0; i < n; i++) if (Number.isNaN(point[i])) out[row + i] = point[i]
    }
    return [out]
  },
  jvp({ inputs }, [, td]) {
    return [td && tangentOf(inputs[0], td)]
  },
  vjp({ inputs }, [c], needed): MaybeTensor[] {
    return [null, c && needed[1] ? tangentOf(inputs[0], c) : null]
  },
  vmap([y, dx], [pointBatched, tangentBatched], _attributes, size) {
    if (!pointBatched) {
      const merged = reshape(dx, [-1, ...dx.shape.slice(2)])
      return [reshape(tangentOf(y, merged), dx.shape)]
    }
    // More rows: the mapped axis goes behind that of the tangents.
    const all = tangentBatched ? dx : broadcastTo(dx, [size, ...dx.shape])
    const swap = (x: Tensor): Tensor => transpose(x, [1, 0, ...range(x.rank).slice(2)])
    return [swap(tangentOf(y, swap(all)))]
  },
})

/**
 * Euclidean projection of each row on the probability simplex {y >= 0, sum y = 1} (sparsemax):
 * y = max(x - lambda, 0) with the lambda that makes y sum to 1. Equal entries stay equal; adding a
 * constant to a row changes nothing; one number gives 1. A row with NaN or +infinity gives NaN, an
 * entry at -infinity gives 0.
 *
 * Derivatives: 1_A (dx - mean_A dx) on the active set A = {y > 0}. Second derivatives are exactly
 * zero wherever the first exist, that is except where an entry is just about to enter or leave A;
 * there the derivative of the current A is taken.
 *
 * Cost: some passes over rows in cache; no sorting.
 * Source: Martins and Astudillo, From Softmax to Sparsemax, ICML 2016, equation 1 and section 2.5;
 * the algorithm is Michelot's (J. Optim. Theory Appl. 50, 1986).
 *
 * @param x [.., n], n >= 1
 * @returns like x
 * @throws ERR_SHAPE for a scalar or n = 0, ERR_DTYPE for integers
 * @example
 * trace((x) => simplexProject(x), [{ dtype: 'f32', shape: [3] }]) // [0.5, 0.5, -1] -> [0.5, 0.5, 0]
 */
export function simplexProject(x: Tensor): Tensor {
  return emitOne('simplex_project', [x])
}
