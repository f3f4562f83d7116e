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
  return simplify(
    trace((...args) => {
      const c = args[input]
      // Values that are diag(c) X: the tensors X.
      const unscaled = new Map<number, Tensor>([[source.inputs[input].id, ops.onesLike(c)]])
      const values = new Environment()
      values.set(source.inputs, args)
      const dependent = new Set<number>([source.inputs[input].id])

      const whole = (value: Value): Tensor => {
        const x = unscaled.get(value.id)
        if (!x) return values.get(value)
        const column = ops.reshape(c, [c.shape[0], ...value.shape.slice(1).map(() => 1)])
        return ops.mul(x, ops.broadcastTo(column, value.shape))
      }
      for (const op of source.operations) {
        const depends = op.inputs.map((value) => dependent.has(value.id))
        if (!depends.some(Boolean)) {
          values.set(op.outputs, emit(op.name, values.all(op.inputs), op.attributes))
          continue
        }
        for (const value of op.outputs) dependent.add(value.id)
        const scaled = op.inputs.map((value) => unscaled.has(value.id))
        const proven = depends.every((is, i) => !is || scaled[i])
        if (proven && actsOnRows(op, scaled, c.shape[0], source)) {
          const inputs = op.inputs.map((value) => unscaled.get(value.id) ?? values.get(value))
          const [result] = emit(op.name, inputs, op.attributes)
          unscaled.set(op.outputs[0].id, result)
        } else {
          values.set(op.outputs, emit(op.name, op.inputs.map(whole), op.attributes))
        }
      }
      return source.outputs.map(whole)
    }, source.inputs),
  )
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
