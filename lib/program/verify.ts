import { requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { formatOperation } from './print.js'
import { definitionOf } from './registry.js'
import { sameShape } from './shape.js'
import type { Operation, Program, TensorType, Value } from './types.js'

/** They leave numbers as they are: what they make of an auxiliary result is one as well. */
const MOVES = new Set(['reshape', 'transpose', 'broadcast'])

/**
 * Checks that a program is legal: every value defined once and before its use, known operations,
 * result types as the shape rules say, auxiliary results read by their own family only (they may be
 * reshaped, transposed and repeated on the way).
 *
 * @throws ERR_PROGRAM with the text of the offending operation
 */
export function verify(program: Program): void {
  requireArguments('verify()', { program })
  const types = new Map<number, Value>()
  const auxiliary = new Map<number, string>()
  const define = (value: Value, where: string): void => {
    if (types.has(value.id)) fail(where, `value %${value.id} is defined twice`)
    types.set(value.id, value)
  }
  for (const value of program.inputs) define(value, 'inputs')
  for (const [position, op] of program.operations.entries()) {
    const where = `operation ${position}: ${formatOperation(op)}`
    for (const value of op.inputs) {
      const known = types.get(value.id)
      if (!known) fail(where, `value %${value.id} is read before it is defined`)
      else if (!sameType(known, value)) fail(where, `value %${value.id} changed its type`)
      const family = auxiliary.get(value.id)
      if (family && definitionOf(op.name).family !== family) {
        if (MOVES.has(op.name)) auxiliary.set(op.outputs[0].id, family)
        else fail(where, `an auxiliary result of '${family}' may only be read by that family`)
      }
    }
    checkTypes(op, where)
    const definition = definitionOf(op.name)
    for (const value of op.outputs) define(value, where)
    for (const i of definition.auxiliary ?? []) {
      auxiliary.set(op.outputs[i].id, definition.family ?? op.name)
    }
  }
  for (const value of program.outputs) {
    if (!types.has(value.id)) fail('outputs', `value %${value.id} is never defined`)
    if (auxiliary.has(value.id)) fail('outputs', `%${value.id} is an auxiliary result`)
  }
}

function checkTypes(op: Operation, where: string): void {
  // A fused formula is made with its result types by the pass; everything else has a rule.
  if (op.name === 'fused') return
  const expected = expectedTypes(op, where)
  const fits =
    expected.length === op.outputs.length &&
    expected.every((type, i) => sameType(type, op.outputs[i]))
  if (!fits) fail(where, `its result types do not follow from its operands`)
}

function expectedTypes(op: Operation, where: string): TensorType[] {
  try {
    return definitionOf(op.name).type(op.inputs, op.attributes)
  } catch (error) {
    return fail(where, error instanceof Error ? error.message : String(error))
  }
}

function sameType(a: TensorType, b: TensorType): boolean {
  return a.dtype === b.dtype && sameShape(a.shape, b.shape)
}

function fail(where: string, why: string): never {
  throw new LosscapeError('ERR_PROGRAM', `Illegal program at ${where}: ${why}.`)
}
