import type { AugmentOptions } from '../data/augment/options.js'
import type { DataSet } from '../data/dataset.js'
import { LosscapeError } from '../errors.js'
import { requireMatch } from '../nn/batch.js'
import { defaultLoss, type Loss, type LossSpec, resolveLoss } from '../nn/loss.js'
import type { Model } from '../nn/model.js'
import { checkOption, isCount } from './check.js'
import { type Checkpoint, type CheckpointSetting, requireSameSetting } from './checkpoint.js'
import { type EmaOptions, type EmaSpec, resolveEma } from './ema.js'
import { type FeedPlan, resolveFeed, seenSet } from './feed.js'
import type { MetricsRow } from './metrics.js'
import { type OptimizerSpec, type ResolvedOptimizer, resolveOptimizer } from './optimizer.js'
import { SampleOrder } from './order.js'
import { describeRecipe } from './recipe.js'
import { resolveSchedule, type Schedule, type ScheduleSpec } from './schedule.js'

/** Where a training run is. */
export interface TrainProgress {
  /** Steps made, of `steps`. */
  readonly step: number
  readonly steps: number
  /** Epochs done; fractional. */
  readonly epoch: number
  /** Mean loss of the last step's batch. */
  readonly loss: number
}

export interface TrainOptions {
  readonly optimizer: OptimizerSpec
  /** Default 'cross-entropy' for labels, 'mse' for values. */
  readonly loss?: LossSpec
  /** Default 'constant'. */
  readonly schedule?: ScheduleSpec
  /** Passes over the data. Default 1, unless `steps` is given. */
  readonly epochs?: number
  /** Optimiser steps, instead of `epochs`. */
  readonly steps?: number
  /** Samples per step. Default 128, at most the data set; always all of it with `gd`. */
  readonly batch?: number
  /**
   * Batches of an optimiser step, for batches of 1 or 2 samples: their gradients are averaged with
   * the sums of their samples' weights, the state is updated by each in turn. Default 1; not with
   * `gd`.
   */
  readonly accumulate?: number
  /** Of the start vector, the order of the samples and dropout. Default 0. */
  readonly seed?: number
  /** Start vector θ, logical. Default `model.init(seed)`. */
  readonly params?: ArrayLike<number>
  /** Start state σ, logical. Default `model.initState()`. */
  readonly state?: ArrayLike<number>
  /** Spreads this share of every label evenly over the classes; test rows are without. Default 0. */
  readonly labelSmoothing?: number
  /** What happens to training images; worker threads do it ahead of the steps. */
  readonly augment?: AugmentOptions
  /** Mixes pairs of samples and their labels, λ ~ Beta(a, a) per batch; 0.8 is usual. Default 0: off. */
  readonly mixup?: number
  /** Puts a box of another sample into each, λ ~ Beta(a, a); 1 is usual. With both: either, evenly. */
  readonly cutmix?: number
  /**
   * Threads that augment and mix; no influence on results. At most 64, and one a step, are started.
   * Default: one less than the device's.
   */
  readonly workers?: number
  /**
   * Keeps a moving average of θ, by its decay or options; it is evaluated like θ, under the same
   * state, which is not averaged.
   */
  readonly ema?: EmaSpec
  /** Gradients of a larger norm are scaled down to it. Default: never. */
  readonly clipNorm?: number
  /** Default 'f32'. */
  readonly precision?: 'f32' | 'f64'
  /** Evaluated after every epoch. */
  readonly test?: DataSet
  /** A new random order every epoch. Default true. */
  readonly shuffle?: boolean
  /**
   * Leaves the samples of an epoch out that do not fill a step. Default false: the last step is
   * smaller. A model with state or batch statistics always leaves out what does not fill a batch,
   * since padding would enter its statistics.
   */
  readonly dropLast?: boolean
  /** Steps between checkpoints for `onCheckpoint`. Default: only when aborted. */
  readonly checkpointEvery?: number
  /** Gets periodic checkpoints and the one of an aborted run; the run waits for its promise. */
  readonly onCheckpoint?: (checkpoint: Checkpoint) => void | Promise<void>
  /** Gets every row as soon as it is known; the run waits for its promise. */
  readonly onMetrics?: (row: MetricsRow) => void | Promise<void>
  /** After steps; coalesced when JavaScript is behind. */
  readonly onProgress?: (progress: TrainProgress) => void
  readonly signal?: AbortSignal
  /**
   * Goes on from here, bit for bit as if never interrupted. Needs the same model, data and options;
   * `epochs` or `steps` may grow, except under one-cycle, and under cosine without `steps`, whose
   * curves are stretched over the total.
   */
  readonly resume?: Checkpoint
}

/** Their names, to refuse misspelt ones. */
export const TRAIN_OPTIONS: readonly (keyof TrainOptions)[] = [
  'optimizer',
  'loss',
  'schedule',
  'epochs',
  'steps',
  'batch',
  'accumulate',
  'seed',
  'params',
  'state',
  'labelSmoothing',
  'augment',
  'mixup',
  'cutmix',
  'workers',
  'ema',
  'clipNorm',
  'precision',
  'test',
  'shuffle',
  'dropLast',
  'checkpointEvery',
  'onCheckpoint',
  'onMetrics',
  'onProgress',
  'signal',
  'resume',
]

/** Options with every default filled in. */
export interface TrainPlan {
  readonly loss: Loss
  /** Of test rows: without the smoothing of labels. */
  readonly testLoss: Loss
  readonly optimizer: ResolvedOptimizer
  readonly schedule: Schedule
  readonly order: SampleOrder
  readonly steps: number
  readonly batch: number
  /** Batches of a step. */
  readonly accumulate: number
  /** Targets are class labels. */
  readonly labels: boolean
  /** How workers make the batches; null: the device gathers them. */
  readonly feed: FeedPlan | null
  readonly ema: Required<EmaOptions> | null
  readonly setting: CheckpointSetting
}

const DEFAULT_BATCH = 128

const check = (condition: boolean, what: string, got: unknown): void =>
  checkOption(condition, 'Training', what, got)

/** @throws ERR_ARGUMENT, ERR_SHAPE, ERR_RANGE */
export function resolvePlan(model: Model, set: DataSet, options: TrainOptions): TrainPlan {
  const plainLoss = options.loss ?? defaultLoss(set)
  const lossSpec = smoothed(plainLoss, options.labelSmoothing)
  const loss = resolveLoss(lossSpec)
  const feed = resolveFeed(set, lossSpec, options)
  requireMatch(model, loss, feed ? seenSet(set, feed) : set, set)
  const ema = options.ema === undefined ? null : resolveEma(options.ema)
  if (options.test) requireMatch(model, loss, options.test)
  const { clipNorm, seed = 0, precision = 'f32', checkpointEvery } = options
  const optimizer = resolveOptimizer(options.optimizer, model.layout, clipNorm)
  const batch = resolveBatch(set, options, optimizer.fullBatch)
  const accumulate = resolveAccumulation(set, options, batch, optimizer.fullBatch)
  check(Number.isSafeInteger(seed) && seed >= 0, 'seed to be an integer >= 0', seed)
  check(precision === 'f32' || precision === 'f64', "precision to be 'f32' or 'f64'", precision)
  if (checkpointEvery !== undefined) {
    check(isCount(checkpointEvery), 'checkpointEvery to be a positive integer', checkpointEvery)
  }
  const { shuffle: mixed = true, dropLast = false } = options
  for (const [name, value] of Object.entries({ shuffle: mixed, dropLast })) {
    check(typeof value === 'boolean', `${name} to be true or false`, value)
  }
  const shuffle = !optimizer.fullBatch && mixed
  const hasState = model.couplesSamples || model.stateLayout.size > 0
  const order = new SampleOrder({
    ...{ samples: set.size, seed, shuffle, dropLast },
    batch: batch * accumulate,
    whole: hasState ? batch : 1,
  })
  const steps = resolveSteps(options, order.stepsPerEpoch)
  const { schedule: scheduleSpec = 'constant' } = options
  const schedule = resolveSchedule(scheduleSpec, steps, order.stepsPerEpoch)
  const setting: CheckpointSetting = {
    model: model.name,
    optimizer: optimizer.kind,
    samples: set.size,
    batch,
    seed,
    shuffle,
    dropLast,
    precision,
    recipe: describeRecipe({
      ...{ model, loss: lossSpec, optimizer, schedule: scheduleSpec, steps, feed, ema, accumulate },
    }),
  }
  if (options.resume) {
    requireSameSetting(options.resume, setting, optimizer.moments, model.stateLayout.size)
  }
  const labels = set.targets instanceof Int32Array
  const testLoss = resolveLoss(plainLoss)
  const resolved = { loss, testLoss, optimizer, schedule, order, steps, batch, accumulate, labels }
  return { ...resolved, feed, ema, setting }
}

/** The loss with smoothed labels. */
function smoothed(loss: LossSpec, smoothing = 0): LossSpec {
  check(smoothing >= 0 && smoothing < 1, 'labelSmoothing in [0, 1)', smoothing)
  if (smoothing === 0) return loss
  const full = loss === 'cross-entropy' ? { kind: loss } : loss
  const entropy = typeof full === 'object' && full !== null && 'kind' in full
  check(entropy, "the loss 'cross-entropy' with labelSmoothing", lossName(loss))
  const own = entropy ? full : null
  check(own?.smoothing === undefined, 'labelSmoothing or a loss with smoothing', 'both')
  return { ...own, kind: 'cross-entropy', smoothing }
}

const lossName = (loss: LossSpec): unknown => (typeof loss === 'string' ? loss : 'another loss')

function resolveBatch(set: DataSet, { batch }: TrainOptions, fullBatch: boolean): number {
  if (batch === undefined) return fullBatch ? set.size : Math.min(DEFAULT_BATCH, set.size)
  check(isCount(batch), 'batch to be a positive integer', batch)
  if (batch > set.size) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `A batch of ${batch} samples is larger than data set '${set.name}' of ${set.size}: ` +
        `pass batch: ${set.size} or less, or more data.`,
    )
  }
  check(!fullBatch || batch === set.size, `no batch with 'gd', or ${set.size}`, batch)
  return batch
}

function resolveAccumulation(
  set: DataSet,
  { accumulate = 1 }: TrainOptions,
  batch: number,
  fullBatch: boolean,
): number {
  check(isCount(accumulate), 'accumulate to be a positive integer', accumulate)
  check(accumulate === 1 || !fullBatch, "no accumulate with 'gd'", accumulate)
  if (accumulate * batch > set.size) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `A step of ${accumulate} batches of ${batch} samples is larger than data set '${set.name}' ` +
        `of ${set.size}: pass a smaller batch or accumulate.`,
    )
  }
  return accumulate
}

function resolveSteps({ epochs, steps }: TrainOptions, stepsPerEpoch: number): number {
  check(epochs === undefined || steps === undefined, 'epochs or steps', 'both')
  if (steps !== undefined) {
    check(isCount(steps), 'steps to be a positive integer', steps)
    return steps
  }
  check(isCount(epochs ?? 1), 'epochs to be a positive integer', epochs)
  return (epochs ?? 1) * stepsPerEpoch
}
