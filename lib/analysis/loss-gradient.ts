import type { DataSet } from '../data/dataset.js'
import { take } from '../data/select.js'
import { chunkSize } from '../device/batches.js'
import type { Device } from '../device/device.js'
import { compile, type Executable } from '../device/executable.js'
import { throwIfAborted } from '../errors.js'
import { batchTypes, normalizeBatch, requireMatch, resolveStatistics } from '../nn/batch.js'
import { defaultLoss, type Loss, type LossSpec, resolveLoss } from '../nn/loss.js'
import type { Model, StatisticsMode } from '../nn/model.js'
import * as ops from '../ops/index.js'
import { simplify } from '../program/passes/index.js'
import { trace } from '../program/trace.js'
import type { Program } from '../program/types.js'
import { gradProgram } from '../program/vjp.js'
import { tensorsOf } from './tensors.js'

/** How a loss and its gradient are taken over a set. */
export interface GradientOptions {
  /** Default 'cross-entropy' for labels, 'mse' for values. */
  readonly loss?: LossSpec
  /** Of norms over the batch; to be chosen where the model has such ('batch' is what training sees). */
  readonly statistics?: StatisticsMode
  /** Samples per chunk; with statistics 'batch' these are the batches. Default 256. */
  readonly batch?: number
  /** Default 'f32'. */
  readonly precision?: 'f32' | 'f64'
}

export const GRADIENT_OPTIONS = ['loss', 'statistics', 'batch', 'precision'] as const

/** Mean loss over a set and its gradient in θ, for host vectors. */
export class LossGradient {
  private readonly programs = new Map<number, Executable>()
  private readonly chunks: DataSet[] = []
  private readonly loss: Loss
  private readonly statistics: StatisticsMode

  constructor(
    private readonly device: Device,
    private readonly model: Model,
    private readonly set: DataSet,
    private readonly options: GradientOptions,
  ) {
    this.loss = resolveLoss(options.loss ?? defaultLoss(set))
    requireMatch(model, this.loss, set)
    this.statistics = resolveStatistics(model, options.statistics)
    const rows = chunkSize(options.batch ?? 256, set.size)
    for (let from = 0; from < set.size; from += rows) {
      const size = Math.min(rows, set.size - from)
      this.chunks.push(
        take(
          set,
          Array.from({ length: size }, (_, i) => from + i),
        ),
      )
    }
  }

  /** @throws ERR_SHAPE, ERR_ABORTED */
  async at(
    params: ArrayLike<number>,
    state: ArrayLike<number> | undefined,
    signal?: AbortSignal,
  ): Promise<{ loss: number; gradient: Float64Array }> {
    const tensors = tensorsOf(this.model, params, state)
    const gradient = new Float64Array(this.model.size)
    let loss = 0
    for (const chunk of this.chunks) {
      throwIfAborted(signal)
      const run = this.program(chunk.size)
      const [value, ...parts] = await run.run([...tensors, chunk.inputs, chunk.targets], { signal })
      const share = 1 / this.set.size
      loss += share * value[0]
      for (const [t, { offset }] of this.model.layout.entries.entries()) {
        const part = parts[t]
        for (let i = 0; i < part.length; i++) gradient[offset + i] += share * part[i]
      }
    }
    return { loss, gradient }
  }

  dispose(): void {
    for (const program of this.programs.values()) program.dispose()
    this.programs.clear()
  }

  private program(size: number): Executable {
    const known = this.programs.get(size)
    if (known) return known
    const { precision = 'f32' } = this.options
    const made = compile(this.device, this.gradient(size), { precision })
    this.programs.set(size, made)
    return made
  }

  /** From (θ.., σ.., x, y) to (Σ ℓ_i, ∂/∂θ..). */
  private gradient(size: number): Program {
    const { model, set, loss } = this
    const { statistics } = this
    const { x, y } = batchTypes(set, size)
    const program = trace(
      (...args) => {
        const [samples, targets] = args.slice(-2)
        const input = normalizeBatch(samples, set, model)
        const options = { training: false, key: null, statistics } as const
        const z = model.apply(args.slice(0, -2), input, options)
        return ops.sum(loss.perSample(z, targets))
      },
      [...model.tensorTypes, x, y],
    )
    const parameters = model.layout.entries.length
    return simplify(
      gradProgram(
        program,
        program.inputs.map((_, i) => i < parameters),
      ),
    )
  }
}
