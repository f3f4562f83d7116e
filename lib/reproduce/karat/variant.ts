import { type AttentionCost, attentionCost } from '../../analysis/attention-cost.js'
import { attentionMatrices } from '../../analysis/attention-matrices.js'
import { attentionSpectrum } from '../../analysis/attention-spectrum.js'
import { weightHistograms } from '../../analysis/weight-histograms.js'
import { karatParameterCount } from '../../nn/attention/cost.js'
import type { FloatVector } from '../../nn/layout.js'
import type { Model } from '../../nn/model.js'
import type { VitConfig } from '../../nn/vit-config.js'
import { vitTokens } from '../../nn/vit-config.js'
import type { HistogramResult, LogBand } from '../../report/analyses.js'
import type { MetricsRow } from '../../train/metrics.js'
import type { Experiment } from '../paper.js'
import { type Landscape, landscapeOf } from './landscape.js'
import {
  type Context,
  imageSets,
  network,
  remember,
  type Sets,
  short,
  trainNetwork,
} from './network.js'
import { type KaratSettings, trainingPart, VARIANTS, type VariantName } from './settings.js'

/** Losses and accuracies after an epoch; null where they are not finite. */
export interface EpochRow {
  readonly epoch: number
  readonly trainLoss: number | null
  readonly testLoss: number | null
  readonly testAccuracy: number
}

/** Singular values of the attention weights of all blocks, from the whole N x N matrices. */
export interface Ranks {
  /** r of the network. */
  readonly r: number
  readonly tokens: number
  /** Largest and smallest σ_(r+1) / σ_1 over blocks, heads and images. */
  readonly beyond: number
  readonly beyondLeast: number
  /** Smallest number of σ above 1e-6 σ_1. */
  readonly least: number
  /** The last block, and what is of it. */
  readonly block: number
  readonly scores: LogBand
  readonly weights: LogBand
}

/** One network with one seed. */
export interface VariantResult {
  readonly completed: boolean
  readonly chance: number
  readonly accuracy: number
  readonly rows: readonly EpochRow[]
  readonly parameters: { readonly counted: number; readonly law: number; readonly all: number }
  readonly ranks: Ranks
  /** Share of all weights within ±0.01 at the end. */
  readonly nearZero: number
  readonly histograms: readonly HistogramResult[]
  readonly cost: AttentionCost
  readonly landscape: Landscape | null
}

/** Trains one variant and looks at it. */
export function variantExperiment(name: VariantName): Experiment<KaratSettings, VariantResult> {
  return {
    title: VARIANTS[name].label,
    weight: 10,
    dependsOn: (settings) => ({ ...(trainingPart(settings) as object), of: settings.analysis }),
    async run(context) {
      const sets = await imageSets(context)
      const { set } = sets
      const model = network(set, name, context.settings)
      const landscape = context.settings.analysis.landscape.includes(name)
      const checkpoints: FloatVector[] = [await model.initAsync(context.seed)]
      const run = await trainNetwork(context, model, sets, {
        share: landscape ? 0.6 : 0.9,
        checkpointEvery: Math.ceil(set.size / context.settings.training.batch),
        onCheckpoint: ({ params }) => void checkpoints.push(params),
      })
      remember(context, name, run.params)
      const rows = epochRows(run.metrics)
      const moments = [...new Set([0, checkpoints.length >> 1, checkpoints.length - 1])]
      const histograms = weightHistograms(
        moments.map((t) => ({ name: t === 0 ? 'start' : `epoch ${t}`, params: checkpoints[t] })),
        { bins: 81 },
      )
      const { device, signal } = context
      return {
        completed: run.status === 'completed',
        chance: 1 / (set.classes ?? 1),
        accuracy: rows.at(-1)?.testAccuracy ?? 0,
        rows,
        parameters: parameterCounts(model, name, context.settings),
        ranks: await ranksOf(context, model, run.params, sets),
        nearZero: short(nearZero(run.params)),
        histograms: histograms.map((h) => ({
          ...h,
          mean: short(h.mean),
          deviation: short(h.deviation),
          counts: [...h.counts],
        })),
        cost: await attentionCost(device, model, set, { batch: 32, repeats: 3, signal }),
        landscape: landscape
          ? await landscapeOf(context, model, { checkpoints, params: run.params }, sets)
          : null,
      }
    },
  }
}

function nearZero(params: FloatVector): number {
  let count = 0
  for (const x of params) if (Math.abs(x) < 0.01) count++
  return count / params.length
}

function epochRows(metrics: readonly MetricsRow[]): EpochRow[] {
  const tests = metrics.filter(({ split }) => split === 'test')
  const trains = metrics.filter(({ split }) => split === 'train')
  return tests.map((row, i) => ({
    epoch: row.epoch,
    trainLoss: finite(trains[i]?.loss),
    testLoss: finite(row.loss),
    testAccuracy: row.accuracy ?? 0,
  }))
}

function finite(value: number | null | undefined): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? short(value) : null
}

/** Numbers that the variant has beyond softmax, and those of the paper's law without edge scales. */
function parameterCounts(
  model: Model,
  name: VariantName,
  { network: { heads, depth, rank } }: KaratSettings,
): VariantResult['parameters'] {
  const own = model.layout.entries.filter(({ name: tensor }) => /(^|\.)karat\./.test(tensor))
  const counted = own.reduce((sum, { size }) => sum + size, 0)
  const found = /G(\d+)([BU])/.exec(VARIANTS[name].attention)
  if (!found) return { counted, law: 0, all: model.size }
  const tokens = vitTokens(model.config as unknown as VitConfig)
  const size = { G: Number(found[1]), r: rank, heads, tokens, depth }
  return {
    counted,
    law: karatParameterCount(size, { universal: found[2] === 'U' }),
    all: model.size,
  }
}

async function ranksOf(
  { device, settings, signal }: Context,
  model: Model,
  params: FloatVector,
  { test }: Sets,
): Promise<Ranks> {
  const count = Math.min(settings.analysis.images, test.size)
  const images = Array.from({ length: count }, (_, i) => i)
  const blocks = await attentionMatrices(device, model, params, test, { images, signal })
  const { rank: r } = settings.network
  let [beyond, beyondLeast, least] = [0, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]
  const bands: { scores: LogBand; weights: LogBand }[] = []
  for (const block of blocks) {
    // The full matrix, for a rank by construction would prove nothing.
    const options = { method: 'full', tolerance: 1e-6, signal } as const
    const { scores, weights, rank } = await attentionSpectrum(block, options)
    const past = weights.max[r] ?? Number.NEGATIVE_INFINITY
    beyond = Math.max(beyond, Math.exp(past - weights.min[0]))
    // Of different matrices, hence a bound.
    const pastLeast = weights.min[r] ?? Number.NEGATIVE_INFINITY
    beyondLeast = Math.min(beyondLeast, Math.exp(pastLeast - weights.max[0]))
    least = Math.min(least, rank.min)
    bands.push({ scores: band(scores), weights: band(weights) })
  }
  const tokens = blocks[0].weights.length / (count * settings.network.heads)
  const last = { block: blocks.length - 1, ...bands[bands.length - 1] }
  return { r, tokens: Math.round(Math.sqrt(tokens)), beyond, beyondLeast, least, ...last }
}

function band(values: { min: Float64Array; mean: Float64Array; max: Float64Array }): LogBand {
  const list = (x: Float64Array) => Array.from(x, (v) => (Number.isFinite(v) ? short(v) : null))
  return { min: list(values.min), mean: list(values.mean), max: list(values.max) }
}
