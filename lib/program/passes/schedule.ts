import { elements } from '../shape.js'
import type { Operation, Program, Value } from '../types.js'

/**
 * Moves operations to just before what first reads them where that lets less memory be alive in
 * between: a large result of small operands is made late. Gradients need it: the cotangent of a
 * product's first operand is made before that of its second, but often read long after it.
 */
export function scheduleLate(program: Program): Program {
  const { operations } = program
  const readers = readersOf(operations)
  const outputs = new Set(program.outputs.map((value) => value.id))
  const made = new Set(operations.flatMap((op) => op.outputs.map((value) => value.id)))
  // Positions in the new order. Of operations before the same reader the original order decides.
  const position = new Map(operations.map((op, i) => [op, i]))
  const step = 1 / (operations.length + 1)
  const placeOf = (op: Operation): number => position.get(op) as number
  const readAt = (value: Value): readonly number[] => (readers.get(value.id) ?? []).map(placeOf)

  for (const op of [...operations].reverse()) {
    if (op.outputs.some((value) => outputs.has(value.id))) continue
    const first = Math.min(...op.outputs.flatMap(readAt)) - step
    if (!Number.isFinite(first) || first <= placeOf(op)) continue
    const own = placeOf(op)
    const held = op.inputs.filter((value, i) => {
      if (!made.has(value.id) || outputs.has(value.id) || op.inputs.indexOf(value) !== i)
        return false
      return readAt(value).every((at) => at === own || at < first)
    })
    // A view of its operand is no memory of its own.
    const gain = op.name === 'reshape' ? 1 : bytes(op.outputs) - bytes(held)
    if (gain > 0) position.set(op, first)
  }
  const order = operations.map((op, i) => ({ op, i, at: placeOf(op) }))
  order.sort((a, b) => a.at - b.at || a.i - b.i)
  return { ...program, operations: order.map(({ op }) => op) }
}

function readersOf(operations: readonly Operation[]): Map<number, Operation[]> {
  const readers = new Map<number, Operation[]>()
  for (const op of operations) {
    for (const value of op.inputs) {
      const list = readers.get(value.id)
      if (list) list.push(op)
      else readers.set(value.id, [op])
    }
  }
  return readers
}

function bytes(values: readonly Value[]): number {
  return values.reduce(
    (sum, { dtype, shape }) =>
      sum + elements(shape) * (dtype === 'u8' ? 1 : dtype === 'f64' ? 8 : 4),
    0,
  )
}
