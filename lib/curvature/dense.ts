import { newArray } from '../allocation.js'
import { requireArguments } from '../arguments.js'
import { orAborted, withProgress } from '../callbacks.js'
import { defaultBinding } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import {
  allocate,
  isNative,
  type LinearOperator,
  type ProductOptions,
  requireProducts,
} from './operator.js'

/** Largest n for which the dense path is offered: 3.2 GB of float64. */
export const MAX_DENSE = 20_000

export interface DenseMatrix {
  /** Row-major n x n, symmetrised. */
  readonly matrix: Float64Array
  readonly size: number
  /** max |A - Aᵀ| / max |A| before symmetrising. */
  readonly asymmetry: number
}

const BLOCK = 16

/**
 * The whole matrix of an operator from n products, symmetrised.
 * @throws ERR_ARGUMENT when n exceeds 20 000
 */
export async function denseMatrix(
  operator: LinearOperator,
  options: ProductOptions = {},
): Promise<DenseMatrix> {
  requireArguments('denseMatrix()', { operator })
  requireOptions('denseMatrix()', options, ['signal', 'onProgress'])
  const n = operator.size
  if (n > MAX_DENSE) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `The dense matrix of n = ${n} parameters is too large (at most ${MAX_DENSE}): use lanczos() or slq().`,
    )
  }
  return withProgress(options, async ({ signal, onProgress }) => {
    const matrix = newArray(Float64Array, n * n, 'The dense matrix')
    for (let from = 0; from < n; from += BLOCK) {
      const count = Math.min(BLOCK, n - from)
      const unit = allocate(operator.dtype, count * n)
      for (let r = 0; r < count; r++) unit[r * n + from + r] = 1
      const columns = await orAborted(operator.matmat(unit, count, { signal }), signal)
      requireProducts(columns, count * n)
      matrix.set(columns, from * n)
      onProgress?.(from + count, n)
    }
    return { matrix, size: n, asymmetry: symmetrize(matrix, n) }
  })
}

function symmetrize(matrix: Float64Array, n: number): number {
  let largest = 0
  let difference = 0
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      const a = matrix[i * n + j]
      const b = matrix[j * n + i]
      largest = Math.max(largest, Math.abs(a), Math.abs(b))
      difference = Math.max(difference, Math.abs(a - b))
      matrix[i * n + j] = matrix[j * n + i] = (a + b) / 2
    }
  }
  return largest === 0 ? 0 : difference / largest
}

export interface ExactSpectrum {
  /** Ascending, all n. */
  readonly values: Float64Array
  /** Unit eigenvectors as rows, when asked for. */
  readonly vectors?: Float64Array
  readonly asymmetry: number
}

/**
 * All eigenvalues by the dense path: n products, then LAPACK's dsyevd in float64.
 * @throws ERR_ARGUMENT when n exceeds 20 000
 */
export async function exactSpectrum(
  operator: LinearOperator,
  options: ProductOptions & { vectors?: boolean } = {},
): Promise<ExactSpectrum> {
  requireOptions('exactSpectrum()', options, ['vectors', 'signal', 'onProgress'])
  const { vectors: wanted = false, ...hooks } = options
  const { matrix, size, asymmetry } = await denseMatrix(operator, hooks)
  const binding = isNative(operator) ? operator.device.binding : defaultBinding()
  const { values, vectors } = await withSignal(binding, options.signal, (token) =>
    binding.symmetricEigen(matrix, size, Boolean(wanted), { token }),
  )
  return { values, vectors, asymmetry }
}
