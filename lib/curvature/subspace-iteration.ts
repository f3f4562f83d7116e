import { describe, requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import { checkOnce } from './check.js'
import {
  type Eigenpairs,
  type EigenpairsOptions,
  type Limits,
  pickRows,
  requireLimits,
  SHARED_OPTIONS,
  Workspace,
} from './eigenpairs.js'
import type { LinearOperator } from './operator.js'
import { orthonormalize } from './orthonormalize.js'

export interface SubspaceIterationOptions extends EigenpairsOptions {
  /** Pairs wanted, by magnitude. Default 6, at most n. */
  readonly k?: number
  /** Further vectors that are iterated: convergence goes by |λ_{k + oversampling + 1} / λ_k|. Default k. */
  readonly oversampling?: number
  /** Default 300. */
  readonly maxIterations?: number
}

/**
 * Eigenvalues of largest magnitude by iterating a block: X ← orth(A X), each time with the
 * Rayleigh-Ritz values of its span, which keep their signs (the norms of A x, which others
 * return, do not). Multiple eigenvalues and pairs λ, -λ are found.
 *
 * Cost: k + oversampling products per iteration, which share passes over the data; memory
 * 3 (k + oversampling) vectors. Source: Rutishauser 1970.
 *
 * @throws ERR_ARGUMENT, ERR_OPERATOR when a product is not finite, ERR_ABORTED
 */
export async function subspaceIteration(
  operator: LinearOperator,
  options: SubspaceIterationOptions = {},
): Promise<Eigenpairs> {
  requireOptions('subspaceIteration()', options, ['k', 'oversampling', ...SHARED_OPTIONS])
  requireArguments('subspaceIteration()', { operator })
  const { k, tol, maxIterations } = requireLimits(operator, options, { k: 6, maxIterations: 300 })
  const oversampling = options.oversampling ?? k
  if (!Number.isInteger(oversampling) || oversampling < 0) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `oversampling must be an integer of at least 0, got ${describe(oversampling)}.`,
    )
  }
  return withProgress(options, (watched) =>
    iterate(
      operator,
      Math.min(operator.size, k + oversampling),
      { k, tol, maxIterations },
      watched,
    ),
  )
}

async function iterate(
  operator: LinearOperator,
  m: number,
  { k, tol, maxIterations }: Limits,
  options: SubspaceIterationOptions,
): Promise<Eigenpairs> {
  if (options.check ?? true) await checkOnce(operator, options.signal)
  const { seed = 0 } = options
  const work = new Workspace(operator, options.signal)
  const { space } = work
  try {
    let x = work.allocate(m)
    let next = work.allocate(m)
    const ax = work.allocate(m)
    await space.fill(x, 'normal', seed, 0)
    await orthonormalize(space, x, [], { dependent: 'replace', seed, stream: m, scratch: ax })
    for (let iteration = 1; ; iteration++) {
      const [, h] = await Promise.all([work.apply(x, ax), space.gram(x, ax)])
      const { values, vectors } = await work.eigen(h, m)
      const order = Array.from(values, (_, i) => i).sort(
        (i, j) => Math.abs(values[j]) - Math.abs(values[i]),
      )
      const s = pickRows(vectors, order, m)
      const wanted = s.subarray(0, k * m)
      const theta = Float64Array.from(order.slice(0, k), (i) => values[i])
      const top = next.rows(0, k)
      const residuals = await work.residuals(wanted, theta, x, ax, top)
      const converged = residuals.filter((r, i) => work.isConverged(r, theta[i], tol)).length
      options.onProgress?.({ iteration, maxIterations, converged, wanted: k })
      if (converged === k || iteration >= maxIterations) {
        await space.combine(wanted, x, top)
        return await work.result(theta, residuals, top, { tol, iterations: iteration })
      }
      await space.combine(s, ax, next)
      // Rows that A annihilates are replaced.
      const stream = m * (1 + 3 * iteration)
      await orthonormalize(space, next, [], { dependent: 'replace', seed, stream, scratch: ax })
      ;[x, next] = [next, x]
    }
  } finally {
    work.dispose()
  }
}
