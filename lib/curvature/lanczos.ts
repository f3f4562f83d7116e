import { LosscapeError } from '../errors.js'
import type { LanczosState } from '../native.js'
import type { FloatVector } from '../nn/layout.js'
import { requireOptions } from '../options.js'
import { checkOnce } from './check.js'
import { type LanczosRun, openLanczos } from './lanczos-run.js'
import { EPSILON, type LinearOperator, oneOf, type Precision } from './operator.js'
import { type Selection, selectRitz, WHICH, type Which } from './ritz.js'
import { tridiagonalEigen } from './tridiagonal.js'

export interface LanczosProgress {
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
  /** Default min(n, max(2k + 20, k + 40)). */
  readonly maxSteps?: number
  /** Seed of the start vector. Default 0. */
  readonly seed?: number
  /** Start vector instead of a random one. */
  readonly start?: ArrayLike<number>
  /** Also return Ritz vectors. Default false. */
  readonly vectors?: boolean
  /** Default 'cgs2'. 'none' keeps three vectors; copies of converged values may appear. */
  readonly reorthogonalize?: 'cgs2' | 'cgs1' | 'none'
  /** Called with all that a later run needs to go on, every `checkpointEvery` steps and on abort. */
  readonly onCheckpoint?: (checkpoint: LanczosCheckpoint) => void
  /** Default 20. */
  readonly checkpointEvery?: number
  /** Goes on from a checkpoint of the same operator, bit for bit; k and which may differ. */
  readonly resume?: LanczosCheckpoint
  /** Steps between convergence tests. Default 5. */
  readonly checkEvery?: number
  /** Probe symmetry and determinism first, once per operator (3 products). Default true. */
  readonly check?: boolean
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: LanczosProgress) => void
}

/** A Lanczos run up to some step. Later checkpoints share the basis vectors of earlier ones. */
export interface LanczosCheckpoint {
  /** n */
  readonly size: number
  readonly dtype: Precision
  readonly seed: number
  readonly state: LanczosState
  /** steps + 1 vectors of n elements. */
  readonly basis: readonly FloatVector[]
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
  readonly steps: number
  readonly alpha: Float64Array
  readonly beta: Float64Array
  readonly diagnostics: {
    /** Largest |c[j-1] - β[j-1]| / ||A||: asymmetry or noise of the operator. */
    readonly asymmetry: number
    readonly noise: number
    /** Step at which an invariant subspace was complete, or -1. */
    readonly invariantSubspaceAt: number
    readonly exhausted: boolean
    /** Without reorthogonalisation values may be repeated: do not count them. */
    readonly ghostsPossible: boolean
  }
}

/**
 * Extreme eigenvalues of a symmetric operator by Lanczos with full reorthogonalisation. Native
 * operators run without coming back to JavaScript between steps. What has not converged within
 * `maxSteps` is returned with its residual and `converged: false`; nothing is thrown for it.
 *
 * Memory (steps + 1) n; cost per step one product and three reads of the basis.
 * Source: Lanczos 1950; specification of the classical Gram-Schmidt variant: Giraud et al. 2005.
 *
 * @throws ERR_ARGUMENT for k outside 1..n, ERR_OPERATOR when a product is not finite, ERR_ABORTED
 */
export async function lanczos(
  operator: LinearOperator,
  options: LanczosOptions = {},
): Promise<EigenResult> {
  requireOptions('lanczos()', options, [
    ...(['k', 'which', 'tol', 'maxSteps', 'seed', 'start', 'vectors', 'reorthogonalize'] as const),
    ...(['check', 'checkEvery', 'onCheckpoint', 'checkpointEvery', 'resume'] as const),
    ...(['signal', 'onProgress'] as const),
  ])
  for (const name of ['tol', 'checkEvery', 'checkpointEvery'] as const) {
    const value = options[name]
    if (value !== undefined && !(value >= (name === 'tol' ? 0 : 1))) {
      throw new LosscapeError('ERR_ARGUMENT', `${name} is out of range: ${value}.`)
    }
  }
  const { size, dtype } = operator
  if (options.check ?? true) await checkOnce(operator, options.signal)
  const k = options.k ?? Math.min(6, size)
  if (!Number.isInteger(k) || k < 1 || k > size) {
    throw new LosscapeError('ERR_ARGUMENT', `k must be an integer from 1 to n = ${size}, got ${k}.`)
  }
  const which = oneOf('which', options.which ?? 'largest', WHICH)
  const maxSteps = Math.min(size, options.maxSteps ?? Math.max(2 * k + 20, k + 40))
  if (!Number.isInteger(maxSteps) || maxSteps < k) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `maxSteps must be an integer of at least k = ${k}, got ${options.maxSteps}.`,
    )
  }
  const reorthogonalize = options.reorthogonalize ?? 'cgs2'
  if (options.vectors && reorthogonalize === 'none') {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      "Ritz vectors need a basis: reorthogonalize 'none' keeps none.",
    )
  }
  const tol = options.tol ?? (dtype === 'f32' ? 1e-4 : 1e-8)
  const run = await openLanczos(operator, {
    maxSteps,
    reorthogonalize,
    onBreakdown: 'restart',
    seed: options.seed ?? 0,
    stream: 0,
    start: options.start,
    resume: options.resume && requireFit(options.resume, operator, reorthogonalize),
    signal: options.signal,
  })
  try {
    const ritz = await untilConverged(run, { k, which, tol, maxSteps, size, dtype, options })
    const vectors = options.vectors ? await ritzVectors(run, ritz) : undefined
    const { state } = run
    return {
      values: ritz.values,
      residuals: ritz.residuals,
      errorBounds: ritz.errorBounds,
      converged: ritz.converged,
      vectors,
      steps: state.steps,
      alpha: state.alpha,
      beta: state.beta,
      diagnostics: {
        asymmetry: state.asymmetry / (ritz.norm || 1),
        noise: state.noise / (ritz.norm || 1),
        invariantSubspaceAt: state.invariantSubspaceAt,
        exhausted: state.exhausted,
        ghostsPossible: reorthogonalize === 'none',
      },
    }
  } finally {
    run.dispose()
  }
}

interface Wanted {
  readonly k: number
  readonly which: Which
  readonly tol: number
  readonly maxSteps: number
  readonly size: number
  readonly dtype: Precision
  readonly options: LanczosOptions
}

async function untilConverged(run: LanczosRun, wanted: Wanted): Promise<Selection> {
  const { k, which, tol, maxSteps, options } = wanted
  const every = Math.max(1, options.checkEvery ?? 5)
  const epsilon = EPSILON[wanted.dtype]
  const copies = new CopyCheck()
  const saver = new Saver(run, wanted)
  let target = Math.min(maxSteps, Math.max(k, run.state.steps))
  for (;;) {
    try {
      await run.advance(target - run.state.steps)
    } catch (error) {
      await saver.save()
      throw error
    }
    await saver.saveIfDue()
    const { steps, alpha, beta, exhausted } = run.state
    const ritz = selectRitz(alpha, beta, { k: Math.min(k, steps), which, tol, epsilon })
    const converged = ritz.converged.filter(Boolean).length
    options.onProgress?.({ step: steps, maxSteps, converged, wanted: k })
    if (exhausted || steps >= maxSteps || steps < target) return ritz
    if (steps >= k && converged === k && copies.complete(beta, ritz.values)) return ritz
    // A test costs O(steps²): a constant share of the steps keeps it small in long runs.
    target = Math.min(maxSteps, steps + Math.max(every, Math.floor(steps / 10)))
  }
}

/** Hands out checkpoints; reads only the basis vectors that are new. */
class Saver {
  private basis: FloatVector[]
  private saved: number

  constructor(
    private readonly run: LanczosRun,
    private readonly wanted: Wanted,
  ) {
    this.basis = [...(wanted.options.resume?.basis ?? [])]
    this.saved = run.state.steps
  }

  async saveIfDue(): Promise<void> {
    const every = this.wanted.options.checkpointEvery ?? 20
    if (this.run.state.steps >= this.saved + every) await this.save()
  }

  async save(): Promise<void> {
    const { options, size, dtype } = this.wanted
    const { state } = this.run
    if (!options.onCheckpoint || state.steps === 0) return
    // The last vector was the candidate for the next product; it stands now.
    this.basis = [...this.basis, ...(await this.run.readBasis(this.basis.length))]
    this.saved = state.steps
    options.onCheckpoint({ size, dtype, seed: options.seed ?? 0, state, basis: this.basis })
  }
}

function requireFit(
  checkpoint: LanczosCheckpoint,
  operator: LinearOperator,
  reorthogonalize: string,
): LanczosCheckpoint {
  const fits =
    checkpoint.size === operator.size &&
    checkpoint.dtype === operator.dtype &&
    checkpoint.basis.every((v) => v.length === operator.size)
  if (!fits || reorthogonalize === 'none') {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `The checkpoint (n = ${checkpoint.size}, ${checkpoint.dtype}) does not fit this run (n = ${operator.size}, ${operator.dtype}, reorthogonalize '${reorthogonalize}').`,
    )
  }
  return checkpoint
}

/**
 * A breakdown shows that one Krylov space was complete; the next one, from a fresh vector, may hold
 * further copies of the values found. They are all found when a whole space brings nothing new.
 */
class CopyCheck {
  private spaces = 0
  private values: Float64Array | null = null

  complete(beta: Float64Array, values: Float64Array): boolean {
    const spaces = beta.subarray(0, -1).filter((b) => b === 0).length
    if (spaces === 0) return true
    const scale = Math.max(Math.abs(values[0]), Math.abs(values[values.length - 1]))
    const same = this.values?.every((v, i) => Math.abs(v - values[i]) <= 1e-6 * scale) ?? false
    if (same) return spaces > this.spaces
    this.spaces = spaces
    this.values = values
    return false
  }
}

/** Y = S V for the selected rows of S, the eigenvectors of T. */
async function ritzVectors(run: LanczosRun, ritz: Selection): Promise<FloatVector[]> {
  const { alpha, beta, steps } = run.state
  const full = tridiagonalEigen(alpha, beta.subarray(0, Math.max(0, steps - 1)), {
    vectors: 'full',
  })
  const s = full.vectors as Float64Array
  const coefficients = new Float64Array(ritz.indices.length * steps)
  for (const [row, index] of ritz.indices.entries()) {
    coefficients.set(s.subarray(index * steps, (index + 1) * steps), row * steps)
  }
  return run.combine(coefficients, ritz.indices.length)
}
