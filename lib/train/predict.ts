import { requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import { compileProgram } from '../device/compile.js'
import type { Device } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import type { NativeBuffer, NativeExecutable } from '../native.js'
import type { FloatVector } from '../nn/layout.js'
import type { Model } from '../nn/model.js'
import { type DevicePoint, uploadPoint } from '../nn/upload.js'
import { requireOptions } from '../options.js'
import { elements } from '../program/shape.js'
import { checkOption, isCount, isRate } from './check.js'
import { MicroBatcher } from './micro-batch.js'
import {
  predictionProgram,
  type SampleFormat,
  type SampleOptions,
  sampleFormat,
} from './prediction-program.js'

export interface PredictorOptions extends SampleOptions {
  /** State σ of the model, logical: `run.state`. Default `model.initState()`. */
  readonly state?: ArrayLike<number>
  /** Default 'f32'. */
  readonly precision?: 'f32' | 'f64'
  /** Raw scores (default), or softmax of them (sigmoid of a single one). */
  readonly output?: 'logits' | 'probabilities'
  /** Most samples per run. Default 64. */
  readonly maxBatch?: number
  /** Gathers calls that come within `maxDelayMs` of each other into one run. Default: one each. */
  readonly microBatch?: { readonly maxDelayMs: number }
}

export interface PredictOptions {
  readonly signal?: AbortSignal
}

/** Buffers of one run at a time. */
interface Lane {
  readonly batch: number
  readonly executable: NativeExecutable
  readonly input: NativeBuffer
  readonly output: NativeBuffer
}

/** Buffers kept for the next runs, per size; what a burst of calls needs beyond that is freed. */
const MOST_IDLE = 4

/** Answers single samples; made by {@link predictor}. Disposable. */
export class Predictor {
  /** Numbers per sample and per answer. */
  readonly inputSize: number
  readonly outputSize: number
  private readonly point: DevicePoint
  private readonly batcher: MicroBatcher | null
  private readonly idle = new Map<number, Lane[]>()
  private readonly precision: 'f32' | 'f64'
  private readonly maxBatch: number
  private readonly output: 'logits' | 'probabilities'
  private readonly format: SampleFormat
  private disposed = false

  constructor(
    private readonly device: Device,
    private readonly model: Model,
    params: ArrayLike<number>,
    options: PredictorOptions = {},
  ) {
    requireArguments('predictor()', { device, model, params })
    requireOptions('predictor()', options, [
      ...(['set', 'normalization', 'pixels', 'precision', 'output', 'maxBatch'] as const),
      ...(['microBatch', 'state'] as const),
    ])
    const { state } = options
    if (state !== undefined) requireArguments('predictor()', { state })
    const { precision = 'f32', output = 'logits', maxBatch = 64, microBatch } = options
    const check = (condition: boolean, what: string, got: unknown): void =>
      checkOption(condition, 'predictor()', what, got)
    check(isCount(maxBatch), 'maxBatch to be a positive integer', maxBatch)
    check(
      ['logits', 'probabilities'].includes(output),
      "output 'logits' or 'probabilities'",
      output,
    )
    if (microBatch) check(isRate(microBatch.maxDelayMs), 'maxDelayMs >= 0', microBatch.maxDelayMs)
    this.precision = precision
    this.maxBatch = maxBatch
    this.output = output
    this.format = sampleFormat(model, options)
    this.inputSize = elements(this.format.shape)
    this.outputSize = elements(model.output)
    // At the priority of predictions: an ordinary write would come after the first of them.
    this.point = uploadPoint(device, model, params, state, precision, { priority: 1 })
    this.batcher = microBatch
      ? new MicroBatcher(maxBatch, microBatch.maxDelayMs, (samples) => this.run(samples))
      : null
  }

  /**
   * The model's answer to one sample. Served before everything of ordinary priority, also while a
   * spectrum or a training runs. An answer may differ by rounding with the size of its run.
   *
   * @throws ERR_SHAPE unless x has `inputSize` numbers; ERR_NOT_FINITE; ERR_ABORTED; ERR_DISPOSED
   */
  async predict(x: ArrayLike<number>, options: PredictOptions = {}): Promise<FloatVector> {
    requireArguments('predict()', { x })
    requireOptions('predict()', options, ['signal'])
    const { signal } = options
    throwIfAborted(signal)
    this.requireSamples(x, 1)
    // Copied now: what the caller writes into x later does not matter.
    const sample = this.allocate(this.inputSize)
    sample.set(x)
    if (this.batcher) return this.batcher.add(sample, signal)
    const [answer] = await this.run([sample], signal)
    throwIfAborted(signal)
    return answer
  }

  /**
   * Answers to many samples, one after another in `xs` [count, ..] and in the result.
   *
   * @throws ERR_SHAPE unless xs is a whole number of samples; ERR_NOT_FINITE; ERR_ABORTED;
   * ERR_DISPOSED; what `onProgress` throws
   * @param options.onProgress after every run: samples answered, of all
   */
  async predictMany(
    xs: ArrayLike<number>,
    options: PredictOptions & { onProgress?: (done: number, total: number) => void } = {},
  ): Promise<FloatVector> {
    requireArguments('predictMany()', { xs })
    requireOptions('predictMany()', options, ['signal', 'onProgress'])
    return withProgress(options, (guarded) => this.answers(xs, guarded))
  }

  private async answers(
    xs: ArrayLike<number>,
    { signal, onProgress }: PredictOptions & { onProgress?: (done: number, total: number) => void },
  ): Promise<FloatVector> {
    throwIfAborted(signal)
    const count = Math.floor(xs.length / this.inputSize)
    this.requireSamples(xs, count)
    const all = this.allocate(xs.length)
    all.set(xs)
    const result = this.allocate(count * this.outputSize)
    for (let begin = 0; begin < count; begin += this.maxBatch) {
      throwIfAborted(signal)
      const end = Math.min(begin + this.maxBatch, count)
      const samples = all.subarray(begin * this.inputSize, end * this.inputSize)
      const answers = await this.runLane(samples, end - begin, 0, signal)
      result.set(answers.subarray(0, (end - begin) * this.outputSize), begin * this.outputSize)
      onProgress?.(end, count)
    }
    throwIfAborted(signal)
    return result
  }

  /** Frees device memory; calls that still wait reject with ERR_DISPOSED. */
  dispose(): void {
    if (this.disposed) return
    this.disposed = true
    this.batcher?.close(disposedError())
    for (const lanes of this.idle.values()) for (const lane of lanes) release(lane)
    this.idle.clear()
    this.point.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose()
  }

  private requireSamples(xs: ArrayLike<number>, count: number): void {
    if (this.disposed) throw disposedError()
    if (xs.length !== count * this.inputSize || count === 0) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `Samples of '${this.model.name}' have ${this.inputSize} numbers each, got ${xs.length}.`,
      )
    }
    for (let i = 0; i < xs.length; i++) {
      if (!Number.isFinite(xs[i])) {
        throw new LosscapeError('ERR_NOT_FINITE', `Element ${i} of the sample is ${xs[i]}.`)
      }
    }
  }

  private async run(samples: readonly FloatVector[], signal?: AbortSignal): Promise<FloatVector[]> {
    const joined = this.allocate(samples.length * this.inputSize)
    for (const [i, sample] of samples.entries()) joined.set(sample, i * this.inputSize)
    const answers = await this.runLane(joined, samples.length, 1, signal)
    return samples.map((_, i) => answers.slice(i * this.outputSize, (i + 1) * this.outputSize))
  }

  private async runLane(
    samples: FloatVector,
    count: number,
    priority: 0 | 1,
    signal: AbortSignal | undefined,
  ): Promise<FloatVector> {
    const lane = this.takeLane(count)
    try {
      const answers = this.allocate(lane.batch * this.outputSize)
      const { executable, input, output } = lane
      await withSignal(this.device.binding, signal, async (token) => {
        const job = { priority, token }
        const jobs: Promise<unknown>[] = []
        try {
          // Queued together and of one priority, so they run in this order.
          jobs.push(input.write(0, samples, job))
          jobs.push(
            executable.run(
              [...this.point.views, { buffer: input, offset: 0 }],
              [{ buffer: output, offset: 0 }],
              job,
            ),
          )
          jobs.push(output.read(0, answers, job))
          await Promise.all(jobs)
        } finally {
          // The lane is free when none of them is left, also after an abort.
          await Promise.allSettled(jobs)
        }
      })
      return answers
    } finally {
      const lanes = this.idle.get(lane.batch)
      if (lanes && lanes.length < MOST_IDLE) lanes.push(lane)
      else release(lane)
    }
  }

  /** Powers of two, so that few programs serve every count. */
  private takeLane(count: number): Lane {
    if (this.disposed) throw disposedError()
    const batch = Math.min(2 ** Math.ceil(Math.log2(count)), this.maxBatch)
    const lanes = this.idle.get(batch) ?? []
    this.idle.set(batch, lanes)
    const lane = lanes.pop()
    if (lane) return lane
    const { device, precision } = this
    const bytes = precision === 'f64' ? 8 : 4
    const program = predictionProgram(this.model, batch, this.format, this.output)
    const executable = compileProgram(device, program, precision)
    const input = device.binding.createBuffer(batch * this.inputSize * bytes)
    try {
      const output = device.binding.createBuffer(batch * this.outputSize * bytes)
      return { batch, executable, input, output }
    } catch (error) {
      input.dispose()
      throw error
    }
  }

  private allocate(length: number): FloatVector {
    return this.precision === 'f64' ? new Float64Array(length) : new Float32Array(length)
  }
}

/**
 * Serves single inputs: parameters stay on the device, programs are compiled once per size.
 *
 * @throws ERR_SHAPE, ERR_ARGUMENT, ERR_NOT_FINITE
 *
 * @example
 * const { params, state } = run
 * using service = predictor(device, model, params, { state, set, output: 'probabilities' })
 * const probabilities = await service.predict(pixels)
 */
export function predictor(
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  options: PredictorOptions = {},
): Predictor {
  return new Predictor(device, model, params, options)
}

function release({ input, output }: Lane): void {
  input.dispose()
  output.dispose()
}

function disposedError(): LosscapeError {
  return new LosscapeError('ERR_DISPOSED', 'The predictor has been disposed.')
}
