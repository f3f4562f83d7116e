import type { DataSet } from '../data/dataset.js'
import { compileProgram } from '../device/compile.js'
import type { Device } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import type {
  NativeBuffer,
  NativeTrainer,
  TrainResult as NativeTrainResult,
  NativeView,
  NumericArray,
  TrainSteps,
} from '../native.js'
import type { FloatVector } from '../nn/layout.js'
import type { Loss } from '../nn/loss.js'
import type { Model } from '../nn/model.js'
import { type DeviceParameters, parameterViews, uploadParameters } from '../nn/upload.js'
import type { ResolvedOptimizer } from './optimizer.js'
import { FIXED, stepProgram } from './program.js'

export interface SessionOptions {
  readonly loss: Loss
  readonly optimizer: ResolvedOptimizer
  readonly batch: number
  readonly seed: number
  readonly precision: 'f32' | 'f64'
  /** Start vector and the optimiser's state, logical; no state: zeros. */
  readonly params: ArrayLike<number>
  readonly moments: readonly ArrayLike<number>[]
}

/** What a training run holds on its device: data, parameters, moments and the native trainer. */
export class TrainSession {
  private readonly owned: { dispose(): void }[] = []
  private readonly theta: DeviceParameters
  private readonly moments: NativeBuffer[]
  private readonly trainer: NativeTrainer

  constructor(
    private readonly device: Device,
    private readonly model: Model,
    set: DataSet,
    private readonly options: SessionOptions,
  ) {
    const { loss, optimizer, batch, seed, precision } = options
    const step = stepProgram({
      model,
      loss,
      set,
      batch,
      trained: optimizer.trained,
      wholeSet: optimizer.fullBatch,
    })
    const executable = compileProgram(device, step.program, precision)
    try {
      this.theta = this.upload(options.params)
      this.moments = Array.from(
        { length: optimizer.moments },
        (_, k) => this.upload(options.moments[k]).buffer,
      )
      const fixed: NativeView[] = []
      fixed[FIXED.inputs] = this.uploadData(set.inputs)
      fixed[FIXED.targets] = this.uploadData(set.targets)
      const trainer = device.binding.createTrainer({
        dtype: precision,
        storage: model.layout.storage,
        segments: optimizer.segments,
        optimizer: optimizer.native,
        theta: this.theta.buffer,
        moments: this.moments,
        executable,
        inputs: step.inputs,
        fixed,
        batch,
        seed,
        gradientOffsets: step.gradientOffsets,
      })
      this.trainer = this.keep(trainer)
    } catch (error) {
      this.dispose()
      throw error
    }
  }

  /** Parameters where they lie, for evaluation. */
  get views(): readonly NativeView[] {
    return this.theta.views
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

  /** θ and moments as they are now, logical. */
  async state(): Promise<{ params: FloatVector; moments: FloatVector[] }> {
    const [params, ...moments] = await Promise.all(
      [this.theta.buffer, ...this.moments].map((buffer) => this.download(buffer)),
    )
    return { params, moments }
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

  private async download(buffer: NativeBuffer): Promise<FloatVector> {
    const { layout } = this.model
    const allocate = (length: number): FloatVector =>
      this.options.precision === 'f64' ? new Float64Array(length) : new Float32Array(length)
    const storage = allocate(layout.storage)
    await withSignal(this.device.binding, undefined, () => buffer.read(0, storage))
    return layout.fromStorage(storage, allocate(layout.size))
  }
}
