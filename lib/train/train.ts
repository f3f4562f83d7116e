import { requireArguments } from '../arguments.js'
import type { DataSet } from '../data/dataset.js'
import type { Device } from '../device/device.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import type { TrainResult as NativeTrainResult } from '../native.js'
import type { FloatVector } from '../nn/layout.js'
import type { Model } from '../nn/model.js'
import { requireOptions } from '../options.js'
import { eventsHandled } from '../slices.js'
import type { BatchPool } from './batch-pool.js'
import type { Checkpoint } from './checkpoint.js'
import { Evaluator } from './evaluate.js'
import { startPool } from './feed.js'
import { type EpochSums, type MetricsRow, NO_SAMPLES } from './metrics.js'
import { resolvePlan, TRAIN_OPTIONS, type TrainOptions, type TrainPlan } from './options.js'
import { TrainSession } from './session.js'

export interface TrainResult {
  /** θ, logical; a Float32Array, or a Float64Array with precision 'f64'. */
  readonly params: FloatVector
  /** The model's state σ after the last step, logical; empty for a model without. */
  readonly state: FloatVector
  /** The moving average of θ, with `ema`. */
  readonly ema?: FloatVector
  readonly metrics: readonly MetricsRow[]
  /** 'diverged': loss, gradient or σ became NaN or infinite; θ and σ are of the step before. */
  readonly status: 'completed' | 'diverged'
  /** Steps made, counted from the run's very beginning. */
  readonly steps: number
  /** Loss of the last step that had a finite one; null when there was none. */
  readonly lastFiniteLoss: number | null
  /** The run's end, to go on from with more epochs. */
  readonly checkpoint: Checkpoint
}

/**
 * Trains a model: the whole set lies on the device, and steps run natively from one epoch's end to
 * the next. Same seed, device and thread count, same bits. An aborted run rejects with ERR_ABORTED
 * after `onCheckpoint` has had a checkpoint of the last step boundary; divergence is a result.
 * A step costs three forward passes over its batch. With `augment`, `mixup` or `cutmix`, worker
 * threads make the batches ahead of the steps.
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE, ERR_RANGE for options that do not fit; ERR_NOT_FINITE for NaN in
 * start parameters; ERR_OUT_OF_MEMORY; ERR_WORKER when a worker thread fails; ERR_ABORTED
 *
 * @example
 * const run = await train(device, model, set, {
 *   optimizer: { kind: 'sgd', lr: 0.1, momentum: 0.9 }, epochs: 3, batch: 128, seed: 1,
 * })
 */
export async function train(
  device: Device,
  model: Model,
  set: DataSet,
  options: TrainOptions,
): Promise<TrainResult> {
  requireArguments('train()', { device, model, set })
  requireOptions('train()', options, TRAIN_OPTIONS)
  if (options.test !== undefined) requireArguments('train()', { test: options.test })
  if (options.params !== undefined) requireArguments('train()', { params: options.params })
  if (options.state !== undefined) requireArguments('train()', { state: options.state })
  requireArguments('train()', { optimizer: options.optimizer })
  throwIfAborted(options.signal)
  const plan = resolvePlan(model, set, options)
  const { resume, test } = options
  const { seed, precision } = plan.setting
  const start =
    resume?.params ?? options.params ?? (await model.initAsync(seed, { signal: options.signal }))
  const session = new TrainSession(device, model, set, {
    loss: plan.loss,
    optimizer: plan.optimizer,
    batch: plan.batch,
    accumulate: plan.accumulate,
    seed,
    precision,
    params: start,
    state: resume ? resume.state : options.state,
    moments: resume?.moments ?? [],
    feed: plan.feed,
    ema: plan.ema && { ...plan.ema, state: resume?.ema },
  })
  let pool: BatchPool | null = null
  try {
    // An abort that came while a large model was built is heard before the first step.
    await eventsHandled()
    const evaluator = test && new Evaluator(device, model, test, { loss: plan.testLoss, precision })
    try {
      const from = resume?.step ?? 0
      if (plan.feed && from < plan.steps) {
        const workers = options.workers ?? Math.max(1, device.threads - 1)
        const { order, steps: to } = plan
        const batch = plan.batch * plan.accumulate
        const run = { order, batch, seed, precision, from, to, workers }
        pool = startPool(set, plan.feed, run)
      }
      return await new Loop(session, evaluator, pool, plan, options).run()
    } finally {
      evaluator?.dispose()
    }
  } finally {
    await pool?.close()
    session.dispose()
  }
}

/** Rows of the data set that one native call may hold, and samples after which it comes back. */
const MOST_ROWS = 2 ** 22
const SAMPLES_PER_CALL = 2 ** 17

class Loop {
  private step: number
  private sums: EpochSums
  private lastFiniteLoss: number | null
  private readonly metrics: MetricsRow[] = []

  constructor(
    private readonly session: TrainSession,
    private readonly evaluator: Evaluator | undefined,
    private readonly pool: BatchPool | null,
    private readonly plan: TrainPlan,
    private readonly options: TrainOptions,
  ) {
    const { resume } = options
    this.step = resume?.step ?? 0
    this.sums = resume?.epochSums ?? NO_SAMPLES
    this.lastFiniteLoss = resume?.lastFiniteLoss ?? null
  }

  async run(): Promise<TrainResult> {
    const { signal, checkpointEvery = 0, onCheckpoint } = this.options
    const first = this.step
    let diverged = false
    try {
      // Set when an abort came between an epoch's last step and its rows.
      if (this.atEpochEnd()) await this.reportEpoch()
      while (this.step < this.plan.steps && !diverged) {
        throwIfAborted(signal)
        diverged = await this.advance()
        throwIfAborted(signal)
        if (diverged) break
        if (this.atEpochEnd()) await this.reportEpoch()
        if (checkpointEvery > 0 && this.step % checkpointEvery === 0) {
          await onCheckpoint?.(await this.checkpoint())
        }
      }
    } catch (error) {
      if (error instanceof LosscapeError && error.code === 'ERR_ABORTED') {
        await onCheckpoint?.(await this.checkpoint())
      }
      throw error
    }
    if (this.step > first && this.sums.samples > 0)
      await this.report(this.trainRow(this.step, this.sums))
    const checkpoint = await this.checkpoint()
    return {
      params: checkpoint.params,
      state: checkpoint.state ?? checkpoint.params.slice(0, 0),
      ...(checkpoint.ema && { ema: checkpoint.ema }),
      metrics: this.metrics,
      status: diverged ? 'diverged' : 'completed',
      steps: this.step,
      lastFiniteLoss: this.lastFiniteLoss,
      checkpoint,
    }
  }

  /** Steps up to the next boundary; true when they diverged. */
  private async advance(): Promise<boolean> {
    const { plan, options } = this
    const from = this.step
    const to = this.boundary()
    const { onProgress, signal } = options
    const learningRates = Float64Array.from({ length: to - from }, (_, i) => this.rate(from + i))
    const report =
      onProgress &&
      ((step: number, loss: number) =>
        onProgress({ step, steps: plan.steps, epoch: step / plan.order.stepsPerEpoch, loss }))
    const result = this.pool
      ? await this.session.fed(
          this.pool,
          { from, to, weights: plan.order.weights(from, to), learningRates },
          signal,
          report,
        )
      : await this.session.run(
          { from, to, ...plan.order.rows(from, to), learningRates },
          signal,
          report,
        )
    await this.account(result)
    return result.diverged
  }

  /** Sums of every step, and rows of the epochs that ended before the last one. */
  private async account({ done, losses, correct }: NativeTrainResult): Promise<void> {
    for (let i = 0; i < done; i++) {
      // Epochs end within a call only where there is nothing to evaluate.
      if (this.atEpochEnd()) await this.reportEpoch()
      const samples = this.plan.order.samplesOf(this.step)
      this.sums = {
        loss: this.sums.loss + losses[i] * samples,
        correct: this.sums.correct + correct[i],
        samples: this.sums.samples + samples,
      }
      this.step++
      this.lastFiniteLoss = losses[i]
    }
  }

  /** The next step at which JavaScript has something to do. */
  private boundary(): number {
    const { order, steps } = this.plan
    const batch = this.plan.batch * this.plan.accumulate
    const { checkpointEvery = 0 } = this.options
    const { stepsPerEpoch, samplesPerEpoch } = order
    const epochs = this.evaluator ? 1 : Math.max(1, Math.floor(SAMPLES_PER_CALL / samplesPerEpoch))
    const inEpoch = this.step % stepsPerEpoch
    const checkpoint = checkpointEvery > 0 ? checkpointEvery - (this.step % checkpointEvery) : steps
    const most = Math.max(1, Math.floor(MOST_ROWS / batch))
    const count = Math.min(epochs * stepsPerEpoch - inEpoch, checkpoint, most)
    return Math.min(steps, this.step + count)
  }

  private rate(step: number): number {
    return this.plan.optimizer.lr * this.plan.schedule(step)
  }

  /** An epoch's last step is made and its rows are not yet out. */
  private atEpochEnd(): boolean {
    return this.sums.samples > 0 && this.step % this.plan.order.stepsPerEpoch === 0
  }

  private async reportEpoch(): Promise<void> {
    const { step, sums } = this
    // Evaluated first: an abort leaves the sums, and the resumed run reports this epoch.
    const { views, averageViews } = this.session
    const evaluation = await this.evaluator?.run(views, this.options.signal)
    const averaged = averageViews && (await this.evaluator?.run(averageViews, this.options.signal))
    this.sums = NO_SAMPLES
    const row = this.trainRow(step, sums)
    await this.report(row)
    if (evaluation) {
      const { loss, accuracy } = evaluation
      await this.report({ ...row, split: 'test', loss, accuracy })
    }
    if (averaged) {
      const { loss, accuracy } = averaged
      await this.report({ ...row, split: 'test-ema', loss, accuracy })
    }
  }

  private trainRow(step: number, { loss, correct, samples }: EpochSums): MetricsRow {
    return {
      step,
      epoch: step / this.plan.order.stepsPerEpoch,
      split: 'train',
      loss: loss / samples,
      accuracy: this.plan.labels ? correct / samples : null,
      lr: this.rate(step - 1),
    }
  }

  private async report(row: MetricsRow): Promise<void> {
    this.metrics.push(row)
    await this.options.onMetrics?.(row)
  }

  private async checkpoint(): Promise<Checkpoint> {
    return {
      step: this.step,
      ...(await this.session.state()),
      epochSums: this.sums,
      lastFiniteLoss: this.lastFiniteLoss,
      setting: this.plan.setting,
    }
  }
}
