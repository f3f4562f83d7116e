import { allocate, type LinearOperator, type ProductOptions } from './operator.js'

/** Columns that share a pass over the data. */
const BLOCK = 16

/** The diagonal from n products of unit vectors; memory for a few columns only. */
export async function exactDiagonal(
  operator: LinearOperator,
  options: ProductOptions = {},
): Promise<Float64Array> {
  const n = operator.size
  const diagonal = new Float64Array(n)
  for (let from = 0; from < n; from += BLOCK) {
    const count = Math.min(BLOCK, n - from)
    const unit = allocate(operator.dtype, count * n)
    for (let r = 0; r < count; r++) unit[r * n + from + r] = 1
    const columns = await operator.matmat(unit, count, { signal: options.signal })
    for (let r = 0; r < count; r++) diagonal[from + r] = columns[r * n + from + r]
    options.onProgress?.(from + count, n)
  }
  return diagonal
}
