import type { DataSet } from '../data/dataset.js'
import { compileProgram } from '../device/compile.js'
import type { Device } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import { LosscapeError } from '../errors.js'
import type {
  NativeBuffer,
  NativeExecutable,
  NativeTrainer,
  TrainResult as NativeTrainResult,
  NativeView,
  NumericArray,
  TrainSteps,
} from '../native.js'
import type { FloatVector, ParameterLayout } from '../nn/layout.js'
import type { Loss } from '../nn/loss.js'
import type { Model } from '../nn/model.js'
import {
  type DeviceParameters,
  parameterViews,
  uploadParameters,
  uploadState,
} from '../nn/upload.js'
import type { BatchPool } from './batch-pool.js'
import type { EmaOptions } from './ema.js'
import { batchSet, type FeedPlan } from './feed.js'
import type { ResolvedOptimizer } from './optimizer.js'
import { FIXED, type StepProgram, stepProgram } from './program.js'

/** Steps in the queue: one that runs, and one staged behind it. */
const IN_FLIGHT = 2

function joined(results: readonly NativeTrainResult[]): NativeTrainResult {
  const numbers = (pick: (result: NativeTrainResult) => Float64Array): Float64Array =>
    Float64Array.from(results.flatMap((result) => [...pick(result)]))
  return {
    losses: numbers(({ losses }) => losses),
    correct: numbers(({ correct }) => correct),
    gradientNorms: numbers(({ gradientNorms }) => gradientNorms),
    done: results.reduce((sum, { done }) => sum + done, 0),
    diverged: results.some(({ diverged }) => diverged),
  }
}

export interface SessionOptions {
  readonly loss: Loss
  readonly optimizer: ResolvedOptimizer
  readonly batch: number
  /** Batches of a step. Default 1. */
  readonly accumulate?: number
  readonly seed: number
  readonly precision: 'f32' | 'f64'
  /** Batches come from workers, by {@link TrainSession.fed}. */
  readonly feed?: FeedPlan | null
  /** Decay of the moving average, and its state; without state: the start vector. */
  readonly ema?: (Required<EmaOptions> & { readonly state?: ArrayLike<number> }) | null
  /** Start vector, the model's state (default its initial one) and the optimiser's, logical. */
  readonly params: ArrayLike<number>
  readonly state?: ArrayLike<number>
  /** Missing ones are zeros. */
  readonly moments: readonly ArrayLike<number>[]
}

/** What a training run holds on its device: data, parameters, state, moments, the native trainer. */
export class TrainSession {
  private readonly owned: { dispose(): void }[] = []
  private readonly theta: DeviceParameters
  private readonly moments: NativeBuffer[]
  private readonly sigma: DeviceParameters | null = null
  private readonly average: DeviceParameters | null = null
  private readonly slot: { x: NativeBuffer; y: NativeBuffer } | null = null
  private readonly trainer: NativeTrainer

  constructor(
    private readonly device: Device,
    private readonly model: Model,
    set: DataSet,
    private readonly options: SessionOptions,
  ) {
    const {
      loss,
      optimizer,
      batch,
      accumulate = 1,
      seed,
      precision,
      feed = null,
      ema = null,
    } = options
    const { layout, stateLayout } = model
    const step = stepProgram({
      model,
      loss,
      set: feed ? batchSet(set, feed, batch * accumulate) : set,
      batch,
      trained: optimizer.trained,
      wholeSet: optimizer.fullBatch || (feed !== null && accumulate === 1),
      mixedLabels: feed?.mix != null,
    })
    const executable = compileProgram(device, step.program, precision)
    try {
      this.theta = this.upload(options.params)
      this.moments = Array.from(
        { length: optimizer.moments },
        (_, k) => this.upload(options.moments[k]).buffer,
      )
      this.sigma = uploadState(device, model, options.state, precision)
      if (this.sigma) this.keep(this.sigma.buffer)
      if (ema) this.average = this.upload(ema.state ?? options.params)
      const fixed: NativeView[] = []
      if (feed) {
        const [x, y] = [FIXED.inputs, FIXED.targets].map((at) =>
          this.slotBuffer(executable, step, at),
        )
        this.slot = { x, y }
        fixed[FIXED.inputs] = { buffer: x, offset: 0 }
        fixed[FIXED.targets] = { buffer: y, offset: 0 }
      } else {
        fixed[FIXED.inputs] = this.uploadData(set.inputs)
        fixed[FIXED.targets] = this.uploadData(set.targets)
      }
      const trainer = device.binding.createTrainer({
        dtype: precision,
        storage: layout.storage,
        segments: optimizer.segments,
        optimizer: optimizer.native,
        theta: this.theta.buffer,
        moments: this.moments,
        ...(ema &&
          this.average && {
            average: { buffer: this.average.buffer, decay: ema.decay, warmup: ema.warmup },
          }),
        ...(this.sigma && {
          state: {
            buffer: this.sigma.buffer,
            storage: stateLayout.storage,
            offsets: step.stateOffsets,
          },
        }),
        executable,
        inputs: step.inputs,
        fixed,
        batch,
        accumulate,
        seed,
        gradientOffsets: step.gradientOffsets,
      })
      this.trainer = this.keep(trainer)
    } catch (error) {
      this.dispose()
      throw error
    }
  }

  /** θ.., σ.. where they lie, for evaluation. */
  get views(): readonly NativeView[] {
    return this.withState(this.theta)
  }

  /** Steps until done, diverged or aborted; θ is at the boundary that the result tells. */
  async run(
    steps: TrainSteps,
    signal: AbortSignal | undefined,
    onStep: ((step: number, loss: number) => void) | undefined,
  ): Promise<NativeTrainResult> {
    return withSignal(this.device.binding, signal, (token, guard) =>
      this.trainer.run(steps, { token, onStep: guard(onStep) }),
    )
  }

  /** The moving average of θ and the state, which is not averaged; null when none is kept. */
  get averageViews(): readonly NativeView[] | null {
    return this.average && this.withState(this.average)
  }

  private withState({ views }: DeviceParameters): readonly NativeView[] {
    return [...views, ...(this.sigma?.views ?? [])]
  }

  /**
   * Steps [from, to) on batches from a pool. The next batch is staged while a step runs: the queue
   * keeps a batch's copy behind the step before, and a step behind one that diverged does nothing.
   */
  async fed(
    pool: BatchPool,
    steps: Omit<TrainSteps, 'rows'>,
    signal: AbortSignal | undefined,
    onStep: ((step: number, loss: number) => void) | undefined,
  ): Promise<NativeTrainResult> {
    const batch = this.options.batch * (this.options.accumulate ?? 1)
    const { x, y } = this.slot as { x: NativeBuffer; y: NativeBuffer }
    const rows = Int32Array.from({ length: batch }, (_, i) => i)
    const results: NativeTrainResult[] = []
    const running: Promise<NativeTrainResult>[] = []
    const settle = async (): Promise<boolean> => {
      const result = await (running.shift() as Promise<NativeTrainResult>)
      results.push(result)
      if (result.done > 0) onStep?.(steps.from + results.length, result.losses[0])
      return result.done > 0
    }
    await withSignal(this.device.binding, signal, async (token) => {
      try {
        for (let step = steps.from; step < steps.to; step++) {
          const made = await pool.take(step, signal)
          if (running.length >= IN_FLIGHT && !(await settle())) break
          const at = step - steps.from
          // Copied at the call, so that the slot is free at once. Only an abort could reject these.
          x.write(0, made.x, { token }).catch(() => {})
          y.write(0, made.y, { token }).catch(() => {})
          pool.release(made)
          const run = this.trainer.run(
            {
              from: step,
              to: step + 1,
              rows,
              weights: steps.weights.subarray(at * batch, (at + 1) * batch),
              learningRates: steps.learningRates.subarray(at, at + 1),
            },
            { token },
          )
          // Awaited later, or never when another step fails first.
          run.catch(() => {})
          running.push(run)
        }
      } catch (error) {
        // An abort is told by the caller, who needs the steps that were made.
        if (!(error instanceof LosscapeError) || error.code !== 'ERR_ABORTED') {
          await Promise.allSettled(running)
          throw error
        }
      }
      try {
        while (running.length > 0) await settle()
      } finally {
        await Promise.allSettled(running)
      }
    })
    return joined(results)
  }

  /** θ, moments, average and σ as they are now, logical. */
  async state(): Promise<{
    params: FloatVector
    moments: FloatVector[]
    ema?: FloatVector
    state?: FloatVector
  }> {
    const { layout, stateLayout } = this.model
    const download = (buffer: NativeBuffer): Promise<FloatVector> => this.download(buffer, layout)
    const [params, moments, ema, state] = await Promise.all([
      download(this.theta.buffer),
      Promise.all(this.moments.map(download)),
      this.average && download(this.average.buffer),
      this.sigma && this.download(this.sigma.buffer, stateLayout),
    ])
    return { params, moments, ...(ema && { ema }), ...(state && { state }) }
  }

  dispose(): void {
    for (const item of this.owned.splice(0).reverse()) item.dispose()
  }

  private keep<T extends { dispose(): void }>(item: T): T {
    this.owned.push(item)
    return item
  }

  private upload(vector: ArrayLike<number> | undefined): DeviceParameters {
    const { layout } = this.model
    const { precision } = this.options
    if (vector) {
      const uploaded = uploadParameters(this.device, layout, vector, precision)
      this.keep(uploaded.buffer)
      return uploaded
    }
    const bytes = precision === 'f64' ? 8 : 4
    const buffer = this.createBuffer(layout.storage * bytes)
    return { buffer, views: parameterViews(layout, buffer, bytes) }
  }

  private createBuffer(bytes: number): NativeBuffer {
    return this.keep(this.device.binding.createBuffer(bytes))
  }

  /** Memory for one batch of the step's input `at`. */
  private slotBuffer(
    executable: NativeExecutable,
    { inputs }: StepProgram,
    at: number,
  ): NativeBuffer {
    const index = inputs.findIndex((input) => input.kind === 'fixed' && input.index === at)
    return this.createBuffer(executable.inputBytes[index])
  }

  /** The whole of an array, in the run's precision; weights of the samples come with every step. */
  private uploadData(array: NumericArray): NativeView {
    const real = array instanceof Float32Array || array instanceof Float64Array
    const Real = this.options.precision === 'f64' ? Float64Array : Float32Array
    const stored = real && !(array instanceof Real) ? Real.from(array) : array
    const buffer = this.createBuffer(stored.byteLength)
    // The queue keeps order: whatever runs later sees the data. Only an abort could reject this.
    buffer.write(0, stored).catch(() => {})
    return { buffer, offset: 0 }
  }

  private async download(buffer: NativeBuffer, layout: ParameterLayout): Promise<FloatVector> {
    const allocate = (length: number): FloatVector =>
      this.options.precision === 'f64' ? new Float64Array(length) : new Float32Array(length)
    const storage = allocate(layout.storage)
    await withSignal(this.device.binding, undefined, () => buffer.read(0, storage))
    return layout.fromStorage(storage, allocate(layout.size))
  }
}
