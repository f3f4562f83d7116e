import { requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import { checkOnce } from './check.js'
import {
  type Eigenpairs,
  type EigenpairsOptions,
  type Limits,
  pickRows,
  requireFiniteProducts,
  requireLimits,
  SHARED_OPTIONS,
  Workspace,
} from './eigenpairs.js'
import type { LinearOperator } from './operator.js'
import { orthonormalize } from './orthonormalize.js'
import type { VectorBlock } from './space.js'
import { numbers } from './wrap.js'

export interface PowerIterationOptions extends EigenpairsOptions {
  /** Pairs wanted, by magnitude. Default 1. */
  readonly k?: number
  /** Per pair. Default 1000. */
  readonly maxIterations?: number
  /** Known eigenvectors to be left out, such as those of an earlier run; any length but zero. */
  readonly deflate?: readonly ArrayLike<number>[]
}

/**
 * Eigenvalues of largest magnitude, one after another: x ← P A x / ||P A x||, where P projects out
 * the vectors found before and those of `deflate`. Stops on the residual, so that a pair λ, -λ,
 * between which the vector swings for ever, ends as `converged: false`; with k = 2 both are found.
 * A final Rayleigh-Ritz step over the k vectors takes back what errors of one brought to the next.
 * With `deflate` the pairs are those of P A P, which are A's when its vectors are eigenvectors.
 *
 * Cost: one product per iteration, about log(tol) / log |λ₂/λ₁| of them per pair; memory 2 k + 2
 * vectors. `lanczos` needs far fewer products. Source: von Mises 1929.
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE, ERR_OPERATOR when a product is not finite, ERR_ABORTED
 */
export async function powerIteration(
  operator: LinearOperator,
  options: PowerIterationOptions = {},
): Promise<Eigenpairs> {
  requireOptions('powerIteration()', options, ['k', 'deflate', ...SHARED_OPTIONS])
  const { deflate: given = [] } = options
  requireArguments('powerIteration()', { operator, deflate: given })
  const deflate = given.map((vector) => numbers('A vector of deflate', vector, operator.size))
  const zero = deflate.findIndex((vector) => vector.every((x) => x === 0))
  if (zero >= 0) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `Vector ${zero} of deflate is zero: it names no direction. Leave it out.`,
    )
  }
  const most = operator.size - deflate.length
  if (most < 1) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `deflate holds ${deflate.length} vectors, which leaves nothing of n = ${operator.size}.`,
    )
  }
  const limits = requireLimits(operator, options, { k: 1, maxIterations: 1000, most })
  return withProgress(options, async (watched) => {
    if (options.check ?? true) await checkOnce(operator, watched.signal)
    const work = new Workspace(operator, watched.signal)
    try {
      return await run(work, deflate, limits, watched)
    } finally {
      work.dispose()
    }
  })
}

async function run(
  work: Workspace,
  deflate: readonly ArrayLike<number>[],
  limits: Limits,
  options: PowerIterationOptions,
): Promise<Eigenpairs> {
  const { space } = work
  const { k, tol, maxIterations } = limits
  const known = work.allocate(deflate.length)
  await Promise.all(deflate.map((vector, i) => space.write(known, i, vector)))
  const { rank } = await orthonormalize(space, known)
  const out = known.rows(0, rank)
  const q = work.allocate(k)
  const aq = work.allocate(k)
  const y = work.allocate(1)
  const r = work.allocate(1)
  let iterations = 0
  let done = 0
  for (let pair = 0; pair < k; pair++) {
    const x = q.rows(pair, 1)
    const ax = aq.rows(pair, 1)
    const found = [out, q.rows(0, pair)].filter((block) => block.count > 0)
    const { seed = 0 } = options
    await space.fill(x, 'normal', seed, pair)
    await orthonormalize(space, x, found, { dependent: 'replace', seed, stream: k + 4 * pair })
    for (let i = 0; ; ) {
      // A x in full is kept for the last step; y loses what lies along the vectors found.
      const [, length] = await Promise.all([work.apply(x, ax), lengthOf(ax)])
      requireFiniteProducts([length])
      work.operatorNorm = Math.max(work.operatorNorm, length)
      await space.combine([1], ax, y)
      for (let pass = 0; pass < 2; pass++) await remove(found, y)
      const [theta] = await space.gram(x, y)
      const [, , residual, norm] = await Promise.all([
        space.combine([1], y, r),
        space.combine([-theta], x, r, true),
        lengthOf(r),
        lengthOf(y),
      ])
      i++
      iterations++
      const converged = work.isConverged(residual, theta, tol)
      if (converged) done++
      options.onProgress?.({ iteration: i, maxIterations, converged: done, wanted: k })
      if (converged || i >= maxIterations) break
      await space.combine([1 / norm], y, x)
    }
  }

  if (out.count > 0) await remove([out], aq)
  const { values, vectors } = await work.eigen(await space.gram(q, aq), k)
  const order = Array.from(values, (_, i) => k - 1 - i)
  const theta = values.slice().reverse()
  const s = pickRows(vectors, order, k)
  const ritz = work.allocate(k)
  const residuals = await work.residuals(s, theta, q, aq, ritz)
  await space.combine(s, q, ritz)
  return work.result(theta, residuals, ritz, { tol, iterations })

  async function lengthOf(v: VectorBlock): Promise<number> {
    return Math.sqrt((await space.gram(v, v))[0])
  }

  async function remove(blocks: readonly VectorBlock[], from: VectorBlock): Promise<void> {
    const overlaps = await Promise.all(blocks.map((block) => space.gram(from, block)))
    await Promise.all(
      blocks.map((block, i) =>
        space.combine(
          overlaps[i].map((c) => -c),
          block,
          from,
          true,
        ),
      ),
    )
  }
}
