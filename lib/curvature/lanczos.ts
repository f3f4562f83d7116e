import { describe, requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import { LosscapeError } from '../errors.js'
import type { FloatVector } from '../nn/layout.js'
import { requireOptions } from '../options.js'
import { checkOnce } from './check.js'
import {
  CheckpointSaver,
  type CopiesSeen,
  type LanczosCheckpoint,
  requireFit,
  requireSameOperator,
} from './lanczos-checkpoint.js'
import { planBasis, thickRestart } from './lanczos-restart.js'
import {
  type LanczosRun,
  openLanczos,
  REORTHOGONALIZE,
  type Reorthogonalize,
} from './lanczos-run.js'
import { EPSILON, type LinearOperator, oneOf, type Precision } from './operator.js'
import { projectedEigen } from './projection.js'
import { type Selection, selectRitz, WHICH, type Which } from './ritz.js'
import { ritzVectors } from './ritz-vectors.js'

export interface LanczosProgress {
  /** Products so far. */
  readonly step: number
  readonly maxSteps: number
  /** Ritz values wanted that have converged, of those wanted. */
  readonly converged: number
  readonly wanted: number
}

export interface LanczosOptions {
  /** Eigenvalues wanted. Default 6 (both ends: 3 and 3); at most n. */
  readonly k?: number
  /** Default 'largest'. 'both-ends' takes ⌈k/2⌉ from the top and ⌊k/2⌋ from the bottom. */
  readonly which?: Which
  /** Converged: residual ≤ max(tol |θ|, 10 eps ||A||). Default 1e-4 in f32, 1e-8 in f64. */
  readonly tol?: number
  /**
   * Products at most. Default min(n, max(2k + 20, k + 40)), and ten times as many (not bounded by
   * n) with restarts.
   */
  readonly maxSteps?: number
  /** Bytes that the basis may take; thick restarts when `maxSteps` + 1 vectors do not fit. */
  readonly memory?: number
  /** The same in vectors; at least k + min(k, 10) + 3 (n + 1 where that is less). */
  readonly basisSize?: number
  /** Seed of the start vector. Default 0. */
  readonly seed?: number
  /** Start vector instead of a random one. */
  readonly start?: ArrayLike<number>
  /** Also return Ritz vectors. Default false. */
  readonly vectors?: boolean
  /**
   * 'cgs2' (default) and 'cgs1': every vector against the whole basis, twice, or once and again
   * where less than 0.7 of it is left. 'partial': only where Simon's recurrence estimates overlaps
   * above √eps, against the vectors concerned; the eigenvalues are those of 'cgs2' to rounding.
   * 'selective': against Ritz vectors that have converged, which are kept as further rows; right
   * to rounding for the large eigenvalues. Neither restarts. 'none' keeps three vectors; copies of
   * converged values may appear.
   */
  readonly reorthogonalize?: Reorthogonalize
  /** Called with all that a later run needs to go on, every `checkpointEvery` steps and on abort. */
  readonly onCheckpoint?: (checkpoint: LanczosCheckpoint) => void
  /** Products between checkpoints. Default 20. */
  readonly checkpointEvery?: number
  /**
   * 'all' (default): every checkpoint is complete, and the vectors are held in JavaScript too.
   * 'new': it has only the vectors that no checkpoint has had (all of them after a restart), to be
   * appended to those.
   */
  readonly checkpointRows?: 'all' | 'new'
  /**
   * Goes on from a checkpoint of the same operator, seed and reorthogonalisation, bit for bit when
   * the other options are the same too; k and which may differ. One product tells whether the
   * operator is the same, unless `check` is false.
   */
  readonly resume?: LanczosCheckpoint
  /** Products between convergence tests at least. Default 5; after a restart once per cycle. */
  readonly checkEvery?: number
  /** Probe symmetry and determinism first, once per operator (3 products). Default true. */
  readonly check?: boolean
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: LanczosProgress) => void
}

export interface EigenResult {
  /** Descending. */
  readonly values: Float64Array
  /** ||A y - θ y|| of each, rounding included: there is an eigenvalue within this distance. */
  readonly residuals: Float64Array
  /** residual² / gap to the next Ritz value: the expected error of an isolated value. */
  readonly errorBounds: Float64Array
  readonly converged: readonly boolean[]
  /** Unit Ritz vectors in the order of the values, when asked for. */
  readonly vectors?: readonly FloatVector[]
  /** Products. */
  readonly steps: number
  /**
   * Diagonal and couplings of the projection: β_j couples j and j + 1, the last one is the residual
   * norm. After a restart the first ones are Ritz values and what couples them to the next vector.
   */
  readonly alpha: Float64Array
  readonly beta: Float64Array
  readonly diagnostics: {
    /** Largest |c[j-1] - β[j-1]| / ||A||: asymmetry or noise of the operator. */
    readonly asymmetry: number
    readonly noise: number
    /** Step at which an invariant subspace was complete, or -1. */
    readonly invariantSubspaceAt: number
    readonly exhausted: boolean
    /** Thick restarts. */
    readonly restarts: number
    /** Vectors made orthogonal to more than the two before them. */
    readonly reorthogonalizations: number
    /** Without reorthogonalisation values may be repeated: do not count them. */
    readonly ghostsPossible: boolean
  }
}

/**
 * Extreme eigenvalues of a symmetric operator by Lanczos. Native operators run without coming back
 * to JavaScript between steps. What has not converged within `maxSteps` is returned with its
 * residual and `converged: false`; nothing is thrown for it.
 *
 * Memory (steps + 1) n, or what `memory` allows; cost per step one product and, with full
 * reorthogonalisation, two reads of the basis. Ritz vectors take k n more.
 * One vector finds one copy of a multiple eigenvalue, and further ones from a fresh vector after it
 * has been through an invariant subspace: where copies count, use `blockLanczos`.
 *
 * Source: Lanczos 1950; Giraud et al. 2005 (classical Gram-Schmidt twice); Simon 1984 (partial);
 * Parlett, Scott 1979 (selective); Wu, Simon 2000 (thick restart).
 *
 * @throws ERR_ARGUMENT for k outside 1..n, a memory budget too small for one restart (with the
 * least bytes) or a checkpoint of something else, ERR_OPERATOR when a product is not finite,
 * ERR_ABORTED
 */
export async function lanczos(
  operator: LinearOperator,
  options: LanczosOptions = {},
): Promise<EigenResult> {
  requireArguments('lanczos()', { operator })
  requireOptions('lanczos()', options, [
    ...(['k', 'which', 'tol', 'maxSteps', 'seed', 'start', 'vectors', 'reorthogonalize'] as const),
    ...(['check', 'checkEvery', 'onCheckpoint', 'checkpointEvery', 'resume'] as const),
    ...(['checkpointRows', 'memory', 'basisSize', 'signal', 'onProgress'] as const),
  ])
  return withProgress(options, (guarded) => extremeEigenvalues(operator, guarded))
}

async function extremeEigenvalues(
  operator: LinearOperator,
  options: LanczosOptions,
): Promise<EigenResult> {
  const { resume, signal } = options
  const setting = settingOf(operator, options)
  const { reorthogonalize, plan } = setting
  if (options.check ?? true) {
    await checkOnce(operator, signal)
    if (resume) await requireSameOperator(resume, operator, signal)
  }
  const run = await openLanczos(operator, {
    maxSteps: plan.columns,
    reorthogonalize,
    onBreakdown: 'restart',
    seed: setting.seed,
    stream: 0,
    start: options.start,
    resume,
    signal,
  })
  try {
    const ritz = await untilConverged(run, setting, options)
    const vectors = options.vectors ? await ritzVectors(run, ritz, setting) : undefined
    const { state } = run
    return {
      values: ritz.values,
      residuals: ritz.residuals,
      errorBounds: ritz.errorBounds,
      converged: ritz.converged,
      vectors,
      steps: state.products,
      alpha: state.alpha,
      beta: state.beta,
      diagnostics: {
        asymmetry: state.asymmetry / (ritz.norm || 1),
        noise: state.noise / (ritz.norm || 1),
        invariantSubspaceAt: state.invariantSubspaceAt,
        exhausted: state.exhausted,
        restarts: state.restarts,
        reorthogonalizations: state.reorthogonalizations,
        ghostsPossible: reorthogonalize === 'none',
      },
    }
  } finally {
    run.dispose()
  }
}

interface Setting {
  readonly k: number
  readonly which: Which
  readonly tol: number
  readonly size: number
  readonly dtype: Precision
  readonly seed: number
  readonly reorthogonalize: Reorthogonalize
  /** Rows that the basis may have; null when it is not limited. */
  readonly basisSize: number | null
  readonly plan: ReturnType<typeof planBasis>
}

function settingOf(operator: LinearOperator, options: LanczosOptions): Setting {
  for (const name of ['tol', 'checkEvery', 'checkpointEvery', 'memory', 'basisSize'] as const) {
    const value = options[name]
    if (value !== undefined && !(typeof value === 'number' && value >= (name === 'tol' ? 0 : 1))) {
      throw new LosscapeError('ERR_ARGUMENT', `${name} is out of range: ${value}.`)
    }
  }
  const { size, dtype } = operator
  const k = options.k ?? Math.min(6, size)
  if (!Number.isInteger(k) || k < 1 || k > size) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `k must be an integer from 1 to n = ${size}, got ${describe(k)}.`,
    )
  }
  const { maxSteps, memory, resume } = options
  if (maxSteps !== undefined && (!Number.isInteger(maxSteps) || maxSteps < k)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `maxSteps must be an integer of at least k = ${k}, got ${describe(maxSteps)}.`,
    )
  }
  const which = oneOf('which', options.which ?? 'largest', WHICH)
  if (options.reorthogonalize) oneOf('reorthogonalize', options.reorthogonalize, REORTHOGONALIZE)
  if (resume && options.start !== undefined) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      'A resumed run goes on from the vectors of its checkpoint: leave start out, or resume.',
    )
  }
  if (resume) requireFit(resume, operator, options)
  const reorthogonalize = options.reorthogonalize ?? resume?.reorthogonalize ?? 'cgs2'
  if (reorthogonalize === 'none' && (options.vectors || options.onCheckpoint)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      "Ritz vectors and checkpoints need a basis: reorthogonalize 'none' keeps none.",
    )
  }
  // A run goes on in the room that it had.
  const limited = memory === undefined ? resume?.basisSize : null
  const basisSize = options.basisSize ?? limited ?? undefined
  const plan = planBasis(operator, { k, maxSteps, memory, basisSize, reorthogonalize })
  if (resume && resume.state.steps > plan.columns) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `The checkpoint has ${resume.state.steps} columns, this run has room for ${plan.columns}: raise maxSteps, memory or basisSize.`,
    )
  }
  const tol = options.tol ?? (dtype === 'f32' ? 1e-4 : 1e-8)
  const seed = options.seed ?? resume?.seed ?? 0
  const limit = memory === undefined && basisSize === undefined ? null : plan.columns + 1
  return { k, which, tol, size, dtype, seed, reorthogonalize, basisSize: limit, plan }
}

async function untilConverged(
  run: LanczosRun,
  setting: Setting,
  options: LanczosOptions,
): Promise<Selection> {
  const { k, which, tol, plan } = setting
  const epsilon = EPSILON[setting.dtype]
  const copies = new CopyCheck(options.resume?.copies)
  const saver = new CheckpointSaver(run, {
    header: setting,
    every: options.checkpointEvery ?? 20,
    rows: oneOf('checkpointRows', options.checkpointRows ?? 'all', ['all', 'new']),
    resume: options.resume,
    onCheckpoint: options.onCheckpoint,
  })
  /** Saves on the way and on abort; false when the run cannot go on. */
  const goOn = async (count: number): Promise<boolean> => {
    const goal = run.state.products + count
    while (run.state.products < goal) {
      const { products } = run.state
      await run.advance(Math.min(goal - products, saver.left))
      if (run.state.products === products) return false
      await saver.saveIfDue(copies.seen)
    }
    return true
  }
  try {
    for (;;) {
      const goesOn = await goOn(productsUntilTest(run.state, plan, k, options.checkEvery ?? 5))
      const { products, steps, beta, exhausted } = run.state
      const last = exhausted || products >= plan.products || !goesOn
      const full = steps === plan.columns
      const eigen = await projectedEigen(run.binding, run.state, {
        vectors: full && !last,
        signal: options.signal,
      })
      const ritz = selectRitz(eigen, beta[steps - 1] ?? 0, { k, which, tol, epsilon })
      const converged = ritz.converged.filter(Boolean).length
      options.onProgress?.({ step: products, maxSteps: plan.products, converged, wanted: k })
      if (last || (converged === k && copies.complete(run.state, ritz.values))) return ritz
      if (full) await thickRestart(run, eigen, setting)
      else if (!(await goOn(1))) return ritz
    }
  } catch (error) {
    await saver.save(copies.seen)
    throw error
  }
}

/**
 * Products until the next test for convergence, by the state alone, so that a resumed run tests
 * where the whole one does. A test costs O(steps²): a constant share of the steps keeps it small.
 */
function productsUntilTest(
  { products, steps, kept, exhausted }: LanczosRun['state'],
  plan: Setting['plan'],
  k: number,
  every: number,
): number {
  if (exhausted) return 0
  const room = Math.min(plan.columns - steps, plan.products - products)
  if (kept > 0) return room
  let test = k
  while (test < products) test += Math.max(Math.ceil(every), Math.floor(test / 10))
  return Math.min(room, test - products)
}

/**
 * A breakdown shows that one Krylov space was complete; the next one, from a fresh vector, may hold
 * further copies of the values found. They are all found when a whole space brings nothing new.
 */
class CopyCheck {
  seen: CopiesSeen

  constructor(seen: CopiesSeen = { spaces: 0, values: null }) {
    this.seen = seen
  }

  complete({ breakdowns, beta }: LanczosRun['state'], values: Float64Array): boolean {
    if (breakdowns === 0) return true
    const scale = Math.max(Math.abs(values[0]), Math.abs(values[values.length - 1]))
    const same = this.seen.values?.every((v, i) => Math.abs(v - values[i]) <= 1e-6 * scale) ?? false
    if (same) return breakdowns > this.seen.spaces
    // A space that is under way when the values are noted may already have brought some of them.
    const begun = breakdowns + (beta[beta.length - 1] === 0 ? 0 : 1)
    this.seen = { spaces: begun, values }
    return false
  }
}
