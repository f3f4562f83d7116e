import { sameShape } from '../shape.js'
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
 * come through a reshape, as products do whose leading axes were folded into rows or images. Two
 * small matrix products become one operation, `matmul_pair`, whose sums stay in registers.
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
    return op && (PRODUCTS.has(op.name) || op.name === 'matmul_pair') ? op : null
  }
  const dropped = new Set<Operation>()
  const replaced = new Map<Operation, readonly Operation[]>()
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
    const pair = pairOf(onto === right ? left : right, onto)
    if (pair) dropPath(base, producers, dropped)
    const made = pair ?? [makeOperation(onto.name, [...onto.inputs, base], onto.attributes)]
    const merged = { ...made[made.length - 1], outputs: op.outputs }
    dropped.add(onto)
    replaced.set(op, [...made.slice(0, -1), merged])
    // A longer sum finds the merged product behind this value.
    producers.set(op.outputs[0].id, merged)
  }
  if (dropped.size === 0) return program
  return {
    ...program,
    operations: program.operations
      .filter((op) => !dropped.has(op))
      .flatMap((op) => replaced.get(op) ?? [op]),
  }
}

/** Drops the product behind a value, and the reshapes between. */
function dropPath(
  value: Value,
  producers: ReadonlyMap<number, Operation>,
  dropped: Set<Operation>,
): void {
  let op = producers.get(value.id) as Operation
  dropped.add(op)
  while (op.name === 'reshape') {
    op = producers.get(op.inputs[0].id) as Operation
    dropped.add(op)
  }
}

/** Columns up to which products run in the kernel that can add two of them. */
const PAIR_COLUMNS = 32

/**
 * One operation for both products, behind the reshape that it needs, or null. Not for large ones:
 * the operands of the first would have to live longer.
 */
function pairOf(first: Operation, second: Operation): Operation[] | null {
  if (first.name !== 'matmul' || second.name !== 'matmul' || first.inputs.length !== 2) return null
  if (first.attributes.transA !== second.attributes.transA) return null
  const [{ shape, dtype }] = second.outputs
  const columns = shape[shape.length - 1]
  if ((dtype !== 'f32' && dtype !== 'f64') || columns > PAIR_COLUMNS) return null
  const [a, b] = first.inputs
  const reshapes: Operation[] = []
  let rows = a
  if (!sameShape(first.outputs[0].shape, shape)) {
    // Leading axes that were folded into rows come back.
    const folded = first.attributes.transA !== 1 && a.shape.length === 2 && b.shape.length === 2
    if (!folded || first.outputs[0].shape[1] !== columns) return null
    reshapes.push(makeOperation('reshape', [a], { shape: [...shape.slice(0, -1), a.shape[1]] }))
    rows = reshapes[0].outputs[0]
  }
  const { transA: transA2, transB: transB2 } = second.attributes
  const attributes = { ...first.attributes, transA2, transB2 }
  return [...reshapes, makeOperation('matmul_pair', [rows, b, ...second.inputs], attributes)]
}
