import * as ops from '../ops/index.js'
import { simplify } from '../program/passes/index.js'
import { stripMarkers } from '../program/passes/strip.js'
import { emit, type Tensor } from '../program/tensor.js'
import { Environment, trace } from '../program/trace.js'
import { isFloat, type Operation, type Program, type Value } from '../program/types.js'

/**
 * Rewrites a program that is linear in one input c [B], a factor per sample: as long as samples do
 * not meet, X(c) = diag(c) X(1), so X(1) is computed without c, and c enters only where samples are
 * summed. In a network's backward pass that leaves one product per weight matrix that depends on c;
 * its transpose, c̄_i = ⟨gradient of sample i, v⟩, needs no tangent of the network either.
 */
export function factorRows(program: Program, input: number): Program {
  const source = simplify(stripMarkers(program))
  const rows = scaledRows(source, input)
  return simplify(
    trace((...args) => {
      const c = args[input]
      // Of values that are diag(c) X: the tensors X.
      const unscaled = new Environment()
      const values = new Environment()
      values.set(source.inputs, args)
      unscaled.set([source.inputs[input]], [ops.onesLike(c)])
      const whole = (value: Value): Tensor =>
        rows.has(value.id)
          ? ops.mul(unscaled.get(value), column(c, value.shape))
          : values.get(value)
      for (const op of source.operations) {
        const scaled = rows.has(op.outputs[0].id)
        const inputs = scaled
          ? op.inputs.map((value) => (rows.has(value.id) ? unscaled : values).get(value))
          : op.inputs.map(whole)
        const target = scaled ? unscaled : values
        target.set(op.outputs, emit(op.name, inputs, op.attributes))
      }
      return source.outputs.map(whole)
    }, source.inputs),
  )
}

/**
 * Σ_i c_i h_i² of a program that computes Σ_i c_i h_i, element by element: squares of per-sample
 * gradients without these, since (Δᵀ A)'s terms δ_i a_iᵀ have the squares δ_i² (a_i²)ᵀ. null where
 * an output is not a single sum over samples (a parameter that is used twice).
 */
export function squareRows(program: Program, input: number): Program | null {
  const source = simplify(stripMarkers(program))
  const rows = scaledRows(source, input)
  const dependent = dependentOn(source, input)
  let exact = source.outputs.every((value) => dependent.has(value.id) && !rows.has(value.id))
  const result = trace((...args) => {
    const c = args[input]
    const values = new Environment()
    values.set(source.inputs, args)
    values.set([source.inputs[input]], [ops.onesLike(c)])
    for (const op of source.operations) {
      const summed = dependent.has(op.outputs[0].id) && !rows.has(op.outputs[0].id)
      const inputs = values.all(op.inputs)
      const squared = summed ? squares(op, inputs, rows, dependent, c) : null
      if (summed && !squared) exact = false
      values.set(op.outputs, squared ? [squared] : emit(op.name, inputs, op.attributes))
    }
    return values.all(source.outputs)
  }, source.inputs)
  return exact ? simplify(result) : null
}

/** The squares of a sum over samples, from X where diag(c) X is summed, or from squares. */
function squares(
  op: Operation,
  inputs: readonly Tensor[],
  rows: ReadonlySet<number>,
  dependent: ReadonlySet<number>,
  c: Tensor,
): Tensor | null {
  const scaled = op.inputs.map((value) => rows.has(value.id))
  const summed = op.inputs.map((value, i) => dependent.has(value.id) && !scaled[i])
  const square = (x: Tensor): Tensor => ops.mul(x, x)
  const { name, attributes } = op
  if (summed.some(Boolean)) {
    if (name === 'neg') return inputs[0]
    if (name === 'reshape' || name === 'transpose') return emit(name, inputs, attributes)[0]
    if (name === 'mul' && !(summed[0] && summed[1])) {
      return ops.mul(inputs[summed[0] ? 0 : 1], square(inputs[summed[0] ? 1 : 0]))
    }
    return null
  }
  if (name === 'reduce' && attributes.kind === 'sum') {
    const others = (attributes.axes as readonly number[]).filter((axis) => axis !== 0)
    const each = others.length > 0 ? ops.sum(inputs[0], others) : inputs[0]
    return ops.sum(ops.mul(square(each), column(c, each.shape)), [0])
  }
  if (name !== 'matmul' || op.outputs[0].shape.length !== 2 || (scaled[0] && scaled[1])) return null
  const contracted = scaled[0] ? attributes.transA === 1 : attributes.transB === 0
  if (!contracted) return null
  const factors = inputs.map((x, i) =>
    scaled[i] ? ops.mul(square(x), column(c, x.shape)) : square(x),
  )
  return emit('matmul', factors, attributes)[0]
}

/** c [B] along the first axis of a shape. */
function column(c: Tensor, shape: readonly number[]): Tensor {
  return ops.broadcastTo(ops.reshape(c, [c.shape[0], ...shape.slice(1).map(() => 1)]), shape)
}

function dependentOn(program: Program, input: number): Set<number> {
  const dependent = new Set([program.inputs[input].id])
  for (const op of program.operations) {
    if (!op.inputs.some((value) => dependent.has(value.id))) continue
    for (const value of op.outputs) dependent.add(value.id)
  }
  return dependent
}

/** Ids of the values that are diag(c) X with X free of c, as far as that can be proven. */
function scaledRows(program: Program, input: number): ReadonlySet<number> {
  const dependent = dependentOn(program, input)
  const rows = new Set([program.inputs[input].id])
  for (const op of program.operations) {
    const depends = op.inputs.map((value) => dependent.has(value.id))
    const scaled = op.inputs.map((value) => rows.has(value.id))
    const proven = depends.some(Boolean) && depends.every((is, i) => !is || scaled[i])
    if (proven && actsOnRows(op, scaled, program.inputs[input].shape[0], program)) {
      rows.add(op.outputs[0].id)
    }
  }
  return rows
}

/** True only where op(.., diag(c) X, ..) = diag(c) op(.., X, ..), row by row of the first axis. */
function actsOnRows(
  op: Operation,
  scaled: readonly boolean[],
  rows: number,
  program: Program,
): boolean {
  const [result] = op.outputs
  const { attributes } = op
  if (result.shape[0] !== rows || !isFloat(result.dtype)) return false
  switch (op.name) {
    case 'neg':
    case 'cast':
    case 'reshape':
      return true
    case 'add':
    case 'sub':
      return scaled.every(Boolean)
    case 'mul':
      return scaled.filter(Boolean).length === 1
    case 'div':
      return !scaled[1]
    case 'where':
      return [1, 2].every((i) => scaled[i] || isZero(op.inputs[i], program))
    case 'reduce':
      return attributes.kind === 'sum' && !(attributes.axes as readonly number[]).includes(0)
    case 'broadcast':
      return (attributes.axes as readonly number[])[0] === 0 && op.inputs[0].shape[0] === rows
    case 'transpose':
      return (attributes.perm as readonly number[])[0] === 0
    case 'matmul':
      return matmulKeepsRows(op, scaled)
    default:
      return false
  }
}

/** Rows of a matrix times a matrix, or a batch of matrices. */
function matmulKeepsRows(op: Operation, scaled: readonly boolean[]): boolean {
  const rank = op.outputs[0].shape.length
  if (op.inputs.length !== 2 || (scaled[0] && scaled[1])) return false
  const own = op.inputs[scaled[0] ? 0 : 1]
  if (own.shape.length !== rank) return false
  return rank > 2 || (scaled[0] && op.attributes.transA === 0)
}

function isZero(value: Value, program: Program): boolean {
  const source = program.operations.find((op) => op.outputs.includes(value))
  const data = source?.name === 'constant' ? (source.attributes.data as readonly number[]) : null
  return data?.every((x) => x === 0) ?? false
}
