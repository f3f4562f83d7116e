import { describe, requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import type { FloatVector } from '../nn/layout.js'
import { requireOptions } from '../options.js'
import { allocate, type LinearOperator, oneOf, type Precision } from './operator.js'
import { operatorFrom } from './operators.js'

/** The gradient at θ, an array of its own for every call. */
export type GradientFunction = (
  theta: FloatVector,
  options: { signal?: AbortSignal },
) => ArrayLike<number> | Promise<ArrayLike<number>>

const STEP = { f32: 5e-3, f64: 6e-6 } as const

/**
 * The Hessian of a model of which only the gradient g can be had, by central differences:
 * A v ≈ (g(θ + h v̂) - g(θ - h v̂)) ||v|| / 2h with v̂ = v / ||v||, so that h is the length of the
 * step in parameter space whatever v is. Two gradients per product. The error is about
 * eps ||g|| / h + h² ||∇³ g|| / 6: prefer `hessian`, which has neither.
 *
 * The gradient must be deterministic (no dropout, no sampled batch); `checkOperator` tells.
 *
 * @param options.step h; default 6e-6 in f64, 5e-3 in f32
 * @param options.dtype of θ as the gradient sees it, and of the products. Default 'f64'
 * @throws ERR_ARGUMENT, ERR_NOT_FINITE; products throw ERR_OPERATOR for a gradient of wrong length
 * or with a NaN
 */
export function finiteDifference(
  gradient: GradientFunction,
  theta: ArrayLike<number>,
  options: { readonly step?: number; readonly dtype?: Precision } = {},
): LinearOperator {
  requireOptions('finiteDifference()', options, ['step', 'dtype'])
  requireArguments('finiteDifference()', { gradient, theta })
  const dtype = oneOf('dtype', options.dtype ?? 'f64', ['f32', 'f64'])
  const step = options.step ?? STEP[dtype]
  if (!(Number.isFinite(step) && step > 0)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `step must be a positive number, got ${describe(step)}.`,
    )
  }
  const origin = Float64Array.from(theta)
  const bad = origin.findIndex((x) => !Number.isFinite(x))
  if (bad >= 0) {
    throw new LosscapeError('ERR_NOT_FINITE', `Element ${bad} of theta is ${origin[bad]}.`)
  }

  const gradientAt = async (
    v: FloatVector,
    h: number,
    signal: AbortSignal | undefined,
  ): Promise<Float64Array> => {
    const at = allocate(dtype, origin.length)
    at.set(origin.map((x, i) => x + h * v[i]))
    const g = await gradient(at, { signal })
    if (g?.length !== origin.length) {
      throw new LosscapeError(
        'ERR_OPERATOR',
        `The gradient returned ${g?.length ?? typeof g} elements, expected ${origin.length}.`,
      )
    }
    // The next call may write to the same array.
    return Float64Array.from(g)
  }
  return operatorFrom(
    async (v, { signal }) => {
      const length = norm(v)
      if (length === 0) return v
      const ahead = await gradientAt(v, step / length, signal)
      const behind = await gradientAt(v, -step / length, signal)
      return ahead.map((x, i) => ((x - behind[i]) * length) / (2 * step))
    },
    origin.length,
    { dtype },
  )
}

function norm(v: FloatVector): number {
  let sum = 0
  for (let i = 0; i < v.length; i++) sum += v[i] * v[i]
  return Math.sqrt(sum)
}
