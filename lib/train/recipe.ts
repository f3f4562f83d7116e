import { createHash } from 'node:crypto'
import type { LossSpec } from '../nn/loss.js'
import type { Model } from '../nn/model.js'
import type { EmaOptions } from './ema.js'
import type { FeedPlan } from './feed.js'
import type { ResolvedOptimizer } from './optimizer.js'
import type { ScheduleSpec } from './schedule.js'

/** Every option that the arithmetic of a step depends on, by dotted name, as canonical JSON. */
export type Recipe = Readonly<Record<string, string>>

export interface RecipeParts {
  readonly model: Model
  readonly loss: LossSpec
  readonly optimizer: ResolvedOptimizer
  readonly schedule: ScheduleSpec
  /** Of the whole run. */
  readonly steps: number
  readonly feed: FeedPlan | null
  readonly ema: Required<EmaOptions> | null
  /** Batches of a step. */
  readonly accumulate: number
}

/** Longer values are recorded as their SHA-256. */
const LONGEST = 64

/**
 * What a checkpoint records of a run, to be compared when it goes on: `optimizer.momentum`,
 * `schedule.kind`, `model.dropout`, ... Parameter groups count by their effect on the tensors, a
 * loss of one's own by its name, and the run's total only where the schedule depends on it.
 */
export function describeRecipe(parts: RecipeParts): Recipe {
  const { model, loss, optimizer, schedule, steps, feed, ema, accumulate } = parts
  const { kind: _, clipNorm, ...numbers } = optimizer.native
  const { learningRateFactor, decay, frozen } = optimizer.segments
  const recipe: Record<string, string> = {}
  flatten('model', model.config, recipe)
  flatten('loss', describeLoss(loss), recipe)
  const groups = {
    lrFactor: merged(learningRateFactor),
    weightDecay: merged(decay),
    frozen: merged(frozen),
  }
  flatten('optimizer', { lr: optimizer.lr, ...numbers, ...groups }, recipe)
  flatten('schedule', describeSchedule(schedule, steps), recipe)
  recipe.clipNorm = String(clipNorm)
  if (feed) flatten('augment', feed.augment, recipe)
  if (feed?.mix) flatten('mix', feed.mix, recipe)
  if (ema) flatten('ema', ema, recipe)
  if (accumulate > 1) recipe.accumulate = String(accumulate)
  return recipe
}

function describeLoss(loss: LossSpec): object {
  if (typeof loss === 'string') return { kind: loss }
  return 'kind' in loss ? loss : { kind: loss.name, targets: loss.targets, own: true }
}

function describeSchedule(spec: ScheduleSpec, total: number): object {
  const full = typeof spec === 'string' ? { kind: spec } : spec
  const rest = Math.max(total - ('warmup' in full ? (full.warmup?.steps ?? 0) : 0), 1)
  if (full.kind === 'cosine') return { steps: rest, ...defined(full) }
  return full.kind === 'one-cycle' ? { ...full, steps: rest } : full
}

/** One number where all tensors have the same. */
function merged(perTensor: ArrayLike<number>): number | number[] {
  const list = Array.from(perTensor)
  return list.every((value) => value === list[0]) ? list[0] : list
}

function flatten(prefix: string, value: unknown, into: Record<string, string>): void {
  if (value === undefined) return
  if (isRecord(value)) {
    for (const [key, item] of Object.entries(value)) flatten(`${prefix}.${key}`, item, into)
    return
  }
  const text = canonicalJson(value)
  into[prefix] = text.length > LONGEST ? digest(text) : text
}

function digest(text: string): string {
  return `sha256 ${createHash('sha256').update(text).digest('hex').slice(0, 32)}`
}

/** JSON with sorted keys, so that equal values have equal texts. */
function canonicalJson(value: unknown): string {
  const sorted = (_: string, item: unknown): unknown =>
    isRecord(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item
  return JSON.stringify(value, sorted) ?? 'null'
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function defined(value: object): object {
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined))
}
