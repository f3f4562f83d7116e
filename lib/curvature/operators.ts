import { requireArguments } from '../arguments.js'
import { orAborted, withProgress } from '../callbacks.js'
import type { Device } from '../device/device.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import type { FloatVector } from '../nn/layout.js'
import { requireOptions } from '../options.js'
import { DeviceOperator } from './native-operator.js'
import {
  allocate,
  type LinearOperator,
  type Precision,
  type ProductOptions,
  requireVectors,
  vectorLayout,
} from './operator.js'

/** A product written by the user: A v for a vector of n elements, which it must not change. */
export type ProductFunction = (
  v: FloatVector,
  options: { signal?: AbortSignal },
) => ArrayLike<number> | Promise<ArrayLike<number>>

/**
 * An operator from a function (synchronous or not). Results are checked at every call.
 *
 * @example
 * const laplacian = operatorFrom((v) => v.map((x, i) => 2 * x - (v[i - 1] ?? 0) - (v[i + 1] ?? 0)), 100)
 *
 * @throws ERR_ARGUMENT for a bad size; products throw ERR_OPERATOR for a result of wrong length or
 * with a NaN
 */
export function operatorFrom(
  product: ProductFunction,
  size: number,
  options: { dtype?: Precision; adjoint?: ProductFunction } = {},
): LinearOperator {
  requireArguments('operatorFrom()', { product, size })
  requireOptions('operatorFrom()', options, ['dtype', 'adjoint'])
  const { dtype = 'f64', adjoint } = options
  if (adjoint !== undefined) requireArguments('operatorFrom()', { adjoint })
  const run = async (
    f: ProductFunction,
    v: ArrayLike<number>,
    { signal }: ProductOptions,
  ): Promise<FloatVector> => {
    requireVectors(v, size, 1)
    throwIfAborted(signal)
    const argument = allocate(dtype, size)
    argument.set(v)
    const result = await orAborted(f(argument, { signal }), signal)
    throwIfAborted(signal)
    if (result?.length !== size) {
      throw new LosscapeError(
        'ERR_OPERATOR',
        `The operator returned ${result?.length ?? typeof result} elements, expected ${size}.`,
      )
    }
    const out = allocate(dtype, size)
    out.set(result)
    const bad = out.findIndex((x) => !Number.isFinite(x))
    if (bad >= 0) {
      throw new LosscapeError(
        'ERR_OPERATOR',
        `The operator returned ${out[bad]} at element ${bad}.`,
      )
    }
    return out
  }
  return {
    size,
    dtype,
    matvec: (v, o = {}) => run(product, v, o),
    adjoint: adjoint && ((v, o = {}) => run(adjoint, v, o)),
    async matmat(vs, count, o = {}) {
      requireVectors(vs, size, count)
      return withProgress(o, async (guarded) => {
        const out = allocate(dtype, size * count)
        for (let r = 0; r < count; r++) {
          const v = Array.prototype.slice.call(vs, r * size, (r + 1) * size)
          out.set(await run(product, v, guarded), r * size)
          guarded.onProgress?.(r + 1, count)
        }
        return out
      })
    },
  }
}

/**
 * A dense matrix, row-major n x n, as an operator on a device.
 * @throws ERR_SHAPE unless the length is a square
 */
export function denseOperator(
  device: Device,
  matrix: ArrayLike<number>,
  options: { dtype?: Precision } = {},
): DeviceOperator {
  requireArguments('denseOperator()', { device, matrix })
  requireOptions('denseOperator()', options, ['dtype'])
  const size = Math.round(Math.sqrt(matrix.length))
  if (size < 1 || size * size !== matrix.length) {
    throw new LosscapeError('ERR_SHAPE', `A square matrix has n² elements, got ${matrix.length}.`)
  }
  const { dtype = 'f64' } = options
  const layout = vectorLayout(size)
  const spaced = new Float64Array(layout.storage * layout.storage)
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) spaced[i * layout.storage + j] = matrix[i * size + j]
  }
  // The padding of device storage makes the matrix larger by rows and columns of zeros.
  const native = device.binding.createDenseOperator(spaced, layout.storage, dtype)
  return new DeviceOperator(device, native, layout, dtype)
}
