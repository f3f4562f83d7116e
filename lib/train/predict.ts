import type { DataSet, Normalization } from '../data/dataset.js'
import { compileProgram } from '../device/compile.js'
import type { Device } from '../device/device.js'
import { nativeCall, withSignal } from '../device/native-call.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import type { NativeBuffer, NativeExecutable } from '../native.js'
import { normalizeBatch } from '../nn/batch.js'
import type { FloatVector } from '../nn/layout.js'
import type { Model } from '../nn/model.js'
import { type DeviceParameters, uploadParameters } from '../nn/upload.js'
import * as ops from '../ops/index.js'
import { simplify } from '../program/passes/index.js'
import { elements } from '../program/shape.js'
import type { Tensor } from '../program/tensor.js'
import { trace } from '../program/trace.js'
import type { Program, TensorType } from '../program/types.js'
import { checkOption, isCount, isRate } from './check.js'
import { MicroBatcher } from './micro-batch.js'

export interface PredictorOptions {
  /** Default 'f32'. */
  readonly precision?: 'f32' | 'f64'
  /** Raw scores (default), or softmax of them (sigmoid of a single one). */
  readonly output?: 'logits' | 'probabilities'
  /** Samples come raw, as this set stores them: its shape, pixel scale and normalization. */
  readonly set?: Pick<DataSet, 'shape' | 'inputs' | 'normalization'>
  /** Without `set`: x' = (x - mean) / std. Default: samples are taken as they come. */
  readonly normalization?: Normalization
  /** Without `set`: samples are bytes 0 to 255 that count as x / 255. Default false. */
  readonly pixels?: boolean
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

/** Answers single samples; made by {@link predictor}. Disposable. */
export class Predictor {
  /** Numbers per sample and per answer. */
  readonly inputSize: number
  readonly outputSize: number
  private readonly theta: DeviceParameters
  private readonly batcher: MicroBatcher | null
  private readonly idle = new Map<number, Lane[]>()
  private readonly precision: 'f32' | 'f64'
  private readonly maxBatch: number
  private disposed = false

  constructor(
    private readonly device: Device,
    private readonly model: Model,
    params: ArrayLike<number>,
    private readonly options: PredictorOptions = {},
  ) {
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
    this.inputSize = elements(model.input)
    this.outputSize = elements(model.output)
    const shape = options.set?.shape ?? model.input
    if (elements(shape) !== this.inputSize) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `Model '${model.name}' takes samples of [${model.input}], the set has [${shape}].`,
      )
    }
    // At the priority of predictions: an ordinary write would come after the first of them.
    this.theta = uploadParameters(device, model.layout, params, precision, { priority: 1 })
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
    const { signal } = options
    throwIfAborted(signal)
    this.requireSamples(x, 1)
    // Copied now: what the caller writes into x later does not matter.
    const sample = this.allocate(this.inputSize)
    sample.set(x)
    if (this.batcher) return this.batcher.add(sample, signal)
    const [answer] = await this.run([sample])
    throwIfAborted(signal)
    return answer
  }

  /**
   * Answers to many samples, one after another in `xs` [count, ..] and in the result.
   *
   * @throws ERR_SHAPE unless xs is a whole number of samples; ERR_NOT_FINITE; ERR_ABORTED;
   * ERR_DISPOSED
   */
  async predictMany(xs: ArrayLike<number>, options: PredictOptions = {}): Promise<FloatVector> {
    const { signal } = options
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
      const answers = await this.runLane(samples, end - begin, 0)
      result.set(answers.subarray(0, (end - begin) * this.outputSize), begin * this.outputSize)
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
    this.theta.buffer.dispose()
  }

  [Symbol.dispose](): void {
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

  private async run(samples: readonly FloatVector[]): Promise<FloatVector[]> {
    const joined = this.allocate(samples.length * this.inputSize)
    for (const [i, sample] of samples.entries()) joined.set(sample, i * this.inputSize)
    const answers = await this.runLane(joined, samples.length, 1)
    return samples.map((_, i) => answers.slice(i * this.outputSize, (i + 1) * this.outputSize))
  }

  private async runLane(
    samples: FloatVector,
    count: number,
    priority: 0 | 1,
  ): Promise<FloatVector> {
    const lane = nativeCall(() => this.takeLane(count))
    try {
      const answers = this.allocate(lane.batch * this.outputSize)
      const { executable, input, output } = lane
      // Queued together and of one priority, so they run in this order.
      const jobs = [
        input.write(0, samples, { priority }),
        executable.run(
          [...this.theta.views, { buffer: input, offset: 0 }],
          [{ buffer: output, offset: 0 }],
          { priority },
        ),
        output.read(0, answers, { priority }),
      ]
      await withSignal(this.device.binding, undefined, () => Promise.all<unknown>(jobs))
      return answers
    } finally {
      if (this.disposed) release(lane)
      else this.idle.get(lane.batch)?.push(lane)
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
    const program = predictionProgram(this.model, batch, this.options)
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
 * using service = predictor(device, model, run.params, { set, output: 'probabilities' })
 * const probabilities = await service.predict(pixels)
 */
export function predictor(
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  options: PredictorOptions = {},
): Predictor {
  return nativeCall(() => new Predictor(device, model, params, options))
}

function predictionProgram(model: Model, batch: number, options: PredictorOptions): Program {
  const { set, normalization = { mean: [0], std: [1] }, pixels = false, output } = options
  const samples: DataSet = {
    name: 'samples',
    size: batch,
    shape: set?.shape ?? model.input,
    inputs: set?.inputs ?? (pixels ? new Uint8Array() : new Float32Array()),
    targets: new Int32Array(),
    targetShape: [],
    classes: null,
    normalization: set?.normalization ?? normalization,
  }
  const types: TensorType[] = model.layout.entries.map(({ shape }) => ({ dtype: 'f32', shape }))
  const x: TensorType = { dtype: 'f32', shape: [batch, ...samples.shape] }
  return simplify(
    trace(
      (...args) => {
        const inputs = normalizeBatch(args[args.length - 1], samples, model)
        const z = model.apply(args.slice(0, -1), inputs, { training: false, key: null })
        return output === 'probabilities' ? probabilities(z, elements(model.output)) : z
      },
      [...types, x],
    ),
  )
}

function probabilities(z: Tensor, scores: number): Tensor {
  return scores === 1 ? ops.sigmoid(z) : ops.softmax(z)
}

function release({ input, output }: Lane): void {
  input.dispose()
  output.dispose()
}

function disposedError(): LosscapeError {
  return new LosscapeError('ERR_DISPOSED', 'The predictor has been disposed.')
}
