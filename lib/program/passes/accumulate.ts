import type { Operation, Program } from '../types.js'
import { makeOperation, producersOf, useCounts } from './rewrite.js'

/**
 * a b + c d as two products into one result: the second product takes the first as its addend and
 * accumulates in place (beta = 1), which saves a temporary and a pass over memory.
 */
export function accumulateProducts(program: Program): Program {
  const producers = producersOf(program)
  const uses = useCounts(program)
  const once = (op: Operation | undefined): op is Operation =>
    op?.name === 'matmul' && uses.get(op.outputs[0].id) === 1
  const dropped = new Set<Operation>()
  const replaced = new Map<Operation, Operation>()
  for (const op of program.operations) {
    if (op.name !== 'add') continue
    const [a, b] = op.inputs.map((value) => producers.get(value.id))
    if (!once(a) || !once(b) || a === b) continue
    const [base, onto] = b.inputs.length === 2 ? [a, b] : [b, a]
    if (onto.inputs.length !== 2) continue
    const product = makeOperation('matmul', [...onto.inputs, base.outputs[0]], onto.attributes)
    const merged = { ...product, outputs: op.outputs }
    dropped.add(onto)
    replaced.set(op, merged)
    // A longer sum finds the merged product behind this value.
    producers.set(op.outputs[0].id, merged)
  }
  if (dropped.size === 0) return program
  return {
    ...program,
    operations: program.operations
      .filter((op) => !dropped.has(op))
      .map((op) => replaced.get(op) ?? op),
  }
}
