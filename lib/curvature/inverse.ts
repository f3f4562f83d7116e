import { requireArguments } from '../arguments.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import type { FloatVector } from '../nn/layout.js'
import { requireOptions } from '../options.js'
import { allocate, EPSILON, isNative, type LinearOperator } from './operator.js'
import {
  finite,
  HostOperator,
  positives,
  stored,
  type WrappedOperator,
  wrapNative,
} from './wrap.js'

export interface InverseOptions {
  /** δ of (A + δ I)⁻¹. Default 0. */
  readonly damping?: number
  /**
   * Solved when ||b - (A + δ I) x|| ≤ max(tol ||b||, 10 eps ||A|| ||x||): what is below the second
   * is rounding. Default 1e-6 in f32, 1e-10 in f64.
   */
  readonly tol?: number
  /** Per right-hand side. Default 1000. */
  readonly maxIterations?: number
  /** Diagonal of a matrix near A + δ I, n positive numbers. Default none. */
  readonly preconditioner?: ArrayLike<number>
  /** Return what has been reached instead of an error. Default false. */
  readonly allowUnconverged?: boolean
}

/**
 * (A + δ I)⁻¹ of a symmetric operator, by conjugate gradients with sums in float64. Every product
 * costs one product of A per iteration, about √(condition number) of them, and one to see the true
 * residual. It is symmetric to `tol` only.
 *
 * Source: Hestenes and Stiefel 1952.
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE; products throw ERR_OPERATOR for a direction whose curvature is
 * not positive, and for a residual above `tol`
 */
export function inverse(operator: LinearOperator, options: InverseOptions = {}): WrappedOperator {
  requireOptions('inverse()', options, [
    ...(['damping', 'tol', 'maxIterations', 'preconditioner', 'allowUnconverged'] as const),
  ])
  requireArguments('inverse()', { operator })
  const { size, dtype } = operator
  if (operator.adjoint) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      'Conjugate gradients need a symmetric operator, and this one has an adjoint.',
    )
  }
  const damping = finite('damping', options.damping ?? 0)
  const tol = finite('tol', options.tol ?? (dtype === 'f32' ? 1e-6 : 1e-10))
  const maxIterations = options.maxIterations ?? 1000
  if (!(tol >= 0)) {
    throw new LosscapeError('ERR_ARGUMENT', `tol must not be negative, got ${tol}.`)
  }
  if (!Number.isInteger(maxIterations) || maxIterations < 1) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `maxIterations must be a positive integer, got ${maxIterations}.`,
    )
  }
  const setting = { damping, tol, maxIterations, allowUnconverged: !!options.allowUnconverged }
  const diagonal =
    options.preconditioner === undefined
      ? undefined
      : positives('The preconditioner', options.preconditioner, size)
  if (isNative(operator)) {
    return wrapNative(operator, {
      kind: 'inverse',
      operator: operator.native,
      ...setting,
      preconditioner: diagonal && stored(operator, diagonal, 1),
    })
  }
  return new HostOperator(size, dtype, async (vs, count, { signal, onProgress }) => {
    const out = allocate(dtype, vs.length)
    for (let r = 0; r < count; r++) {
      const b = vs.subarray(r * size, (r + 1) * size)
      out.set(await solve(operator, b, { ...setting, diagonal, signal }), r * size)
      onProgress?.(r + 1, count)
    }
    return out
  })
}

interface Setting {
  readonly damping: number
  readonly tol: number
  readonly maxIterations: number
  readonly allowUnconverged: boolean
  readonly diagonal?: Float64Array
  readonly signal?: AbortSignal
}

/** The same steps as native/runtime/inverse_operator.cc, for products that run in JavaScript. */
async function solve(
  operator: LinearOperator,
  b: FloatVector,
  setting: Setting,
): Promise<FloatVector> {
  const { damping, tol, maxIterations, signal } = setting
  const size = norm(b)
  const x = b.slice().fill(0)
  let r = b.slice()
  let residual = size
  let operatorNorm = 0
  let iterations = 0

  const product = async (v: FloatVector): Promise<FloatVector> => {
    throwIfAborted(signal)
    const av = await operator.matvec(v, { signal })
    return damping === 0 ? av : av.map((e, i) => e + damping * v[i])
  }
  const limit = (): number =>
    Math.max(tol * size, 10 * EPSILON[operator.dtype] * operatorNorm * norm(x))
  const scale = (v: FloatVector): FloatVector =>
    setting.diagonal ? v.map((e, i) => e / (setting.diagonal as Float64Array)[i]) : v.slice()

  async function iterate(): Promise<void> {
    const p = scale(r)
    let rz = dot(r, p)
    while (iterations < maxIterations) {
      const ap = await product(p)
      iterations++
      const length = norm(p)
      const energy = dot(p, ap)
      if (!(energy > 0)) {
        throw new LosscapeError(
          'ERR_OPERATOR',
          `Conjugate gradients found a direction of curvature ${energy / length ** 2}: A + damping I is not positive definite. Use a larger damping than ${damping}.`,
        )
      }
      operatorNorm = Math.max(operatorNorm, norm(ap) / length)
      const step = rz / energy
      for (let i = 0; i < x.length; i++) {
        x[i] += step * p[i]
        r[i] -= step * ap[i]
      }
      if (norm(r) <= limit()) return
      const z = scale(r)
      const next = dot(r, z)
      for (let i = 0; i < x.length; i++) p[i] = z[i] + (next / rz) * p[i]
      rz = next
    }
  }

  while (residual > limit()) {
    const before = residual
    if (iterations < maxIterations) {
      await iterate()
      const ax = await product(x)
      r = b.map((e, i) => e - ax[i])
      residual = norm(r)
      if (residual <= limit()) break
    }
    // What a restart from the true residual does not halve is rounding.
    if (iterations >= maxIterations || residual > 0.5 * before) {
      if (setting.allowUnconverged) break
      throw new LosscapeError(
        'ERR_OPERATOR',
        `Conjugate gradients stopped at a relative residual of ${(residual / size).toExponential(2)} after ${iterations} iterations, which is above tol = ${tol}. Raise maxIterations, damping or tol, use f64, or set allowUnconverged.`,
      )
    }
  }
  return x
}

function dot(a: FloatVector, b: FloatVector): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i]
  return sum
}

function norm(a: FloatVector): number {
  return Math.sqrt(dot(a, a))
}
