import { LosscapeError } from '../errors.js'
import { selectInputs, zeroLike } from './jvp.js'
import { definitionOf, type MaybeTensor } from './registry.js'
import { emit, emitOne, type Tensor, withTrace } from './tensor.js'
import { Environment } from './trace.js'
import { formatType, isFloat, type Operation, type Program, type Value } from './types.js'

/** Sums of cotangents per value of the program being differentiated. */
class Cotangents {
  private readonly tensors = new Map<number, Tensor>()

  get(value: Value): MaybeTensor {
    return this.tensors.get(value.id) ?? null
  }

  accumulate(value: Value, cotangent: Tensor): void {
    const sum = this.tensors.get(value.id)
    this.tensors.set(value.id, sum ? emitOne('add', [sum, cotangent]) : cotangent)
  }
}

/**
 * Reverse mode: from inputs (x.., ȳ..) to outputs (y.., x̄..) with x̄ = J(x)ᵀ ȳ. There is one
 * cotangent input per floating-point output, and one gradient per input marked in `wrt`.
 *
 * @throws ERR_PROGRAM naming the operation whose derivative does not exist
 */
export function vjpProgram(program: Program, wrt?: readonly boolean[]): Program {
  const selected = selectInputs(program, wrt)
  return withTrace((trace) => {
    const values = new Environment()
    values.set(
      program.inputs,
      program.inputs.map((value) => trace.input(value)),
    )
    replay(program, values)
    const cotangents = new Cotangents()
    for (const value of program.outputs) {
      if (isFloat(value.dtype)) cotangents.accumulate(value, trace.input(value))
    }
    pullBack(program, selected, values, cotangents)
    return trace.finish([
      ...values.all(program.outputs),
      ...gradients(program, selected, cotangents),
    ])
  })
}

/**
 * Value and gradient of the first output, a scalar: from inputs (x..) to (y.., x̄..). Further
 * outputs are carried along undifferentiated.
 *
 * @throws ERR_SHAPE when the first output is not a floating-point scalar
 */
export function gradProgram(program: Program, wrt?: readonly boolean[]): Program {
  const selected = selectInputs(program, wrt)
  const [loss] = program.outputs
  if (!loss || loss.shape.length !== 0 || !isFloat(loss.dtype)) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `A gradient needs a scalar floating-point first output, got ${loss ? formatType(loss) : 'no output'}. Reduce it with sum() or mean().`,
    )
  }
  return withTrace((trace) => {
    const values = new Environment()
    values.set(
      program.inputs,
      program.inputs.map((value) => trace.input(value)),
    )
    replay(program, values)
    const cotangents = new Cotangents()
    cotangents.accumulate(
      loss,
      emitOne('constant', [], { data: [1], dtype: loss.dtype, shape: [] }),
    )
    pullBack(program, selected, values, cotangents)
    return trace.finish([
      ...values.all(program.outputs),
      ...gradients(program, selected, cotangents),
    ])
  })
}

function replay(program: Program, values: Environment): void {
  for (const op of program.operations) {
    values.set(op.outputs, emit(op.name, values.all(op.inputs), op.attributes))
  }
}

/** Ids of values that depend on a selected input through floating-point values. */
function activeValues(program: Program, selected: readonly boolean[]): Set<number> {
  const active = new Set<number>()
  for (const [i, value] of program.inputs.entries()) if (selected[i]) active.add(value.id)
  for (const op of program.operations) {
    if (op.name === 'stop_gradient' || !op.inputs.some((value) => active.has(value.id))) continue
    for (const value of op.outputs) if (isFloat(value.dtype)) active.add(value.id)
  }
  return active
}

function pullBack(
  program: Program,
  selected: readonly boolean[],
  values: Environment,
  cotangents: Cotangents,
): void {
  const active = activeValues(program, selected)
  for (const op of [...program.operations].reverse()) {
    const needed = op.inputs.map((value) => active.has(value.id))
    const incoming = op.outputs.map((value) => cotangents.get(value))
    if (!needed.some(Boolean) || incoming.every((ct) => ct === null)) continue
    for (const [i, ct] of transposed(op, values, incoming, needed).entries()) {
      if (ct && needed[i]) cotangents.accumulate(op.inputs[i], ct)
    }
  }
}

function transposed(
  op: Operation,
  values: Environment,
  incoming: readonly MaybeTensor[],
  needed: readonly boolean[],
): readonly MaybeTensor[] {
  const { vjp } = definitionOf(op.name)
  if (!vjp) {
    throw new LosscapeError('ERR_PROGRAM', `Operation '${op.name}' has no reverse derivative.`)
  }
  const rule = {
    inputs: values.all(op.inputs),
    outputs: values.all(op.outputs),
    attributes: op.attributes,
  }
  return vjp(rule, incoming, needed)
}

function gradients(
  program: Program,
  selected: readonly boolean[],
  cotangents: Cotangents,
): Tensor[] {
  return program.inputs
    .filter((_, i) => selected[i])
    .map((value) => cotangents.get(value) ?? zeroLike(value))
}
