import { LosscapeError } from '../errors.js'
import { jvpProgram } from './jvp.js'
import type { Tensor } from './tensor.js'
import { inline, outputList, subprogram, type TracedFunction, trace } from './trace.js'
import { isFloat } from './types.js'
import { gradProgram, vjpProgram } from './vjp.js'
import { vmapProgram } from './vmap.js'

/** Which arguments to differentiate: an index, several, or (default) the first. */
export type ArgumentSelection = number | readonly number[]

function flags(args: readonly Tensor[], selection: ArgumentSelection): boolean[] {
  const chosen = typeof selection === 'number' ? [selection] : selection
  for (const i of chosen) {
    if (!Number.isInteger(i) || i < 0 || i >= args.length) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `There is no argument ${i}: the function got ${args.length}.`,
      )
    }
  }
  return args.map((_, i) => chosen.includes(i))
}

function unwrap(tensors: readonly Tensor[], single: boolean): Tensor | readonly Tensor[] {
  return single ? tensors[0] : tensors
}

/**
 * The gradient of a scalar function: `grad(f)(x)` = df/dx. With several selected arguments a list
 * in their order. For use inside a traced function.
 *
 * @example
 * const program = trace((x) => grad((t) => sum(mul(t, t)))(x), [[3]])
 */
export function grad(
  f: TracedFunction,
  selection: ArgumentSelection = 0,
): (...args: Tensor[]) => Tensor | readonly Tensor[] {
  return (...args) => valueAndGrad(f, selection)(...args).gradient
}

/** Value and gradient of a scalar function in one pass. */
export function valueAndGrad(
  f: TracedFunction,
  selection: ArgumentSelection = 0,
): (...args: Tensor[]) => { value: Tensor; gradient: Tensor | readonly Tensor[] } {
  return (...args) => {
    const program = subprogram(f, args)
    const results = inline(gradProgram(program, flags(args, selection)), args)
    return {
      value: results[0],
      gradient: unwrap(results.slice(program.outputs.length), typeof selection === 'number'),
    }
  }
}

/** Directional derivative: values f(x) and tangents J(x) ẋ, for floating-point arguments. */
export function jvp(
  f: TracedFunction,
  primals: readonly Tensor[],
  tangents: readonly (Tensor | null)[],
): { values: readonly Tensor[]; tangents: readonly Tensor[] } {
  const program = subprogram(f, primals)
  const selected = primals.map((_, i) => Boolean(tangents[i]))
  const given = tangents.filter((t): t is Tensor => t !== null)
  const results = inline(jvpProgram(program, selected), [...primals, ...given])
  const n = program.outputs.length
  return { values: results.slice(0, n), tangents: results.slice(n) }
}

/**
 * Values f(x) and the linear map from tangents ẋ (one per floating-point argument, null for zero) to
 * J(x) ẋ. Everything that does not depend on the tangent is shared by all of its uses; to run the
 * two parts apart, trace f and see `linearizeProgram`.
 */
export function linearize(
  f: TracedFunction,
  primals: readonly Tensor[],
): {
  values: readonly Tensor[]
  pushforward: (tangents: readonly (Tensor | null)[]) => readonly Tensor[]
} {
  const program = subprogram(f, primals)
  return {
    values: inline(program, primals),
    pushforward: (tangents) => {
      const selected = primals.map((_, i) => Boolean(tangents[i]))
      const given = tangents.filter((t): t is Tensor => t !== null)
      const results = inline(jvpProgram(program, selected), [...primals, ...given])
      return results.slice(program.outputs.length)
    },
  }
}

/** Values f(x) and the map from cotangents ȳ (one per floating-point output) to J(x)ᵀ ȳ. */
export function vjp(
  f: TracedFunction,
  primals: readonly Tensor[],
  selection: ArgumentSelection = primals.map((_, i) => i).filter((i) => isFloat(primals[i].dtype)),
): {
  values: readonly Tensor[]
  pullback: (cotangents: Tensor | readonly Tensor[]) => readonly Tensor[]
} {
  const program = subprogram(f, primals)
  const transposed = vjpProgram(program, flags(primals, selection))
  return {
    values: inline(program, primals),
    pullback: (cotangents) =>
      inline(transposed, [...primals, ...outputList(cotangents)]).slice(program.outputs.length),
  }
}

/**
 * The product of the Hessian of a scalar function with a vector, d/dε grad f(x + ε v), forward
 * over reverse: `hessianVectorProduct(f)([x], [v])`. Further arguments of f are constants.
 */
export function hessianVectorProduct(
  f: TracedFunction,
): (primals: readonly Tensor[], vectors: readonly Tensor[]) => readonly Tensor[] {
  return (primals, vectors) => {
    const selection = vectors.map((_, i) => i)
    const gradient: TracedFunction = (...args) => outputList(grad(f, selection)(...args))
    const tangents = primals.map((_, i) => vectors[i] ?? null)
    return jvp(gradient, primals, tangents).tangents
  }
}

/**
 * f over a leading axis of its arguments; `axes[i]` null leaves argument i unmapped (default: all
 * mapped). Every result has the axis.
 */
export function vmap(f: TracedFunction, axes?: readonly (0 | null)[]): TracedFunction {
  return (...args) => {
    const mapped = args.map((_, i) => (axes ? axes[i] === 0 : true))
    const sizes = new Set(args.filter((_, i) => mapped[i]).map((t) => t.shape[0]))
    if (sizes.size !== 1 || args.some((t, i) => mapped[i] && t.rank === 0)) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `vmap needs mapped arguments with one common leading size, got ${args.map((t) => `[${t.shape}]`).join(', ')}.`,
      )
    }
    const rows = args.map((t, i) => ({
      dtype: t.dtype,
      shape: mapped[i] ? t.shape.slice(1) : t.shape,
    }))
    const [size] = sizes
    const program = vmapProgram(trace(f, rows), mapped, size)
    return inline(program, args)
  }
}
