import { requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { definitionOf, type MaybeTensor } from './registry.js'
import { emit, emitOne, type Tensor, withTrace } from './tensor.js'
import { Environment } from './trace.js'
import { formatType, isFloat, type Operation, type Program, type Value } from './types.js'

/** Zero tangents are absent from the map. */
class Tangents {
  private readonly tensors = new Map<number, Tensor>()

  get(value: Value): MaybeTensor {
    return this.tensors.get(value.id) ?? null
  }

  set(value: Value, tangent: MaybeTensor): void {
    if (tangent) this.tensors.set(value.id, tangent)
  }
}

export function zeroLike(value: Value): Tensor {
  return emitOne('constant', [], { data: [0], dtype: value.dtype, shape: value.shape })
}

/** Checks the selection of inputs to differentiate; default: all floating-point inputs. */
export function selectInputs(program: Program, wrt?: readonly boolean[]): boolean[] {
  requireArguments('A transform', { program, ...(wrt && { selected: wrt }) })
  const selected = wrt ? [...wrt] : program.inputs.map((value) => isFloat(value.dtype))
  if (selected.length !== program.inputs.length) {
    throw new LosscapeError(
      'ERR_PROGRAM',
      `Expected ${program.inputs.length} flags, one per input, got ${selected.length}.`,
    )
  }
  for (const [i, value] of program.inputs.entries()) {
    if (selected[i] && !isFloat(value.dtype)) {
      throw new LosscapeError(
        'ERR_DTYPE',
        `Input ${i} is ${formatType(value)} and cannot be differentiated.`,
      )
    }
  }
  return selected
}

/**
 * Forward mode: from inputs (x.., ẋ..) to outputs (y.., ẏ..) with ẏ = J(x) ẋ. Tangents are taken
 * for the inputs marked in `wrt` (default: all floating-point ones), in their order.
 * Integer outputs have no tangent.
 *
 * @throws ERR_PROGRAM naming the operation whose derivative does not exist
 */
export function jvpProgram(program: Program, wrt?: readonly boolean[]): Program {
  const selected = selectInputs(program, wrt)
  return withTrace((trace) => {
    const values = new Environment()
    const tangents = new Tangents()
    values.set(
      program.inputs,
      program.inputs.map((value) => trace.input(value)),
    )
    for (const [i, value] of program.inputs.entries()) {
      if (selected[i]) tangents.set(value, trace.input(value))
    }
    for (const op of program.operations) pushForward(op, values, tangents)
    const differentiable = program.outputs.filter((value) => isFloat(value.dtype))
    return trace.finish([
      ...values.all(program.outputs),
      ...differentiable.map((value) => tangents.get(value) ?? zeroLike(value)),
    ])
  })
}

function pushForward(op: Operation, values: Environment, tangents: Tangents): void {
  const inputs = values.all(op.inputs)
  const outputs = emit(op.name, inputs, op.attributes)
  values.set(op.outputs, outputs)
  const incoming = op.inputs.map((value) => tangents.get(value))
  if (incoming.every((t) => t === null)) return
  const { jvp } = definitionOf(op.name)
  if (!jvp) {
    throw new LosscapeError('ERR_PROGRAM', `Operation '${op.name}' has no forward derivative.`)
  }
  const outgoing = jvp({ inputs, outputs, attributes: op.attributes }, incoming)
  for (const [i, value] of op.outputs.entries()) tangents.set(value, outgoing[i] ?? null)
}
