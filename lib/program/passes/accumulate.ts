import type { Operation, Program, Value } from '../types.js'
import { makeOperation, producersOf, useCounts } from './rewrite.js'

/** Bilinear operations that take an addend as their third operand. */
const PRODUCTS: ReadonlySet<string> = new Set([
  'matmul',
  'convolution',
  'convolution_data',
  'convolution_weights',
])

/**
 * a b + c d as two products into one result: the second product takes the first as its addend and
 * accumulates in place (beta = 1), which saves a temporary and a pass over memory. The first may
 * come through a reshape, as products do whose leading axes were folded into rows or images.
 */
export function accumulateProducts(program: Program): Program {
  const producers = producersOf(program)
  const uses = useCounts(program)
  const usedOnce = (value: Value): boolean => uses.get(value.id) === 1
  /** The product behind a value that nothing else needs. */
  const productOf = (value: Value): Operation | null => {
    let op = producers.get(value.id)
    if (!usedOnce(value)) return null
    while (op?.name === 'reshape' && usedOnce(op.inputs[0])) op = producers.get(op.inputs[0].id)
    return op && PRODUCTS.has(op.name) ? op : null
  }
  const dropped = new Set<Operation>()
  const replaced = new Map<Operation, Operation>()
  for (const op of program.operations) {
    if (op.name !== 'add') continue
    const [a, b] = op.inputs
    const left = productOf(a)
    const right = productOf(b)
    if (left === null || right === null || left === right) continue
    const takesAddend = (product: Operation, value: Value): boolean =>
      product.inputs.length === 2 && product.outputs[0].id === value.id
    const [base, onto] = takesAddend(right, b) ? [a, right] : [b, left]
    if (!takesAddend(onto, onto === right ? b : a)) continue
    const product = makeOperation(onto.name, [...onto.inputs, base], onto.attributes)
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
