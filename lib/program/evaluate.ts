import { argumentError, isVector, requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { definitionOf } from './registry.js'
import { elements } from './shape.js'
import { formatType, type Program } from './types.js'

/**
 * The float64 reference: runs a program in plain TypeScript, every floating-point type computed as
 * float64. Slow and clear; the oracle of every kernel and transform.
 *
 * @param inputs one array of elements per program input, row-major
 * @throws ERR_SHAPE when an input has the wrong length
 */
export function evaluate(program: Program, inputs: readonly ArrayLike<number>[]): Float64Array[] {
  requireArguments('evaluateReference()', { program, inputs })
  if (inputs.length !== program.inputs.length) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `The program takes ${program.inputs.length} inputs, got ${inputs.length}.`,
    )
  }
  const arrays = new Map<number, Float64Array>()
  for (const [i, value] of program.inputs.entries()) {
    if (!isVector(inputs[i])) {
      throw argumentError('evaluateReference()', `input ${i}`, 'an array of numbers', inputs[i])
    }
    if (inputs[i].length !== elements(value.shape)) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `Input ${i} is ${formatType(value)}, got ${inputs[i].length} elements.`,
      )
    }
    arrays.set(value.id, Float64Array.from(inputs[i]))
  }
  for (const op of program.operations) {
    const operands = op.inputs.map((value) => arrays.get(value.id) as Float64Array)
    const results = definitionOf(op.name).evaluate(operands, op.inputs, op.attributes, op.outputs)
    for (const [i, value] of op.outputs.entries()) arrays.set(value.id, results[i])
  }
  return program.outputs.map((value) => (arrays.get(value.id) as Float64Array).slice())
}
