import { checkOption } from './check.js'

/** Linear warm-up before any schedule, as torch's LinearLR: from `start` to 1 over `steps`. */
export interface Warmup {
  readonly steps: number
  /** Factor of step 0. Default 1/3. */
  readonly start?: number
}

interface Common {
  /** The schedule itself begins after these steps. */
  readonly warmup?: Warmup
}

/**
 * How the learning rate's factor runs over steps t = 0, 1, ..., T (T: steps left after warm-up).
 *
 * | kind | factor at t | torch.optim.lr_scheduler |
 * |---|---|---|
 * | `constant` | 1 | ConstantLR(factor=1) |
 * | `step` | gamma^⌊t / every⌋ | StepLR |
 * | `cosine` | min + (1 - min)(1 + cos(π t / T)) / 2 | CosineAnnealingLR |
 * | `one-cycle` | up from 1/div to 1 until pct T - 1, down to 1/(div finalDiv) at T - 1 | OneCycleLR |
 */
export type ScheduleOptions =
  | ({ readonly kind: 'constant' } & Common)
  | ({
      readonly kind: 'step'
      /** Length of a stair, in `unit`s. */
      readonly every: number
      /** Default 'epoch'. */
      readonly unit?: 'epoch' | 'step'
      /** Default 0.1. */
      readonly gamma?: number
    } & Common)
  | ({
      readonly kind: 'cosine'
      /** Factor at the end. Default 0. */
      readonly min?: number
      /** T; the factor stays at `min` from then on. Default: all steps after warm-up. */
      readonly steps?: number
    } & Common)
  | ({
      readonly kind: 'one-cycle'
      /** Share of the steps that rise. Default 0.3. */
      readonly pct?: number
      /** Default 25. */
      readonly div?: number
      /** Default 1e4. */
      readonly finalDiv?: number
      /** Default 'cosine'. */
      readonly anneal?: 'cosine' | 'linear'
    } & Common)

/** A schedule, or its name for the defaults. */
export type ScheduleSpec = 'constant' | 'cosine' | 'one-cycle' | ScheduleOptions

/** What the learning rate is multiplied with at a step, counted from 0. A pure function. */
export type Schedule = (step: number) => number

const check = (condition: boolean, what: string, got: unknown): void =>
  checkOption(condition, 'The schedule', what, got)

/**
 * The schedule of a run of `totalSteps` steps. Momentum is never cycled.
 * @throws ERR_ARGUMENT for numbers out of range or an unknown kind
 */
export function resolveSchedule(
  spec: ScheduleSpec,
  totalSteps: number,
  stepsPerEpoch: number,
): Schedule {
  const full = typeof spec === 'string' ? ({ kind: spec } as ScheduleOptions) : spec
  check(typeof full === 'object' && full !== null, 'a name or an object', full)
  const { warmup } = full
  const rising = warmup?.steps ?? 0
  check(Number.isInteger(rising) && rising >= 0, 'warmup.steps to be an integer >= 0', rising)
  const start = warmup?.start ?? 1 / 3
  check(start >= 0 && start <= 1, 'warmup.start in [0, 1]', start)
  const rest = baseSchedule(full, Math.max(totalSteps - rising, 1), stepsPerEpoch)
  return (step) => (step < rising ? start + ((1 - start) * step) / rising : rest(step - rising))
}

function baseSchedule(spec: ScheduleOptions, totalSteps: number, stepsPerEpoch: number): Schedule {
  switch (spec.kind) {
    case 'constant':
      return () => 1
    case 'step': {
      const { every, unit = 'epoch', gamma = 0.1 } = spec
      check(every > 0, 'every > 0', every)
      check(unit === 'epoch' || unit === 'step', "unit to be 'epoch' or 'step'", unit)
      check(gamma > 0 && Number.isFinite(gamma), 'gamma > 0', gamma)
      const length = every * (unit === 'epoch' ? stepsPerEpoch : 1)
      return (t) => gamma ** Math.floor(t / length)
    }
    case 'cosine': {
      const { min = 0, steps = totalSteps } = spec
      check(min >= 0 && min <= 1, 'min in [0, 1]', min)
      check(steps > 0, 'steps > 0', steps)
      return (t) => between(1, min, Math.min(t / steps, 1), 'cosine')
    }
    case 'one-cycle':
      return oneCycle(spec, totalSteps)
    default:
      check(
        false,
        'kind to be constant, step, cosine or one-cycle',
        (spec as { kind: string }).kind,
      )
      return () => 1
  }
}

type OneCycle = Extract<ScheduleOptions, { readonly kind: 'one-cycle' }>

/** Smith & Topin 2018, with the phases of torch's OneCycleLR. */
function oneCycle(spec: OneCycle, totalSteps: number): Schedule {
  const { pct = 0.3, div = 25, finalDiv = 1e4, anneal = 'cosine' } = spec
  check(pct >= 0 && pct <= 1, 'pct in [0, 1]', pct)
  check(div > 0, 'div > 0', div)
  check(finalDiv > 0, 'finalDiv > 0', finalDiv)
  check(anneal === 'cosine' || anneal === 'linear', "anneal to be 'cosine' or 'linear'", anneal)
  const first = 1 / div
  const last = first / finalDiv
  const peak = pct * totalSteps - 1
  const end = totalSteps - 1
  return (t) => {
    if (t <= peak) return between(first, 1, peak > 0 ? t / peak : 1, anneal)
    const falling = end > peak ? Math.min((t - peak) / (end - peak), 1) : 1
    return between(1, last, falling, anneal)
  }
}

/** From `from` at 0 to `to` at 1. */
function between(from: number, to: number, at: number, curve: 'cosine' | 'linear'): number {
  const share = curve === 'linear' ? at : (1 - Math.cos(Math.PI * at)) / 2
  return from + (to - from) * share
}
