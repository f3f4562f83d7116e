import { requireArguments } from '../arguments.js'
import type { DataSet } from '../data/dataset.js'
import { type BatchBuffers, chunkSize, uploadBatches } from '../device/batches.js'
import { compileProgram } from '../device/compile.js'
import type { Device } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import type { NativeBuffer, NativeExecutable, NativeView } from '../native.js'
import { requireMatch, statisticsBatch } from '../nn/batch.js'
import { defaultLoss, type LossSpec, resolveLoss } from '../nn/loss.js'
import type { Model, StatisticsMode } from '../nn/model.js'
import { uploadPoint } from '../nn/upload.js'
import { requireOptions } from '../options.js'
import { evaluationProgram } from './program.js'

/** Mean over a data set. */
export interface Evaluation {
  readonly loss: number
  /** Share of right answers; null for regression. */
  readonly accuracy: number | null
  /** N */
  readonly samples: number
}

export interface EvaluateOptions {
  /** Default 'cross-entropy' for labels, 'mse' for values. */
  readonly loss?: LossSpec
  /** Samples per chunk; the mean is exact for any. Default 1024, at most the data set. */
  readonly batch?: number
  /** Default 'f32'. */
  readonly precision?: 'f32' | 'f64'
  /**
   * State σ of the model, logical: `run.state`. Default `model.initState()`. Statistics of
   * normalisation are taken from it ('frozen').
   */
  readonly state?: ArrayLike<number>
  /** After chunks: samples done, of all. What it throws, the evaluation rejects with. */
  readonly onProgress?: (done: number, total: number) => void
  readonly signal?: AbortSignal
}

/**
 * Mean loss and accuracy of a model on a data set, without dropout: L = (1/N) Σ ℓ(f(θ, x_i), y_i).
 * Costs a forward pass over the set.
 *
 * @throws ERR_SHAPE, ERR_ARGUMENT, ERR_RANGE, ERR_ABORTED; ERR_NOT_FINITE naming the tensor of θ or
 * σ that is not
 *
 * @example
 * const { params, state } = run
 * const { loss, accuracy } = await evaluate(device, model, params, testSet, { state })
 */
export async function evaluate(
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  set: DataSet,
  options: EvaluateOptions = {},
): Promise<Evaluation> {
  requireArguments('evaluate()', { device, model, params, set })
  requireOptions('evaluate()', options, [
    ...(['loss', 'batch', 'precision', 'state', 'onProgress', 'signal'] as const),
  ])
  const { precision = 'f32', state, signal, onProgress } = options
  if (state !== undefined) requireArguments('evaluate()', { state })
  const point = uploadPoint(device, model, params, state, precision)
  try {
    const evaluator = new Evaluator(device, model, set, options)
    try {
      return await evaluator.run(point.views, signal, onProgress)
    } finally {
      evaluator.dispose()
    }
  } finally {
    point.dispose()
  }
}

/** Bytes between results, one per chunk and sum. */
const RESULT_STRIDE = 64

/** Options of an {@link Evaluator}. */
export interface EvaluatorOptions extends Pick<EvaluateOptions, 'loss' | 'batch' | 'precision'> {
  /** Default 'frozen'; with 'batch' a chunk is a batch, and they are all of one size. */
  readonly statistics?: StatisticsMode
}

/** A data set on a device, ready to be evaluated for parameters that lie there. */
export class Evaluator {
  private readonly batches: BatchBuffers
  private readonly executable: NativeExecutable
  private readonly results: NativeBuffer
  private readonly precision: 'f32' | 'f64'

  constructor(
    private readonly device: Device,
    model: Model,
    private readonly set: DataSet,
    options: EvaluatorOptions = {},
  ) {
    const loss = resolveLoss(options.loss ?? defaultLoss(set))
    requireMatch(model, loss, set)
    this.precision = options.precision ?? 'f32'
    const { statistics = 'frozen' } = options
    const batch =
      statistics === 'batch'
        ? statisticsBatch(model, set, options.batch)
        : chunkSize(options.batch ?? 1024, set.size)
    const program = evaluationProgram({ model, loss, set, batch, statistics })
    this.executable = compileProgram(device, program, this.precision)
    this.batches = uploadBatches(device, set, batch, this.precision)
    try {
      const bytes = this.batches.chunks.length * 2 * RESULT_STRIDE
      this.results = device.binding.createBuffer(bytes)
    } catch (error) {
      this.batches.dispose()
      throw error
    }
  }

  /** @param point views of θ.., σ.. in the order of their layouts */
  async run(
    point: readonly NativeView[],
    signal?: AbortSignal,
    onProgress?: (done: number, total: number) => void,
  ): Promise<Evaluation> {
    const { chunks } = this.batches
    const buffer = this.results
    const bytes = new Uint8Array(chunks.length * 2 * RESULT_STRIDE)
    await withSignal(this.device.binding, signal, async (token, guard) => {
      const report = guard(onProgress)
      let done = 0
      // Queued together: the executor goes from chunk to chunk without waiting for JavaScript.
      const jobs: Promise<unknown>[] = chunks.map(({ x, y, w, samples }, i) => {
        const offset = i * 2 * RESULT_STRIDE
        const outputs = [
          { buffer, offset },
          { buffer, offset: offset + RESULT_STRIDE },
        ]
        return this.executable.run([...point, x, y, w], outputs, { token }).then(() => {
          done += samples
          report?.(done, this.set.size)
        })
      })
      jobs.push(buffer.read(0, bytes, { token }))
      await Promise.all(jobs)
    })
    const view = new DataView(bytes.buffer)
    let loss = 0
    let correct = 0
    for (let i = 0; i < chunks.length; i++) {
      loss += this.number(view, 2 * i)
      correct += this.number(view, 2 * i + 1)
    }
    const { size, targets } = this.set
    const labels = targets instanceof Int32Array
    return { loss: loss / size, accuracy: labels ? correct / size : null, samples: size }
  }

  dispose(): void {
    this.batches.dispose()
    this.results.dispose()
  }

  private number(view: DataView, slot: number): number {
    const offset = slot * RESULT_STRIDE
    return this.precision === 'f64' ? view.getFloat64(offset, true) : view.getFloat32(offset, true)
  }
}
