import { requireArguments } from '../arguments.js'
import { type AugmentOptions, imageShape, resolveAugment } from '../data/augment/options.js'
import type { DataSet } from '../data/dataset.js'
import { LosscapeError } from '../errors.js'
import type { LossSpec } from '../nn/loss.js'
import { elements } from '../program/shape.js'
import type { BatchJob, BatchSetting } from './batch-maker.js'
import { BatchPool } from './batch-pool.js'
import { checkOption, isCount } from './check.js'
import { checkMixing, type MixPlan } from './mixup.js'
import type { SampleOrder } from './order.js'

/** Options of training that need batches made by workers. */
export interface FeedOptions {
  readonly augment?: AugmentOptions
  readonly mixup?: number
  readonly cutmix?: number
  readonly workers?: number
}

/** What workers do to the samples of a set. */
export type FeedPlan = Pick<BatchSetting, 'shape' | 'augment' | 'mix'>

/** More threads than any batch can use take memory and time to start. */
const MAX_WORKERS = 64

/** Share of the batches that CutMix gets where mixup is on too. */
const SWITCH = 0.5

/**
 * How batches are made, or null when the device gathers them itself.
 * @throws ERR_ARGUMENT, ERR_SHAPE, ERR_DTYPE
 */
export function resolveFeed(
  set: DataSet,
  loss: LossSpec,
  { augment, mixup = 0, cutmix = 0, workers }: FeedOptions,
): FeedPlan | null {
  checkMixing(mixup, cutmix)
  if (workers !== undefined) {
    checkOption(isCount(workers), 'Training', 'workers to be a positive integer', workers)
  }
  if (augment !== undefined) requireArguments('Training with augment', { options: augment })
  const mixes = mixup > 0 || cutmix > 0
  if (augment === undefined && !mixes) return null
  if (mixes) {
    requireMixable(set, loss)
    requireImages(set)
    requireLabels(set)
  }
  const mix: MixPlan | null = mixes
    ? { mixup, cutmix, switchProbability: SWITCH, classes: set.classes as number }
    : null
  return { shape: imageShape(set), augment: resolveAugment(augment ?? {}, set), mix }
}

function requireMixable(set: DataSet, loss: LossSpec): void {
  const entropy =
    loss === 'cross-entropy' ||
    (typeof loss === 'object' && 'kind' in loss && loss.ignoreLabel === undefined)
  if (set.classes !== null && entropy) return
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `${set.name}: mixup and cutmix mix class labels under the loss 'cross-entropy' without ` +
      'ignoreLabel; leave them out, or take that loss and a set with labels.',
  )
}

function requireImages({ name, shape }: DataSet): void {
  if (shape.length === 2 || shape.length === 3) return
  throw new LosscapeError(
    'ERR_SHAPE',
    `${name}: mixup and cutmix mix images [height, width] or [channels, height, width]; ` +
      `samples of shape [${shape}] are none. Leave them out.`,
  )
}

/** Mixed labels are probabilities, in which a label out of range would only be missing. */
function requireLabels({ name, targets, classes }: DataSet): void {
  const at = targets.findIndex((label) => !(label >= 0 && label < (classes as number)))
  if (at < 0) return
  throw new LosscapeError(
    'ERR_RANGE',
    `${name}: sample ${at} has label ${targets[at]}; expected 0 to ${(classes as number) - 1}.`,
  )
}

/** The set with samples of the shape that workers make. */
export function seenSet(set: DataSet, { shape, augment }: FeedPlan): DataSet {
  const { resize: _, ...rest } = set
  const size = [...augment.size]
  return { ...rest, shape: set.shape.length === 2 ? size : [shape[0], ...size] }
}

/** One batch as the program of a step sees it; mixed labels are probabilities. */
export function batchSet(set: DataSet, feed: FeedPlan, batch: number): DataSet {
  const seen = { ...seenSet(set, feed), size: batch }
  if (!feed.mix) return seen
  return { ...seen, targets: new Float32Array(), targetShape: [feed.mix.classes], classes: null }
}

/** Workers that make the batches of steps [from, to) of a run, in order. */
export function startPool(
  set: DataSet,
  feed: FeedPlan,
  run: {
    readonly order: SampleOrder
    readonly batch: number
    readonly seed: number
    readonly precision: 'f32' | 'f64'
    readonly from: number
    readonly to: number
    readonly workers: number
  },
): BatchPool {
  const { order, batch, seed, precision, from, to } = run
  const workers = Math.min(run.workers, to - from, MAX_WORKERS)
  const jobs = (step: number): BatchJob | null => {
    if (step >= to) return null
    const rows = order.rows(step, step + 1).rows.subarray(0, order.samplesOf(step))
    return { step, epoch: Math.floor(step / order.stepsPerEpoch), rows }
  }
  const { inputs, targets, targetShape } = set
  const setting = {
    inputs,
    targets,
    values: elements(targetShape),
    ...feed,
    batch,
    seed,
    precision,
  }
  return new BatchPool(setting, { workers, from, jobs })
}
