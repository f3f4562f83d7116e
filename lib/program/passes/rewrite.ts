import { definitionOf } from '../registry.js'
import { type Attributes, newValue, type Operation, type Program, type Value } from '../types.js'

/** Follows values to what they were replaced by, while a pass walks a program. */
export class Substitution {
  private readonly replacement = new Map<number, Value>()

  replace(value: Value, by: Value): void {
    this.replacement.set(value.id, by)
  }

  resolve(value: Value): Value {
    return this.replacement.get(value.id) ?? value
  }

  all(values: readonly Value[]): readonly Value[] {
    return values.some((value) => this.replacement.has(value.id))
      ? values.map((value) => this.resolve(value))
      : values
  }
}

/** An operation made by a pass, with fresh result values. */
export function makeOperation(
  name: string,
  inputs: readonly Value[],
  attributes: Attributes = {},
): Operation {
  const outputs = definitionOf(name).type(inputs, attributes).map(newValue)
  return { name, inputs, outputs, attributes }
}

/**
 * Walks a program once. `visit` sees each operation with its operands already replaced, and
 * returns what stands in its place: the values for its results, and operations to append.
 * Returning null keeps the operation.
 */
export function rewrite(
  program: Program,
  visit: (op: Operation, append: (op: Operation) => Operation) => readonly Value[] | null,
): Program {
  const substitution = new Substitution()
  const operations: Operation[] = []
  const append = (op: Operation): Operation => {
    operations.push(op)
    return op
  }
  for (const original of program.operations) {
    const inputs = substitution.all(original.inputs)
    const op = inputs === original.inputs ? original : { ...original, inputs }
    const results = visit(op, append)
    if (!results) {
      operations.push(op)
      continue
    }
    for (const [i, value] of original.outputs.entries()) {
      if (results[i].id !== value.id) substitution.replace(value, results[i])
    }
  }
  return { ...program, operations, outputs: substitution.all(program.outputs) }
}

/** For every value, the operation that makes it. */
export function producersOf(program: Program): Map<number, Operation> {
  const producers = new Map<number, Operation>()
  for (const op of program.operations) for (const value of op.outputs) producers.set(value.id, op)
  return producers
}

/** How often each value is read, by operations and as an output. */
export function useCounts(program: Program): Map<number, number> {
  const counts = new Map<number, number>()
  const count = (value: Value): void => {
    counts.set(value.id, (counts.get(value.id) ?? 0) + 1)
  }
  for (const op of program.operations) op.inputs.forEach(count)
  program.outputs.forEach(count)
  return counts
}
