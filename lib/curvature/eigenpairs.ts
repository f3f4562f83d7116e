import { describe } from '../arguments.js'
import { defaultBinding } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import { LosscapeError } from '../errors.js'
import type { FloatVector } from '../nn/layout.js'
import { EPSILON, isNative, type LinearOperator } from './operator.js'
import { spaceOf, type VectorBlock, type VectorSpace } from './space.js'

/** What the iterations on blocks of vectors return. */
export interface Eigenpairs {
  /** Descending. */
  readonly values: Float64Array
  /** ||A y - θ y|| of each, rounding included: there is an eigenvalue within this distance. */
  readonly residuals: Float64Array
  readonly converged: readonly boolean[]
  /** Unit Ritz vectors in the order of the values. */
  readonly vectors: readonly FloatVector[]
  readonly iterations: number
  /** Products with A, those of the symmetry check not counted. */
  readonly products: number
}

export interface EigenpairsProgress {
  readonly iteration: number
  readonly maxIterations: number
  /** Pairs wanted that have converged, of those wanted. */
  readonly converged: number
  readonly wanted: number
}

/** Options that these iterations share. */
export interface EigenpairsOptions {
  /** Converged: residual ≤ max(tol |θ|, 10 eps ||A||). Default 1e-4 in f32, 1e-8 in f64. */
  readonly tol?: number
  /** What has not converged by then is returned with `converged: false`. */
  readonly maxIterations?: number
  /** Of the random start. Default 0. */
  readonly seed?: number
  /** Probe symmetry and determinism first, once per operator (3 products). Default true. */
  readonly check?: boolean
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: EigenpairsProgress) => void
}

export const SHARED_OPTIONS = [
  ...(['tol', 'maxIterations', 'seed', 'check', 'signal', 'onProgress'] as const),
] as const

/** Checked values of the options that need it. */
export interface Limits {
  readonly k: number
  readonly tol: number
  readonly maxIterations: number
}

/** @throws ERR_ARGUMENT for k outside 1..most, a bad tol or maxIterations */
export function requireLimits(
  operator: LinearOperator,
  options: EigenpairsOptions & { readonly k?: number },
  defaults: { readonly k: number; readonly maxIterations: number; readonly most?: number },
): Limits {
  const { size, dtype } = operator
  const most = defaults.most ?? size
  const k = options.k ?? Math.min(defaults.k, most)
  if (!Number.isInteger(k) || k < 1 || k > most) {
    const of = most === size ? `n = ${size}` : `${most}, what deflation leaves of n = ${size}`
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `k must be an integer from 1 to ${of}, got ${describe(k)}.`,
    )
  }
  const tol = options.tol ?? (dtype === 'f32' ? 1e-4 : 1e-8)
  if (!(typeof tol === 'number' && tol >= 0)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `tol must be a number of at least 0, got ${describe(tol)}.`,
    )
  }
  const maxIterations = options.maxIterations ?? defaults.maxIterations
  if (!Number.isInteger(maxIterations) || maxIterations < 1) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `maxIterations must be a positive integer, got ${describe(maxIterations)}.`,
    )
  }
  return { k, tol, maxIterations }
}

/** A space, and blocks in it that are disposed together. */
export class Workspace {
  readonly space: VectorSpace
  private readonly blocks: VectorBlock[] = []
  /** Largest ||A v|| / ||v|| and |θ| seen: a lower bound of ||A||, and soon a good estimate. */
  operatorNorm = 0
  products = 0

  constructor(
    readonly operator: LinearOperator,
    readonly signal?: AbortSignal,
  ) {
    this.space = spaceOf(operator, { signal })
  }

  allocate(count: number): VectorBlock {
    const block = this.space.allocate(count)
    this.blocks.push(block)
    return block
  }

  dispose(): void {
    for (const block of this.blocks) block.dispose()
  }

  /** y = A x. Not awaited by what follows in the same space. */
  apply(x: VectorBlock, y: VectorBlock): Promise<void> {
    this.products += x.count
    return this.space.apply(x, y)
  }

  isConverged(residual: number, value: number, tol: number): boolean {
    const rounding = EPSILON[this.space.dtype] * this.operatorNorm
    return residual <= Math.max(tol * Math.abs(value), 10 * rounding)
  }

  /** Eigenvalues ascending and eigenvectors as rows of a small symmetric matrix. */
  async eigen(matrix: Float64Array, n: number): Promise<SmallEigen> {
    requireFiniteProducts(matrix)
    const symmetric = matrix.map((x, at) => (x + matrix[(at % n) * n + Math.floor(at / n)]) / 2)
    const { operator, signal } = this
    const binding = isNative(operator) ? operator.device.binding : defaultBinding()
    const { values, vectors } = await withSignal(binding, signal, (token) =>
      binding.symmetricEigen(symmetric, n, true, { token }),
    )
    this.operatorNorm = Math.max(this.operatorNorm, Math.abs(values[0]), Math.abs(values[n - 1]))
    return { values, vectors: vectors as Float64Array }
  }

  /**
   * Norms of A y_i - θ_i y_i with y = S x and A y = S ax, the rows of S [θ.length, x.count];
   * scratch, of θ.length rows, keeps the residuals.
   */
  async residuals(
    s: Float64Array,
    theta: ArrayLike<number>,
    x: VectorBlock,
    ax: VectorBlock,
    scratch: VectorBlock,
  ): Promise<Float64Array> {
    const shifted = s.map((value, at) => -theta[Math.floor(at / x.count)] * value)
    const [, , ...squares] = await Promise.all([
      this.space.combine(s, ax, scratch),
      this.space.combine(shifted, x, scratch, true),
      ...rowNorms(this.space, scratch),
    ])
    return Float64Array.from(squares as number[])
  }

  /** Rows of y, sorted by value. */
  async result(
    theta: ArrayLike<number>,
    residuals: ArrayLike<number>,
    y: VectorBlock,
    run: { readonly tol: number; readonly iterations: number },
  ): Promise<Eigenpairs> {
    const rounding = EPSILON[this.space.dtype] * this.operatorNorm
    const order = Array.from(theta, (_, i) => i).sort((i, j) => theta[j] - theta[i])
    return {
      values: Float64Array.from(order, (i) => theta[i]),
      residuals: Float64Array.from(order, (i) => residuals[i] + rounding),
      converged: order.map((i) => this.isConverged(residuals[i], theta[i], run.tol)),
      vectors: await Promise.all(order.map((i) => this.space.read(y, i))),
      iterations: run.iterations,
      products: this.products,
    }
  }
}

export interface SmallEigen {
  readonly values: Float64Array
  readonly vectors: Float64Array
}

/** ||x_i|| of every row. */
export function rowNorms(space: VectorSpace, x: VectorBlock): Promise<number>[] {
  return Array.from({ length: x.count }, async (_, i) => {
    const row = x.rows(i, 1)
    return Math.sqrt((await space.gram(row, row))[0])
  })
}

/** x_iᵀ y_i of every row. */
export function rowDots(space: VectorSpace, x: VectorBlock, y: VectorBlock): Promise<number>[] {
  return Array.from(
    { length: x.count },
    async (_, i) => (await space.gram(x.rows(i, 1), y.rows(i, 1)))[0],
  )
}

/** Rows `indices` of a matrix with `width` columns. */
export function pickRows(
  matrix: Float64Array,
  indices: readonly number[],
  width: number,
): Float64Array {
  const out = new Float64Array(indices.length * width)
  for (const [row, i] of indices.entries()) {
    out.set(matrix.subarray(i * width, (i + 1) * width), row * width)
  }
  return out
}

/** @throws ERR_OPERATOR when sums over products hold NaN or infinity */
export function requireFiniteProducts(sums: ArrayLike<number>): void {
  for (let i = 0; i < sums.length; i++) {
    if (Number.isFinite(sums[i])) continue
    throw new LosscapeError('ERR_OPERATOR', 'A product with the operator is not finite.')
  }
}
