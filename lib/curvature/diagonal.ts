import { requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import { requireOptions } from '../options.js'
import { checkOnce } from './check.js'
import {
  diagPlusPlus,
  hutchinsonDiagonal,
  type SketchedDiagonal,
  xdiag,
} from './diagonal-sketch.js'
import { exactDiagonal } from './exact-diagonal.js'
import { type LinearOperator, requireFinite } from './operator.js'
import { chooseMethod } from './sketch-budget.js'
import { scaled } from './wrappers.js'

export type DiagonalMethod = 'hutchinson' | 'xdiag' | 'diag++' | 'exact'

export interface DiagonalOptions {
  /**
   * Default: 'exact' when n <= products; otherwise 'xdiag' when its vectors fit in `memory`, else
   * 'hutchinson'.
   */
  readonly method?: DiagonalMethod
  /** Products. Default 100; 'exact' makes n. */
  readonly products?: number
  /** Default 0. Probes are Rademacher vectors, whose squares are 1. */
  readonly seed?: number
  /**
   * Probe symmetry and determinism before 'xdiag' and 'diag++', once per operator. Default true.
   * It also shows what size the products have: without it those of f64 must lie within 1e±150.
   */
  readonly check?: boolean
  /** Bytes for the vectors of a sketch: XDiag 3/2 and Diag++ 1 per product. Default 1 GiB. */
  readonly memory?: number
  readonly signal?: AbortSignal
  readonly onProgress?: (done: number, products: number) => void
}

export interface OperatorDiagonal extends SketchedDiagonal {
  readonly method: DiagonalMethod
}

const METHODS = {
  probes: 'hutchinson',
  leaveOneOut: 'xdiag',
  thirds: 'diag++',
  columns: 'exact',
} as const

/**
 * The diagonal of a symmetric operator, with a standard error for every element.
 *
 * - 'hutchinson': mean of z ∘ A z. Variance of element i: Σ_{j≠i} a_ij² / q.
 * - 'xdiag': leave-one-out (see {@link xdiag}); exact when rank A < products / 2.
 * - 'diag++': exact on a sketched subspace, Hutchinson on the rest; exact when rank < products / 3.
 *
 * The sketches gain when few eigenvectors carry the off-diagonal part, and lose otherwise, because
 * they leave fewer products for the rest.
 *
 * @example
 * const { values, standardErrors } = await diagonal(gaussNewton(device, model, theta, set))
 *
 * @throws ERR_ARGUMENT, ERR_ABORTED, ERR_OUT_OF_MEMORY
 */
export async function diagonal(
  operator: LinearOperator,
  options: DiagonalOptions = {},
): Promise<OperatorDiagonal> {
  requireArguments('diagonal()', { operator })
  requireOptions('diagonal()', options, [
    ...(['method', 'products', 'seed', 'memory', 'check', 'signal', 'onProgress'] as const),
  ])
  const { products = 100 } = options
  const method = chooseMethod<DiagonalMethod>(operator, METHODS, { ...options, products })
  const sketched = method === 'xdiag' || method === 'diag++'
  const check = sketched && (options.check ?? true)
  const scale = check ? (await checkOnce(operator, options.signal)).scale : 1
  const diagonal = await withProgress(options, async (guarded) => {
    const factor = operator.dtype === 'f64' ? intoRange(scale) : 1
    if (factor === 1) return byMethod(operator, method, products, guarded)
    const { values, standardErrors, ...rest } = await byMethod(
      ...([scaled(operator, factor), method, products, guarded] as const),
    )
    return {
      ...rest,
      values: values.map((x) => x / factor),
      standardErrors: standardErrors.map((x) => x / factor),
    }
  })
  requireFinite(diagonal.values)
  return diagonal
}

/**
 * The power of two that brings f64 products to the size of 1 where their squares may leave the range
 * of f64. It holds all squares of f32.
 */
function intoRange(scale: number): number {
  if (scale === 0 || (scale > 1e-100 && scale < 1e100)) return 1
  return 2 ** Math.max(-1000, Math.min(1000, -Math.round(Math.log2(scale))))
}

async function byMethod(
  operator: LinearOperator,
  method: DiagonalMethod,
  products: number,
  { seed, signal, onProgress }: DiagonalOptions,
): Promise<OperatorDiagonal> {
  if (method === 'exact') {
    const values = await exactDiagonal(operator, { signal, onProgress })
    const standardErrors = new Float64Array(values.length)
    return { method, values, standardErrors, products: operator.size, exact: true }
  }
  const onProducts = onProgress && ((done: number) => onProgress(done, products))
  const estimate = { hutchinson: hutchinsonDiagonal, xdiag, 'diag++': diagPlusPlus }[method]
  return { method, ...(await estimate(operator, products, { seed, signal, onProducts })) }
}
