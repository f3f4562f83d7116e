import { requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import type { Program } from './types.js'

/** Names of all taps of a program, cotangents included, in order. */
export function tapNames(program: Program): string[] {
  requireArguments('tapNames()', { program })
  return program.operations
    .filter((op) => op.name === 'tap')
    .map((op) => op.attributes.name as string)
}

/**
 * The program with the values of these taps as further outputs, in the order asked. A name that
 * occurs several times (a function called twice) gives all of its values.
 *
 * @throws ERR_PROGRAM for a name that is not tapped, listing those that are
 */
export function withTaps(program: Program, names: readonly string[]): Program {
  const taps = program.operations.filter((op) => op.name === 'tap')
  const outputs = names.flatMap((name) => {
    const found = taps.filter((op) => op.attributes.name === name)
    if (found.length === 0) {
      const known = tapNames(program).join(', ') || 'none'
      throw new LosscapeError('ERR_PROGRAM', `There is no tap '${name}'; the taps are: ${known}.`)
    }
    return found.map((op) => op.outputs[0])
  })
  return { ...program, outputs: [...program.outputs, ...outputs] }
}
