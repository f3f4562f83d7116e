import { argumentError, requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import type { DataSet } from '../data/dataset.js'
import { take } from '../data/select.js'
import { chunkSize } from '../device/batches.js'
import type { Device } from '../device/device.js'
import { compile, type Executable } from '../device/executable.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import { batchTypes, normalizeBatch, resolveStatistics } from '../nn/batch.js'
import type { Model, StatisticsMode } from '../nn/model.js'
import * as ops from '../ops/index.js'
import { requireOptions } from '../options.js'
import { simplify } from '../program/passes/index.js'
import { inline, trace } from '../program/trace.js'
import type { Program } from '../program/types.js'
import type { ChannelMoments } from './elimination.js'
import { type PreActivation, preActivations } from './pre-activations.js'
import { tensorsOf } from './tensors.js'

export interface ChannelStatisticsOptions {
  /** σ, logical. Default `model.initState()`. */
  readonly state?: ArrayLike<number>
  /**
   * What is looked at: results of the norms before shortcut and ReLU ('norm', the default), or what
   * the ReLUs see ('relu').
   */
  readonly at?: 'norm' | 'relu'
  /** Of norms over the batch; to be chosen where the model has such, else 'frozen'. */
  readonly statistics?: StatisticsMode
  /** Samples per chunk; with statistics 'batch' these are the batches. Default 256. */
  readonly batch?: number
  /** Where channels are before a ReLU without norm. Default 'nhwc', as the package's models have it. */
  readonly layout?: 'nchw' | 'nhwc'
  /** Default 'f32'. */
  readonly precision?: 'f32' | 'f64'
  readonly signal?: AbortSignal
  /** After chunks: samples done, of all. */
  readonly onProgress?: (done: number, total: number) => void
}

/** One layer's channels over samples and places. */
export interface ChannelStatistics extends ChannelMoments {
  /** Of the norm, `layer1.0.bn1`; `relu.K` where there is none. */
  readonly name: string
  /** A ReLU follows, directly or behind the sum with a shortcut. */
  readonly relu: boolean
  /** A shortcut is added between the norm and the ReLU. */
  readonly residual: boolean
  /** Groups of the norm's statistics over channels; 0 without. */
  readonly groups: number
  readonly mean: Float64Array
  readonly std: Float64Array
  readonly positive: Float64Array
}

/**
 * Mean, deviation and share of positive values of every channel, layer by layer: what
 * `eliminationMeasures()` judges. Means and centred squares are taken on the device for each chunk and
 * merged in float64. Costs a forward pass over the set, the norms twice.
 *
 * @example
 * const layers = await channelStatistics(device, model, run.params, test, { state: run.state })
 * const dead = layers.map((layer) => eliminationMeasures(layer).dead)
 *
 * @throws ERR_ARGUMENT for a model without norms or ReLUs to look at; ERR_SHAPE, ERR_ABORTED
 */
export async function channelStatistics(
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  set: DataSet,
  options: ChannelStatisticsOptions = {},
): Promise<ChannelStatistics[]> {
  const where = 'channelStatistics()'
  requireArguments(where, { device, model, params, set })
  requireOptions(where, options, [
    ...(['state', 'at', 'statistics', 'batch', 'layout', 'precision', 'signal'] as const),
    'onProgress',
  ])
  const { at = 'norm', layout = 'nhwc' } = options
  const choices = { at: ['norm', 'relu'], layout: ['nchw', 'nhwc'] }
  for (const [name, value] of Object.entries({ at, layout })) {
    const known = choices[name as keyof typeof choices]
    if (!known.includes(value)) {
      throw argumentError(where, name, known.map((word) => `'${word}'`).join(' or '), value)
    }
  }
  const statistics = resolveStatistics(model, options.statistics)
  const tensors = tensorsOf(model, params, options.state)
  return withProgress(options, (guarded) =>
    new Reader(device, model, set, { ...guarded, at, statistics, layout }).read(tensors),
  )
}

type Resolved = ChannelStatisticsOptions &
  Required<Pick<ChannelStatisticsOptions, 'at' | 'statistics' | 'layout'>>

/** Sums of one channel's chunks. */
interface Merged {
  readonly layer: PreActivation
  readonly weights: number[]
  readonly means: Float64Array[]
  readonly variances: Float64Array[]
  readonly shares: Float64Array[]
}

class Reader {
  private readonly programs = new Map<number, { run: Executable; layers: PreActivation[] }>()

  constructor(
    private readonly device: Device,
    private readonly model: Model,
    private readonly set: DataSet,
    private readonly options: Resolved,
  ) {}

  async read(tensors: readonly ArrayLike<number>[]): Promise<ChannelStatistics[]> {
    const { set } = this
    const { batch = 256, signal, onProgress } = this.options
    const rows = chunkSize(batch, set.size)
    const merged: Merged[] = []
    try {
      for (let from = 0; from < set.size; from += rows) {
        throwIfAborted(signal)
        const size = Math.min(rows, set.size - from)
        const part = take(
          set,
          Array.from({ length: size }, (_, i) => from + i),
        )
        const { run, layers } = this.program(size)
        const results = await run.run([...tensors, part.inputs], { signal })
        for (const [l, layer] of layers.entries()) {
          merged[l] ??= { layer, weights: [], means: [], variances: [], shares: [] }
          const [mean, variance, share] = results.slice(3 * l, 3 * l + 3)
          merged[l].weights.push(size)
          merged[l].means.push(Float64Array.from(mean))
          merged[l].variances.push(Float64Array.from(variance))
          merged[l].shares.push(Float64Array.from(share))
        }
        onProgress?.(from + size, set.size)
      }
    } finally {
      for (const { run } of this.programs.values()) run.dispose()
    }
    return merged.map(statisticsOf)
  }

  private program(size: number) {
    const known = this.programs.get(size)
    if (known) return known
    const { model, set, device, options } = this
    const { program, layers } = statisticsProgram(model, set, size, options)
    const run = compile(device, program, { precision: options.precision ?? 'f32' })
    const entry = { run, layers }
    this.programs.set(size, entry)
    return entry
  }
}

/** From (θ.., σ.., samples) to mean, biased variance and positive share [C] of each layer. */
function statisticsProgram(
  model: Model,
  set: DataSet,
  size: number,
  { at, statistics, layout }: Resolved,
): { program: Program; layers: PreActivation[] } {
  const whole = trace(
    (...args) => {
      const x = normalizeBatch(args[args.length - 1], set, model)
      return model.apply(args.slice(0, -1), x, { training: false, key: null, statistics })
    },
    [...model.tensorTypes, batchTypes(set, size).x],
  )
  const { program, layers } = preActivations(whole, model.layout.names, at, layout)
  if (layers.length === 0) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `channelStatistics() found no ${at === 'norm' ? 'norms over channels' : 'ReLUs'} in model ` +
        `'${model.name}'${at === 'norm' ? "; at: 'relu' looks at what its ReLUs see." : '.'}`,
    )
  }
  const reduced = trace((...args) => {
    return inline(program, args).flatMap((x, l) => {
      const axes = x.shape.map((_, axis) => axis).filter((axis) => axis !== layers[l].axis)
      const { mean, variance } = ops.moments(x, axes)
      const flat = [x.shape[layers[l].axis]]
      const positive = ops.mean(ops.cast(ops.gt(x, 0), x.dtype), axes)
      return [ops.reshape(mean, flat), ops.reshape(variance, flat), positive]
    })
  }, program.inputs)
  return { program: simplify(reduced), layers }
}

/** Moments of the union of chunks: Σ n_i (v_i + (m_i - m)²) / Σ n_i. */
function statisticsOf({ layer, weights, means, variances, shares }: Merged): ChannelStatistics {
  const total = weights.reduce((a, b) => a + b, 0)
  const over = (value: (i: number, c: number) => number) =>
    Float64Array.from(means[0], (_, c) => {
      return weights.reduce((sum, weight, i) => sum + weight * value(i, c), 0) / total
    })
  const mean = over((i, c) => means[i][c])
  const variance = over((i, c) => variances[i][c] + (means[i][c] - mean[c]) ** 2)
  const { name, relu, residual, groups } = layer
  return {
    name,
    relu,
    residual,
    groups,
    mean,
    std: variance.map(Math.sqrt),
    positive: over((i, c) => shares[i][c]),
  }
}
