import { requireArguments } from '../arguments.js'
import { orAborted, withProgress } from '../callbacks.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import { checkOnce } from './check.js'
import { frobeniusSquaredOf } from './frobenius-error.js'
import { openLanczos, REORTHOGONALIZE, type Reorthogonalize } from './lanczos-run.js'
import { type Estimate, functional } from './measure.js'
import { type LinearOperator, oneOf } from './operator.js'
import { type FinishedProbes, requireProbes, requireSameProbes } from './slq-resume.js'
import { tridiagonalEigen } from './tridiagonal.js'

export interface SlqProgress {
  readonly probe: number
  readonly probes: number
  readonly step: number
  readonly steps: number
}

export interface SlqOptions {
  /** Random probes. Default 10. */
  readonly probes?: number
  /** Lanczos steps per probe. Default 80, at most n. */
  readonly steps?: number
  /** Default 0; probe p is stream p of the seed. */
  readonly seed?: number
  /**
   * As in `lanczos()`. Default 'partial', whose quadrature is that of 'cgs2' to rounding. A density
   * does without ('none' keeps three vectors); counting nodes does not.
   */
  readonly reorthogonalize?: Reorthogonalize
  /**
   * Stops after at least 4 probes once the standard error of the trace is below tol |trace|.
   * Default 0: all probes.
   */
  readonly tol?: number
  /**
   * Probes finished earlier with the same operator, seed and steps (a result of slq, or its nodes
   * and weights): only the rest are computed. One product tells whether they belong here, unless
   * `check` is false.
   */
  readonly resume?: FinishedProbes
  /** Each finished probe, to be saved; the run waits for its promise. */
  readonly onProbe?: (probe: number, nodes: Float64Array, weights: Float64Array) => void
  /** Probe symmetry and determinism first, once per operator (3 products). Default true. */
  readonly check?: boolean
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: SlqProgress) => void
}

/** Raw quadrature: φ(t) ≈ (1/P) Σ_probes Σ_l ω_l δ(t - θ_l). */
export interface SlqResult {
  readonly size: number
  readonly seed: number
  /** Per probe: Ritz values ascending, and their weights, which sum to 1. */
  readonly nodes: readonly Float64Array[]
  readonly weights: readonly Float64Array[]
  /** n times the mean node, with the standard error over probes (NaN for one probe). */
  readonly trace: { readonly value: number; readonly standardError: number }
  /** The same for ||A||_F², with an error for skew samples too (see frobeniusSquaredOf). */
  readonly frobeniusSquared: { readonly value: number; readonly standardError: number }
}

/** Fewer say nothing of the standard error that `tol` is held against. */
const LEAST_PROBES = 4

/**
 * Stochastic Lanczos quadrature: the spectral density of a symmetric operator as raw nodes and
 * weights, from `probes` Rademacher vectors and `steps` products each. The rule of a probe is
 * exact for polynomials of degree 2 steps - 1; smoothing is left to `density`. A breakdown ends a
 * probe early: its quadrature is then exact.
 *
 * Source: Ubaru, Chen, Saad 2017; Ghorbani, Krishnan, Xiao, arXiv 1901.10159.
 *
 * @throws ERR_ARGUMENT, ERR_OPERATOR, ERR_ABORTED
 */
export async function slq(operator: LinearOperator, options: SlqOptions = {}): Promise<SlqResult> {
  requireArguments('slq()', { operator })
  requireOptions('slq()', options, [
    ...(['probes', 'steps', 'seed', 'reorthogonalize', 'check', 'resume', 'onProbe'] as const),
    ...(['tol', 'signal', 'onProgress'] as const),
  ])
  const { resume } = options
  if (resume !== undefined) requireArguments('slq({ resume })', { measure: resume })
  const { seed = 0, tol = 0, signal } = options
  const probes = positiveInteger('probes', options.probes ?? 10)
  const steps = Math.min(operator.size, positiveInteger('steps', options.steps ?? 80))
  if (!(tol >= 0)) throw new LosscapeError('ERR_ARGUMENT', `tol must not be negative, got ${tol}.`)
  if (options.reorthogonalize) oneOf('reorthogonalize', options.reorthogonalize, REORTHOGONALIZE)
  if (resume) requireProbes(resume, { size: operator.size, steps, seed })
  if (options.check ?? true) {
    await checkOnce(operator, signal)
    if (resume) await requireSameProbes(resume, operator, seed, signal)
  }
  return withProgress(options, (guarded) => allProbes(operator, probes, steps, guarded))
}

async function allProbes(
  operator: LinearOperator,
  probes: number,
  steps: number,
  options: SlqOptions,
): Promise<SlqResult> {
  const { resume, seed = 0, tol = 0 } = options
  const nodes: Float64Array[] = []
  const weights: Float64Array[] = []
  const trace = (): Estimate => functional({ nodes, weights }, (t) => t, operator.size)
  const accurate = (): boolean => {
    if (tol === 0 || nodes.length < LEAST_PROBES) return false
    const { value, standardError } = trace()
    return standardError < tol * Math.abs(value)
  }
  for (let p = 0; p < probes && !accurate(); p++) {
    const done = resume?.nodes[p]
    if (resume && done) {
      nodes.push(Float64Array.from(done))
      weights.push(Float64Array.from(resume.weights[p]))
      continue
    }
    const [theta, omega] = await oneProbe(operator, p, probes, steps, options)
    nodes.push(theta)
    weights.push(omega)
    await orAborted(options.onProbe?.(p, theta, omega), options.signal)
  }
  return {
    size: operator.size,
    seed,
    nodes,
    weights,
    trace: trace(),
    frobeniusSquared: frobeniusSquaredOf({ nodes, weights }, operator.size),
  }
}

async function oneProbe(
  operator: LinearOperator,
  probe: number,
  probes: number,
  steps: number,
  options: SlqOptions,
): Promise<[Float64Array, Float64Array]> {
  const report = (step: number): void => options.onProgress?.({ probe, probes, step, steps })
  const run = await openLanczos(operator, {
    maxSteps: steps,
    reorthogonalize: options.reorthogonalize ?? 'partial',
    onBreakdown: 'stop',
    seed: options.seed ?? 0,
    stream: probe,
    signal: options.signal,
    onStep: report,
  })
  try {
    await run.advance(steps)
    const { alpha, beta } = run.state
    report(alpha.length)
    const { values, first } = tridiagonalEigen(alpha, beta.subarray(0, alpha.length - 1), {
      vectors: 'ends',
    })
    return [values, (first as Float64Array).map((s) => s * s)]
  } finally {
    run.dispose()
  }
}

function positiveInteger(name: 'probes' | 'steps', value: number): number {
  requireArguments('slq()', { [name]: value })
  return value
}
