import { requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { definitionOf } from './registry.js'
import { emit, emitOne, withTrace } from './tensor.js'
import { Environment } from './trace.js'
import type { Program } from './types.js'

/**
 * The program over a leading axis of `size` that the inputs marked in `batched` get. Outputs that
 * depend on none of these are repeated, so that every output has the axis.
 *
 * @throws ERR_PROGRAM naming an operation that cannot be mapped; ERR_ARGUMENT for a bad size
 */
export function vmapProgram(program: Program, batched: readonly boolean[], size: number): Program {
  requireArguments('vmapProgram()', { program, selected: batched })
  if (!Number.isSafeInteger(size) || size < 1) {
    throw new LosscapeError('ERR_ARGUMENT', `vmap needs a positive size, got ${String(size)}.`)
  }
  if (batched.length !== program.inputs.length) {
    throw new LosscapeError(
      'ERR_PROGRAM',
      `Expected ${program.inputs.length} flags, one per input, got ${batched.length}.`,
    )
  }
  return withTrace((trace) => {
    const values = new Environment()
    const mapped = new Set<number>()
    for (const [i, value] of program.inputs.entries()) {
      const shape = batched[i] ? [size, ...value.shape] : value.shape
      values.set([value], [trace.input({ dtype: value.dtype, shape })])
      if (batched[i]) mapped.add(value.id)
    }
    for (const op of program.operations) {
      const inputs = values.all(op.inputs)
      const flags = op.inputs.map((value) => mapped.has(value.id))
      if (!flags.some(Boolean)) {
        values.set(op.outputs, emit(op.name, inputs, op.attributes))
        continue
      }
      const { vmap } = definitionOf(op.name)
      if (!vmap) {
        throw new LosscapeError('ERR_PROGRAM', `Operation '${op.name}' cannot be mapped by vmap.`)
      }
      values.set(op.outputs, vmap(inputs, flags, op.attributes, size))
      for (const value of op.outputs) mapped.add(value.id)
    }
    const outputs = program.outputs.map((value) => {
      const tensor = values.get(value)
      if (mapped.has(value.id)) return tensor
      return emitOne('broadcast', [tensor], {
        shape: [size, ...tensor.shape],
        axes: tensor.shape.map((_, axis) => axis + 1),
      })
    })
    return trace.finish(outputs)
  })
}
