import { requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import type { FloatVector } from '../nn/layout.js'
import { requireOptions } from '../options.js'
import { allocate, isNative, type LinearOperator, type ProductOptions } from './operator.js'
import {
  adjointOf,
  allNative,
  type BlockProduct,
  finite,
  HostOperator,
  numbers,
  positives,
  stored,
  type WrappedOperator,
  wrapNative,
} from './wrap.js'

/** One term f A of a sum; f defaults to 1. */
export interface SumTerm {
  readonly operator: LinearOperator
  readonly factor?: number
}

/** One term c u uᵀ of a sum; c defaults to 1. */
export interface RankOneTerm {
  readonly vector: ArrayLike<number>
  readonly factor?: number
}

/**
 * A + σ I. Native where A is, like every wrapper here: algorithms then run without coming back to
 * JavaScript. Wrappers share what they wrap and do not dispose it.
 *
 * @throws ERR_ARGUMENT unless σ is finite
 */
export function shifted(operator: LinearOperator, sigma: number): WrappedOperator {
  requireArguments('shifted()', { operator })
  return linearCombination([{ operator, factor: 1 }], finite('sigma', sigma), [])
}

/** c A. Throws ERR_ARGUMENT unless c is finite. */
export function scaled(operator: LinearOperator, factor: number): WrappedOperator {
  requireArguments('scaled()', { operator })
  return linearCombination([{ operator, factor: finite('factor', factor) }], 0, [])
}

/** -A, whose largest eigenvalues are the smallest of A. */
export function negated(operator: LinearOperator): WrappedOperator {
  return scaled(operator, -1)
}

/**
 * Σ f_i A_i + Σ c_j u_j u_jᵀ of operators of one size and precision. Cost of a product: one of
 * every A_i and 4 n operations per rank-one term.
 *
 * @example
 * const covariance = summed([{ operator: secondMoment }], { rankOne: [{ vector: mean, factor: -1 }] })
 *
 * @throws ERR_ARGUMENT without operators, ERR_SHAPE for sizes that differ, ERR_DTYPE for
 * precisions that differ, ERR_NOT_FINITE
 */
export function summed(
  terms: readonly SumTerm[],
  options: { readonly rankOne?: readonly RankOneTerm[] } = {},
): WrappedOperator {
  requireOptions('summed()', options, ['rankOne'])
  const { rankOne = [] } = options
  requireArguments('summed()', { terms, rankOne })
  for (const term of terms) requireArguments('summed()', { operator: term?.operator })
  if (terms.length === 0) {
    throw new LosscapeError('ERR_ARGUMENT', 'A sum needs at least one operator.')
  }
  const { size, dtype } = terms[0].operator
  for (const { operator } of terms) {
    if (operator.size !== size) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `Operators of a sum need one size, got n = ${size} and n = ${operator.size}.`,
      )
    }
    if (operator.dtype !== dtype) {
      throw new LosscapeError(
        'ERR_DTYPE',
        `Operators of a sum need one precision, got ${dtype} and ${operator.dtype}.`,
      )
    }
  }
  return linearCombination(
    terms.map(({ operator, factor = 1 }) => ({ operator, factor: finite('factor', factor) })),
    0,
    rankOne.map((term) => ({
      vector: numbers('A rank-one vector', term?.vector, size),
      factor: finite('factor', term.factor ?? 1),
    })),
  )
}

function linearCombination(
  terms: readonly Required<SumTerm>[],
  identity: number,
  rankOne: readonly { vector: Float64Array; factor: number }[],
): WrappedOperator {
  const operators = terms.map(({ operator }) => operator)
  const native = allNative(operators)
  if (native) {
    return wrapNative(native[0], {
      kind: 'sum',
      terms: terms.map(({ factor }, i) => ({ operator: native[i].native, factor })),
      identity,
      rankOne: rankOne.map(({ vector, factor }) => ({ vector: stored(native[0], vector), factor })),
    })
  }
  const { size, dtype } = operators[0]
  const combine =
    (products: readonly BlockProduct[]): BlockProduct =>
    async (vs, count, options) => {
      const sums = Float64Array.from(vs, (x) => identity * x)
      for (const [i, product] of products.entries()) {
        const part = await product(vs, count, share(options, i, products.length))
        for (let e = 0; e < sums.length; e++) sums[e] += terms[i].factor * part[e]
      }
      for (const { vector, factor } of rankOne) {
        for (let at = 0; at < sums.length; at += size) {
          let dot = 0
          for (let e = 0; e < size; e++) dot += vector[e] * vs[at + e]
          for (let e = 0; e < size; e++) sums[at + e] += factor * dot * vector[e]
        }
      }
      const out = allocate(dtype, sums.length)
      out.set(sums)
      return out
    }
  const adjoint = operators.some((operator) => operator.adjoint)
    ? combine(operators.map((operator) => adjointOf(operator) ?? productOf(operator)))
    : undefined
  return new HostOperator(size, dtype, combine(operators.map(productOf)), adjoint)
}

/** A², or AᵀA where A has an adjoint. Cost of a product: two of A. */
export function squared(operator: LinearOperator): WrappedOperator {
  requireArguments('squared()', { operator })
  if (isNative(operator)) {
    return wrapNative(operator, { kind: 'square', operator: operator.native })
  }
  const first = productOf(operator)
  const second = adjointOf(operator) ?? first
  return new HostOperator(operator.size, operator.dtype, async (vs, count, options) =>
    second(await first(vs, count, share(options, 0, 2)), count, share(options, 1, 2)),
  )
}

/**
 * P A P, where P keeps the elements whose mask is 1 and zeroes the others: the principal block of A
 * in the size of the whole. The mask is n numbers 0 or 1, a pattern of parameter names
 * (`layers.0.*,!*.bias`) or a list of names. Unlike the option `params` of an operator it skips no
 * work, and adds one eigenvalue 0 per element left out.
 *
 * @throws ERR_ARGUMENT for other elements, unknown names, or names for an operator that has none
 */
export function masked(
  operator: LinearOperator,
  mask: ArrayLike<number | boolean> | string | readonly string[],
): WrappedOperator {
  requireArguments('masked()', { operator })
  return congruence(operator, maskOf(operator, mask))
}

/**
 * D^-1/2 A D^-1/2 for a positive diagonal D of n numbers: the spectrum that an optimiser
 * preconditioned with D sees.
 *
 * @throws ERR_SHAPE, ERR_NOT_FINITE, ERR_ARGUMENT unless every element is positive
 */
export function preconditioned(
  operator: LinearOperator,
  diagonal: ArrayLike<number>,
): WrappedOperator {
  requireArguments('preconditioned()', { operator })
  const d = positives('The diagonal', diagonal, operator.size)
  return congruence(
    operator,
    d.map((x) => 1 / Math.sqrt(x)),
  )
}

function congruence(operator: LinearOperator, diagonal: Float64Array): WrappedOperator {
  if (isNative(operator)) {
    const spec = { operator: operator.native, diagonal: stored(operator, diagonal) }
    return wrapNative(operator, { kind: 'congruence', ...spec })
  }
  const { size, dtype } = operator
  const d = allocate(dtype, size)
  d.set(diagonal)
  const multiply = (vs: FloatVector): FloatVector => vs.map((x, i) => d[i % size] * x)
  const around =
    (product: BlockProduct): BlockProduct =>
    async (vs, count, options) =>
      multiply(await product(multiply(vs), count, options))
  const adjoint = adjointOf(operator)
  return new HostOperator(size, dtype, around(productOf(operator)), adjoint && around(adjoint))
}

function maskOf(
  operator: LinearOperator,
  mask: ArrayLike<number | boolean> | string | readonly string[],
): Float64Array {
  if (typeof mask === 'string' || (Array.isArray(mask) && typeof mask[0] === 'string')) {
    if (!isNative(operator)) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        'This operator has no parameter names: give the mask as n numbers 0 or 1.',
      )
    }
    const { layout } = operator
    const out = new Float64Array(operator.size)
    const names = typeof mask === 'string' ? layout.match(mask) : (mask as readonly string[])
    for (const name of names) layout.view(out, name).fill(1)
    return out
  }
  const out = numbers('The mask', mask as ArrayLike<number>, operator.size)
  const bad = out.findIndex((x) => x !== 0 && x !== 1)
  if (bad >= 0) {
    throw new LosscapeError('ERR_ARGUMENT', `A mask holds 0 and 1; element ${bad} is ${out[bad]}.`)
  }
  return out
}

function productOf(operator: LinearOperator): BlockProduct {
  return (vs, count, options) => operator.matmat(vs, count, options)
}

/** Progress of part `part` of `parts` products that make up one. */
function share(options: ProductOptions, part: number, parts: number): ProductOptions {
  const { signal, onProgress } = options
  return {
    signal,
    onProgress: onProgress && ((done, total) => onProgress(part * total + done, parts * total)),
  }
}
