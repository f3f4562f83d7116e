import { checkOperator } from '../curvature/check.js'
import { exactSpectrum } from '../curvature/dense.js'
import { density } from '../curvature/density.js'
import { lanczos } from '../curvature/lanczos.js'
import type { LanczosCheckpoint } from '../curvature/lanczos-checkpoint.js'
import { basisRowBytes, type Reorthogonalize } from '../curvature/lanczos-run.js'
import { functional } from '../curvature/measure.js'
import type { LinearOperator } from '../curvature/operator.js'
import { slq } from '../curvature/slq.js'
import type { SpectrumResult } from '../report/data.js'

export interface SpectrumSettings {
  /** Eigenvalues wanted from each end. */
  top: number
  /** Probes and steps of the quadrature. */
  probes: number
  steps: number
  seed: number
  /** All eigenvalues by the dense path instead of Lanczos. */
  exact?: boolean
  /** Of the ends and of the probes. Default: full for the ends, partial for the probes. */
  reorthogonalize?: SpectrumReorthogonalize
  /** Bytes of the basis of Lanczos; the ends restart when it does not hold all their steps. */
  memory?: number
}

/** How the command names what keeps Lanczos vectors orthogonal. */
export const SPECTRUM_REORTHOGONALIZE = {
  full: 'cgs2',
  partial: 'partial',
  selective: 'selective',
} as const

export type SpectrumReorthogonalize = keyof typeof SPECTRUM_REORTHOGONALIZE

/** Products of a restarted run, of those that one with all its vectors would make. */
const RESTARTED = 10

/** Extreme eigenvalues with their residuals, `top` downwards, `bottom` upwards. */
export type Ends = Pick<SpectrumResult, 'eigenvalues' | 'residuals'>

/** What an interrupted computation had finished. */
export interface SpectrumParts {
  ends: Ends | null
  /** How far Lanczos has come; saved with the basis vectors that are new only. */
  lanczos: LanczosCheckpoint | null
  nodes: number[][]
  weights: number[][]
  /** Milliseconds spent on these parts. */
  time_ms: number
}

export interface SpectrumHooks {
  signal?: AbortSignal
  /** Products done, of about `total`. */
  onProgress?: (done: number, total: number, note: string) => void
  parts?: SpectrumParts
  /**
   * Called every ten products and at an abort while the ends are sought, after them and after every
   * probe; one call after another, and the result waits for their promises.
   */
  onParts?: (parts: SpectrumParts) => Promise<void>
}

/** What {@link computeSpectrum} adds to what its caller knows of samples and device. */
export type Spectrum = Omit<SpectrumResult, 'samples' | 'device'>

/**
 * Checks the operator, then finds its ends by Lanczos and its density by quadrature.
 * @throws ERR_OPERATOR, ERR_ARGUMENT, ERR_ABORTED after `onParts` has had everything finished
 */
export async function computeSpectrum(
  operator: LinearOperator,
  settings: SpectrumSettings,
  hooks: SpectrumHooks = {},
): Promise<Spectrum> {
  const begin = performance.now()
  const { signal } = hooks
  await checkOperator(operator, { seed: settings.seed, signal })
  if (settings.exact) return exact(operator, settings, hooks, begin)

  const before = hooks.parts?.time_ms ?? 0
  const nodes = [...(hooks.parts?.nodes ?? [])].slice(0, settings.probes)
  const weights = [...(hooks.parts?.weights ?? [])].slice(0, settings.probes)
  let ends = hooks.parts?.ends ?? null
  const time = (): number => before + performance.now() - begin
  let saved = Promise.resolve()
  const save = (checkpoint: LanczosCheckpoint | null = null): void => {
    const finished = { ends, nodes: [...nodes], weights: [...weights] }
    const parts = { ...finished, lanczos: checkpoint, time_ms: time() }
    saved = saved.then(() => hooks.onParts?.(parts))
    // Awaited below; until then a failure must not count as unhandled.
    saved.catch(() => {})
  }
  const endSteps = endProducts(operator, settings)
  const steps = Math.min(operator.size, settings.steps)
  const total = endSteps + settings.probes * steps
  try {
    if (!ends) {
      ends = await findEnds(operator, settings, hooks, total, save)
      save()
    }
    await slq(operator, {
      probes: settings.probes,
      steps,
      seed: settings.seed,
      signal,
      check: false,
      reorthogonalize: probesKept(operator, settings),
      resume: { nodes: [...nodes], weights: [...weights] },
      onProbe(_, theta, omega) {
        nodes.push([...theta])
        weights.push([...omega])
        save()
      },
      onProgress({ probe, step }) {
        const note = `probe ${probe + 1} of ${settings.probes}`
        hooks.onProgress?.(endSteps + probe * steps + step, total, note)
      },
    })
  } finally {
    await saved
  }
  return finish(operator.size, ends, { nodes, weights }, time(), operator.dtype)
}

/** Lanczos steps at most for the ends: 2 top values need some room to converge. */
export function lanczosSteps(n: number, { top, steps }: SpectrumSettings): number {
  const k = Math.min(n, 2 * top)
  return Math.min(n, Math.max(steps, 3 * k + 60))
}

/** Whether the budget holds the vectors of so many steps. */
function fits(operator: LinearOperator, steps: number, memory: number | undefined): boolean {
  return memory === undefined || (steps + 1) * basisRowBytes(operator) <= memory
}

/** Products at most for the ends: more where they restart, which forgets. */
export function endProducts(operator: LinearOperator, settings: SpectrumSettings): number {
  const steps = lanczosSteps(operator.size, settings)
  return fits(operator, steps, settings.memory) ? steps : RESTARTED * steps
}

/** A density does without orthogonal vectors: three are kept where a budget does not hold them. */
export function probesKept(
  operator: LinearOperator,
  { steps, memory, reorthogonalize = 'partial' }: SpectrumSettings,
): Reorthogonalize {
  const room = fits(operator, Math.min(operator.size, steps), memory)
  return room ? SPECTRUM_REORTHOGONALIZE[reorthogonalize] : 'none'
}

/** Rows of the basis at most. */
export function basisRows(operator: LinearOperator, settings: SpectrumSettings): number {
  const steps = Math.max(lanczosSteps(operator.size, settings), settings.steps)
  const all = Math.min(operator.size, steps) + 1
  if (settings.memory === undefined) return all
  return Math.min(all, Math.floor(settings.memory / basisRowBytes(operator)))
}

async function findEnds(
  operator: LinearOperator,
  settings: SpectrumSettings,
  hooks: SpectrumHooks,
  total: number,
  save: (checkpoint: LanczosCheckpoint) => void,
): Promise<Ends> {
  const k = Math.min(operator.size, 2 * settings.top)
  const { values, residuals } = await lanczos(operator, {
    k,
    which: 'both-ends',
    maxSteps: endProducts(operator, settings),
    memory: settings.memory,
    reorthogonalize: SPECTRUM_REORTHOGONALIZE[settings.reorthogonalize ?? 'full'],
    seed: settings.seed,
    signal: hooks.signal,
    check: false,
    resume: hooks.parts?.lanczos ?? undefined,
    checkpointEvery: 10,
    checkpointRows: 'new',
    onCheckpoint: hooks.onParts && save,
    onProgress: ({ step, converged, wanted }) =>
      hooks.onProgress?.(step, total, `${converged} of ${wanted} eigenvalues`),
  })
  return splitEnds(values, residuals, Math.ceil(k / 2))
}

/** Descending values as the two ends; `top` of them belong to the upper one. */
function splitEnds(values: Float64Array, residuals: Float64Array, top: number): Ends {
  const upper = (list: Float64Array): number[] => [...list.subarray(0, top)]
  const lower = (list: Float64Array): number[] => [...list.subarray(top)].reverse()
  return {
    eigenvalues: { top: upper(values), bottom: lower(values) },
    residuals: { top: upper(residuals), bottom: lower(residuals) },
  }
}

async function exact(
  operator: LinearOperator,
  settings: SpectrumSettings,
  { signal, onProgress }: SpectrumHooks,
  begin: number,
): Promise<Spectrum> {
  const { values, asymmetry } = await exactSpectrum(operator, {
    signal,
    onProgress: (done, total) => onProgress?.(done, total, 'products'),
  })
  const n = values.length
  const k = Math.min(n, 2 * settings.top)
  const descending = values.slice().reverse()
  const picked = Float64Array.from({ length: k }, (_, i) =>
    i < Math.ceil(k / 2) ? descending[i] : descending[n - k + i],
  )
  // How far the matrix was from symmetric is what its eigenvalues may be off by.
  const error = asymmetry * Math.max(Math.abs(values[0]), Math.abs(values[n - 1]))
  const ends = splitEnds(picked, new Float64Array(k).fill(error), Math.ceil(k / 2))
  const measure = { nodes: [[...values]], weights: [new Array<number>(n).fill(1 / n)] }
  const result = finish(n, ends, measure, performance.now() - begin, operator.dtype)
  return { ...result, trace: { value: values.reduce((sum, x) => sum + x, 0), stderr: 0 } }
}

function finish(
  n: number,
  ends: Ends,
  measure: { nodes: number[][]; weights: number[][] },
  time: number,
  dtype: 'f32' | 'f64',
): Spectrum {
  const { grid, values } = density(measure)
  const trace = functional(measure, (t) => t, n)
  return {
    n,
    ...ends,
    trace: { value: trace.value, stderr: trace.standardError },
    density: { grid: [...grid], values: [...values] },
    ...measure,
    time_ms: time,
    dtype,
  }
}
