import { definitionOf } from '../registry.js'
import { elements, sameShape } from '../shape.js'
import type { Operation, Program, Value } from '../types.js'
import { makeOperation, rewrite } from './rewrite.js'

/** Constants with more elements are not computed at compile time. */
const FOLD_LIMIT = 4096

type Producers = Map<number, Operation>

/** The number that fills a constant, or undefined. */
export function uniformValue(value: Value, producers: Producers): number | undefined {
  const op = producers.get(value.id)
  if (op?.name !== 'constant') return undefined
  const data = op.attributes.data as readonly number[]
  return data.length === 1 ? data[0] : undefined
}

/**
 * Constant folding and algebraic identities: x + 0, x * 1, reshape of reshape, transpose of
 * transpose, a transpose read by a matrix product, (x c) d = x (c d) for numbers c and d (the only
 * one that may round differently).
 */
export function fold(program: Program): Program {
  const producers: Producers = new Map()
  const note = (op: Operation): void => {
    for (const value of op.outputs) producers.set(value.id, op)
  }
  return rewrite(program, (op, append) => {
    const add = (made: Operation): readonly Value[] => {
      note(made)
      return append(made).outputs
    }
    const result = foldConstant(op, producers, add) ?? simplified(op, producers, add)
    if (!result) note(op)
    return result
  })
}

function foldConstant(
  op: Operation,
  producers: Producers,
  add: (op: Operation) => readonly Value[],
): readonly Value[] | null {
  const definition = definitionOf(op.name)
  if (!definition.recompute || op.inputs.length === 0 || op.name === 'stop_gradient') return null
  const constants = op.inputs.map((value) => producers.get(value.id))
  if (!constants.every((c): c is Operation => c?.name === 'constant')) return null
  const [result] = op.outputs
  const fill = constants.every((c) => (c.attributes.data as readonly number[]).length === 1)
  let data: Float64Array
  if (fill) {
    // One element stands for all: movement keeps it, elementwise operations map it.
    const scalar = op.inputs.map((value) => ({ dtype: value.dtype, shape: [] }))
    const inputs = constants.map((c) => Float64Array.of((c.attributes.data as number[])[0]))
    data =
      definition.scalar || op.name === 'cast'
        ? definition.evaluate(inputs, scalar, op.attributes, [
            { dtype: result.dtype, shape: [] },
          ])[0]
        : inputs[0]
  } else {
    if (elements(result.shape) > FOLD_LIMIT) return null
    const inputs = constants.map((c, i) => filled(c, op.inputs[i]))
    data = definition.evaluate(inputs, op.inputs, op.attributes, op.outputs)[0]
  }
  const { dtype, shape } = result
  return add(makeOperation('constant', [], { data: Array.from(data), dtype, shape }))
}

function filled(constant: Operation, value: Value): Float64Array {
  return definitionOf('constant').evaluate([], [], constant.attributes, [value])[0]
}

function simplified(
  op: Operation,
  producers: Producers,
  add: (op: Operation) => readonly Value[],
): readonly Value[] | null {
  const [a, b] = op.inputs
  const source = a && producers.get(a.id)
  const is = (value: Value, number: number): boolean => uniformValue(value, producers) === number
  switch (op.name) {
    case 'add':
      if (is(b, 0)) return [a]
      return is(a, 0) ? [b] : null
    case 'sub':
      if (is(b, 0)) return [a]
      return is(a, 0) ? add(makeOperation('neg', [b])) : null
    case 'mul':
      return multiply(a, b, producers, add)
    case 'div':
      return is(b, 1) ? [a] : null
    case 'neg':
      return source?.name === 'neg' ? [source.inputs[0]] : null
    case 'cast':
      return a.dtype === op.attributes.dtype ? [a] : null
    case 'where':
      return constantCondition(op, producers)
    case 'reshape':
      if (sameShape(a.shape, op.attributes.shape as readonly number[])) return [a]
      return source?.name === 'reshape'
        ? add(makeOperation('reshape', source.inputs, op.attributes))
        : null
    case 'transpose':
      return transposed(op, source, add)
    case 'reduce':
      return (op.attributes.axes as readonly number[]).every((axis) => a.shape[axis] === 1)
        ? add(makeOperation('reshape', [a], { shape: op.outputs[0].shape }))
        : null
    case 'matmul':
      return productOfTransposed(op, producers, add)
    default:
      return null
  }
}

function constantCondition(op: Operation, producers: Producers): readonly Value[] | null {
  const condition = uniformValue(op.inputs[0], producers)
  if (condition === undefined) return null
  return [condition !== 0 ? op.inputs[1] : op.inputs[2]]
}

/** x * 1, x * -1, and products of numbers pulled together: (x * c) * d = x * (c d). */
function multiply(
  a: Value,
  b: Value,
  producers: Producers,
  add: (op: Operation) => readonly Value[],
): readonly Value[] | null {
  const left = uniformValue(a, producers)
  if (left !== undefined && uniformValue(b, producers) === undefined) {
    return multiply(b, a, producers, add) ?? add(makeOperation('mul', [b, a]))
  }
  const factor = uniformValue(b, producers)
  if (factor === undefined) return null
  if (factor === 1) return [a]
  if (factor === -1) return add(makeOperation('neg', [a]))
  const source = producers.get(a.id)
  if (source?.name !== 'mul') return null
  const inner = uniformValue(source.inputs[1], producers)
  if (inner === undefined) return null
  const { dtype, shape } = b
  const [product] = add(makeOperation('constant', [], { data: [inner * factor], dtype, shape }))
  return add(makeOperation('mul', [source.inputs[0], product]))
}

function transposed(
  op: Operation,
  source: Operation | undefined,
  add: (op: Operation) => readonly Value[],
): readonly Value[] | null {
  const perm = op.attributes.perm as readonly number[]
  if (perm.every((axis, i) => axis === i)) return [op.inputs[0]]
  if (source?.name !== 'transpose') return null
  const inner = source.attributes.perm as readonly number[]
  const composed = perm.map((axis) => inner[axis])
  if (composed.every((axis, i) => axis === i)) return [source.inputs[0]]
  return add(makeOperation('transpose', source.inputs, { perm: composed }))
}

/** Reads a transposed matrix in place instead of copying it. */
function productOfTransposed(
  op: Operation,
  producers: Producers,
  add: (op: Operation) => readonly Value[],
): readonly Value[] | null {
  const inputs = [...op.inputs]
  const attributes: Record<string, number> = {
    transA: op.attributes.transA as number,
    transB: op.attributes.transB as number,
  }
  let changed = false
  for (const [i, flag] of ['transA', 'transB'].entries()) {
    const source = producers.get(inputs[i].id)
    if (source?.name !== 'transpose' || !swapsLastTwo(source)) continue
    inputs[i] = source.inputs[0]
    attributes[flag] = 1 - attributes[flag]
    changed = true
  }
  return changed ? add(makeOperation('matmul', inputs, attributes)) : null
}

function swapsLastTwo(op: Operation): boolean {
  const perm = op.attributes.perm as readonly number[]
  const n = perm.length
  return n >= 2 && perm.every((axis, i) => axis === (i === n - 1 ? n - 2 : i === n - 2 ? n - 1 : i))
}
