import { channelStatistics } from '../../analysis/channel-statistics.js'
import { eliminationMeasures } from '../../analysis/elimination.js'
import { gradientSmoothness } from '../../analysis/smoothness.js'
import type { Model } from '../../nn/model.js'
import { evaluate } from '../../train/evaluate.js'
import type { TrainResult } from '../../train/train.js'
import type { Experiment } from '../paper.js'
import { type Landscape, landscapeOf } from './landscape.js'
import {
  type Context,
  first,
  imageSets,
  type Moment,
  network,
  orNull,
  type Regime,
  rateOf,
  type Sets,
  short,
  trainNetwork,
} from './network.js'
import { type BcnSettings, trainingPart, VARIANTS, type VariantName } from './settings.js'

/** The network at a moment of the training; null where a loss is not finite. */
export interface TestRow {
  /** Share of the training that is done. */
  readonly share: number
  readonly loss: number | null
  readonly accuracy: number
}

/** Channels at a moment of the training, means over the norms that a ReLU follows directly. */
export interface ChannelRow {
  /** Share of the training that is done. */
  readonly share: number
  /** Divergence from N(0, 1), the median of a layer's channels; null where it is infinite. */
  readonly divergence: number | null
  /** Squared 2-Wasserstein distance of channels of a group. */
  readonly distance: number
  readonly dead: number
  readonly linear: number
}

/** One training. */
export interface RunResult {
  readonly completed: boolean
  readonly accuracy: number
  /** Mean over the batches of the last epoch. */
  readonly trainLoss: number | null
  readonly tests: readonly TestRow[]
  readonly channels: readonly ChannelRow[]
}

/** How smooth the loss of a training batch is along its gradient, at a moment. */
export interface SmoothnessRow {
  readonly share: number
  readonly loss: number
  readonly gradientNorm: number
  readonly variation: number | null
  /** ‖g(θ - η g) - g‖ at the learning rate. */
  readonly predictiveness: number | null
  readonly beta: number | null
}

/** One norm with one seed. */
export interface VariantResult {
  readonly chance: number
  readonly parameters: number
  readonly large: RunResult
  readonly micro: RunResult
  /** Of the large batch. */
  readonly smoothness: readonly SmoothnessRow[]
  readonly landscape: Landscape | null
}

/** Trains one variant at both batch sizes and looks at it. */
export function variantExperiment(name: VariantName): Experiment<BcnSettings, VariantResult> {
  return {
    title: VARIANTS[name].label,
    weight: 10,
    dependsOn: (settings) => ({ ...(trainingPart(settings) as object), of: settings.analysis }),
    async run(context) {
      const { settings, onProgress } = context
      const sets = await imageSets(context)
      const large = network(sets.set, name, 'large', settings)
      const trained = await trainNetwork(context, large, sets, 'large', { from: 0, to: 0.3 })
      const micro = network(sets.set, name, 'micro', settings)
      const small = await trainNetwork(context, micro, sets, 'micro', { from: 0.3, to: 0.75 })
      onProgress(0.75, 'channels')
      const result = {
        chance: 1 / (sets.set.classes ?? 1),
        parameters: large.size,
        large: await runResult(context, large, trained, sets),
        micro: await runResult(context, micro, small, sets),
      }
      onProgress(0.8, 'smoothness')
      const smoothness = await smoothnessRows(context, large, trained.moments, sets)
      const completed = trained.run.status === 'completed'
      const landscape = completed ? await landscapeOf(context, large, trained.run, sets) : null
      return { ...result, smoothness, landscape }
    },
  }
}

async function runResult(
  context: Context,
  model: Model,
  { run, moments }: { run: TrainResult; moments: readonly Moment[] },
  sets: Sets,
): Promise<RunResult> {
  const tests: TestRow[] = []
  for (const { share, params, state } of moments) {
    const { loss, accuracy } = await evaluate(context.device, model, params, sets.test, {
      state,
      signal: context.signal,
    })
    tests.push({ share: short(share), loss: orNull(loss), accuracy: accuracy ?? 0 })
  }
  return {
    completed: run.status === 'completed',
    accuracy: tests.at(-1)?.accuracy ?? 0,
    trainLoss: orNull(run.metrics.findLast(({ split }) => split === 'train')?.loss),
    tests,
    channels: await channelRows(context, model, moments, sets),
  }
}

async function channelRows(
  { device, settings, signal }: Context,
  model: Model,
  moments: readonly Moment[],
  { test }: Sets,
): Promise<ChannelRow[]> {
  const few = first(test, settings.analysis.images)
  const rows: ChannelRow[] = []
  for (const { share, params, state } of moments) {
    const found = await channelStatistics(device, model, params, few, {
      statistics: 'frozen',
      state,
      signal,
    })
    const layers = found
      .filter(({ relu, residual }) => relu && !residual)
      .map((layer) => eliminationMeasures(layer, { groups: settings.network.groups }))
    const mean = (value: (layer: (typeof layers)[number]) => number): number =>
      layers.reduce((sum, layer) => sum + value(layer), 0) / layers.length
    rows.push({
      share: short(share),
      divergence: orNull(mean((layer) => layer.divergence.median)),
      distance: short(mean((layer) => layer.wasserstein)),
      dead: short(mean((layer) => layer.dead)),
      linear: short(mean((layer) => layer.linear)),
    })
  }
  return rows
}

/** On one fixed batch of training images, with the statistics of training. */
async function smoothnessRows(
  { device, settings, signal }: Context,
  model: Model,
  moments: readonly Moment[],
  { set }: Sets,
): Promise<SmoothnessRow[]> {
  const regime: Regime = 'large'
  const rate = rateOf(regime, settings)
  const steps = settings.analysis.steps.map((factor) => factor * rate)
  const batch = settings.training.batch
  const statistics = model.couplesSamples ? 'batch' : 'frozen'
  const options = { steps, batch, statistics, signal } as const
  const found = await gradientSmoothness(device, model, moments, first(set, batch), options)
  const at = steps.findIndex((eta) => eta >= rate)
  return found.map(({ loss, gradientNorm, variation, predictiveness, beta }, i) => ({
    share: short(moments[i].share),
    loss: short(loss),
    gradientNorm: short(gradientNorm),
    variation: orNull(variation),
    predictiveness: orNull(predictiveness[at]),
    beta: orNull(beta),
  }))
}
