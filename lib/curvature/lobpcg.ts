import { isVector, requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import { checkOnce } from './check.js'
import {
  type Eigenpairs,
  type EigenpairsOptions,
  type Limits,
  requireLimits,
  rowDots,
  rowNorms,
  SHARED_OPTIONS,
  Workspace,
} from './eigenpairs.js'
import { ritzBasis } from './lobpcg-basis.js'
import { allocate, type LinearOperator, oneOf } from './operator.js'
import { orthonormalize } from './orthonormalize.js'
import type { VectorBlock, VectorSpace } from './space.js'
import { numbers, positives } from './wrap.js'

export interface LobpcgOptions extends EigenpairsOptions {
  /** Pairs wanted, also the size of the block. Default 6, at most n. */
  readonly k?: number
  /** Default 'smallest', by algebraic value. */
  readonly which?: 'smallest' | 'largest'
  /** Default 500. */
  readonly maxIterations?: number
  /**
   * Either n positive numbers, the diagonal of a matrix near A (residuals are divided by it), or an
   * operator near A⁻¹ (residuals are multiplied by it). Symmetric positive definite. Default none.
   */
  readonly preconditioner?: ArrayLike<number> | LinearOperator
  /** Up to k start vectors; the others are random. */
  readonly start?: readonly ArrayLike<number>[]
}

/** Iterations after which products of kept vectors are computed anew: sums of sums drift. */
const REFRESH = 32

/**
 * Eigenvalues at one end by the locally optimal block preconditioned conjugate gradient method:
 * Rayleigh-Ritz over [X, P, W] of Ritz vectors, previous directions and preconditioned residuals.
 * The basis is orthonormal in every step: W by Gram-Schmidt against X and P, the new X and P by
 * their coefficients. Pairs that have converged stay in X but add no residual (soft locking). What
 * is returned rests on products with the returned vectors.
 *
 * Cost: at most k products per iteration, which share passes over the data; memory 9 k vectors.
 * Sources: Knyazev 2001; Hetmaniuk and Lehoucq 2006 (basis).
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE, ERR_OPERATOR when a product is not finite, ERR_ABORTED
 */
export async function lobpcg(
  operator: LinearOperator,
  options: LobpcgOptions = {},
): Promise<Eigenpairs> {
  requireOptions('lobpcg()', options, [
    ...(['k', 'which', 'preconditioner', 'start'] as const),
    ...SHARED_OPTIONS,
  ])
  const { start: given = [] } = options
  requireArguments('lobpcg()', { operator, starts: given })
  const limits = requireLimits(operator, options, { k: 6, maxIterations: 500 })
  const which = oneOf('which', options.which ?? 'smallest', ['smallest', 'largest'])
  const start = given.map((vector) => numbers('A start vector', vector, operator.size))
  if (start.length > limits.k) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `Expected at most k = ${limits.k} start vectors, got ${start.length}.`,
    )
  }
  return withProgress(options, async ({ signal, onProgress }) => {
    const work = new Workspace(operator, signal)
    try {
      const precondition = await preconditionerOf(work, options.preconditioner)
      if (options.check ?? true) await checkOnce(operator, signal)
      const run = new Lobpcg(work, limits, which, precondition)
      await run.begin(start, options.seed ?? 0)
      return await run.iterate(onProgress)
    } finally {
      work.dispose()
    }
  })
}

type Precondition = (w: VectorBlock) => Promise<unknown>

class Lobpcg {
  /** Rows [X | P | W], their products, and room for the next of both. */
  private s: VectorBlock
  private as: VectorBlock
  private spare: VectorBlock
  /** Rows of P. */
  private p = 0
  private theta: ArrayLike<number> = []
  /** The products of X were not put together from others. */
  private fresh = false

  constructor(
    private readonly work: Workspace,
    private readonly limits: Limits,
    private readonly which: 'smallest' | 'largest',
    private readonly precondition: Precondition,
  ) {
    const rows = 3 * limits.k
    this.s = work.allocate(rows)
    this.as = work.allocate(rows)
    this.spare = work.allocate(rows)
  }

  private get space(): VectorSpace {
    return this.work.space
  }

  async begin(start: readonly ArrayLike<number>[], seed: number): Promise<void> {
    const { k } = this.limits
    const x = this.s.rows(0, k)
    await this.space.fill(x, 'normal', seed, 0)
    await Promise.all(start.map((vector, i) => this.space.write(x, i, vector)))
    const scratch = this.spare.rows(0, k)
    await orthonormalize(this.space, x, [], { dependent: 'replace', seed, stream: k, scratch })
    await this.multiply(0, k)
    await this.rotate(k)
  }

  async iterate(onProgress: EigenpairsOptions['onProgress']): Promise<Eigenpairs> {
    const { k, tol, maxIterations } = this.limits
    let stuck = false
    for (let iteration = 0; ; iteration++) {
      let residuals = await this.residuals()
      let open = this.unconverged(residuals)
      const last = open.length === 0 || iteration >= maxIterations || stuck
      if (!this.fresh && (last || iteration % REFRESH === 0)) {
        await this.refresh()
        residuals = await this.residuals()
        open = this.unconverged(residuals)
      }
      onProgress?.({ iteration, maxIterations, converged: k - open.length, wanted: k })
      if (open.length === 0 || iteration >= maxIterations || stuck) {
        const run = { tol, iterations: iteration }
        return this.work.result(this.theta, residuals, this.s.rows(0, k), run)
      }
      // Nothing new: the span is invariant as far as rounding tells.
      stuck = !(await this.step(open))
    }
  }

  /** False when the residuals add no direction. */
  private async step(open: readonly number[]): Promise<boolean> {
    const { space } = this
    const kept = this.limits.k + this.p
    const w = this.s.rows(kept, open.length)
    const all = this.s.rows(kept, this.limits.k)
    for (const [row, i] of open.entries()) {
      if (row !== i) await space.combine([1], all.rows(i, 1), w.rows(row, 1))
    }
    await this.precondition(w)
    const { rank } = await orthonormalize(space, w, [this.s.rows(0, kept)], {
      scratch: this.spare.rows(0, open.length),
    })
    if (rank === 0) return false
    await this.multiply(kept, rank)
    await this.rotate(kept + rank)
    return true
  }

  private async multiply(from: number, count: number): Promise<void> {
    await this.work.apply(this.s.rows(from, count), this.as.rows(from, count))
  }

  /** Rayleigh-Ritz over the first `count` rows: new X and P. */
  private async rotate(count: number): Promise<void> {
    const { space, work } = this
    const { k } = this.limits
    const s = this.s.rows(0, count)
    const as = this.as.rows(0, count)
    const [h, g] = await Promise.all([space.gram(s, as), space.gram(s, s)])
    const basis = await ritzBasis(h, g, count, { k, which: this.which, work })
    const rows = k + basis.directions
    await Promise.all([
      space.combine(basis.coefficients, s, this.spare.rows(0, rows)),
      // The vectors have been read: their products take their place.
      space.combine(basis.coefficients, as, this.s.rows(0, rows)),
    ])
    ;[this.s, this.as, this.spare] = [this.spare, this.s, this.as]
    this.p = basis.directions
    this.theta = basis.values
    this.fresh = false
  }

  /** Products and Rayleigh quotients of the vectors as they are. */
  private async refresh(): Promise<void> {
    const { k } = this.limits
    await this.multiply(0, k + this.p)
    this.theta = await Promise.all(rowDots(this.space, this.s.rows(0, k), this.as.rows(0, k)))
    this.fresh = true
  }

  /** A x_i - θ_i x_i, left where W goes. */
  private async residuals(): Promise<number[]> {
    const { space } = this
    const { k } = this.limits
    const r = this.s.rows(k + this.p, k)
    const jobs: Promise<unknown>[] = []
    for (let i = 0; i < k; i++) {
      const row = r.rows(i, 1)
      jobs.push(space.combine([1], this.as.rows(i, 1), row))
      jobs.push(space.combine([-this.theta[i]], this.s.rows(i, 1), row, true))
    }
    const [norms] = await Promise.all([Promise.all(rowNorms(space, r)), ...jobs])
    return norms
  }

  private unconverged(residuals: readonly number[]): number[] {
    return Array.from(residuals.keys()).filter(
      (i) => !this.work.isConverged(residuals[i], this.theta[i], this.limits.tol),
    )
  }
}

async function preconditionerOf(
  work: Workspace,
  given: LobpcgOptions['preconditioner'],
): Promise<Precondition> {
  const { space } = work
  const { size, dtype } = space
  if (given === undefined) return async () => {}
  if (!isVector(given)) {
    requireArguments('The preconditioner of lobpcg()', { operator: given })
    const { size: n, matmat } = given as LinearOperator
    if (n !== size) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `The preconditioner has n = ${n}, the operator n = ${size}.`,
      )
    }
    return async (w) => {
      const rows = await Promise.all(Array.from({ length: w.count }, (_, i) => space.read(w, i)))
      const vs = allocate(dtype, w.count * size)
      for (const [i, row] of rows.entries()) vs.set(row, i * size)
      const products = await matmat.call(given, vs, w.count, { signal: work.signal })
      await Promise.all(
        rows.map((_, i) => space.write(w, i, products.subarray(i * size, (i + 1) * size))),
      )
    }
  }
  const diagonal = positives('The preconditioner', given as ArrayLike<number>, size)
  const factors = work.allocate(1)
  await space.write(
    factors,
    0,
    diagonal.map((x) => 1 / x),
  )
  return (w) =>
    Promise.all(
      Array.from({ length: w.count }, (_, i) => {
        const row = w.rows(i, 1)
        return space.multiply(row, factors, row)
      }),
    )
}
