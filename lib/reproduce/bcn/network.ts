import type { DataSet } from '../../data/dataset.js'
import { load } from '../../data/load.js'
import { take } from '../../data/select.js'
import { LosscapeError } from '../../errors.js'
import { cifarResnet } from '../../nn/convnet/cifar-resnet.js'
import type { NormOption } from '../../nn/convnet/norm-options.js'
import type { Model } from '../../nn/model.js'
import { type TrainResult, train } from '../../train/train.js'
import type { ExperimentContext } from '../paper.js'
import { type BcnSettings, VARIANTS, type VariantName } from './settings.js'

export type Context = ExperimentContext<BcnSettings>

/** Which of the two batch sizes a network is trained with. */
export type Regime = 'large' | 'micro'

export interface Sets {
  readonly set: DataSet
  readonly test: DataSet
}

/** Images with class labels, and test images. */
export async function imageSets({ settings, signal }: Context): Promise<Sets> {
  const { spec, samples, test } = settings.data
  const set = await load(spec, { limit: samples, signal })
  if (set.classes === null || set.targetShape.length > 0 || set.shape.length < 2) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${spec}: norms are compared on images with a class label each, such as cifar10:DIR.`,
    )
  }
  const { normalization } = set
  return { set, test: await load(spec, { split: 'test', limit: test, normalization, signal }) }
}

/** The network of a variant: estimates in place of the batch's statistics at the micro-batch. */
export function network(
  set: DataSet,
  name: VariantName,
  regime: Regime,
  { network: { depth, width, groups }, training: { rate } }: BcnSettings,
): Model {
  const { norm, ws } = VARIANTS[name]
  const [height, columns] = set.shape.slice(-2)
  const input = set.shape.length === 2 ? [1, height, columns] : set.shape
  const kinds: Record<typeof norm, NormOption> = {
    bn: 'bn',
    gn: { kind: 'gn', groups },
    bcn: regime === 'micro' ? { kind: 'bcn-micro', groups, rate } : { kind: 'bcn', groups },
  }
  return cifarResnet({ depth, width, input, classes: set.classes ?? 1, norm: kinds[norm], ws })
}

/** A moment of a training. */
export interface Moment {
  /** Share of the training that is done. */
  readonly share: number
  readonly params: ArrayLike<number>
  readonly state: ArrayLike<number>
}

export function batchOf(regime: Regime, { training }: BcnSettings): number {
  return regime === 'large' ? training.batch : training.micro
}

/** Linear in the size of the batch. */
export function rateOf(regime: Regime, settings: BcnSettings): number {
  const { learningRate, batch } = settings.training
  return (learningRate * batchOf(regime, settings)) / batch
}

/** Trains as all variants are trained; the moments are equally spaced, the end is the last. */
export async function trainNetwork(
  { device, settings, seed, signal, onProgress }: Context,
  model: Model,
  { set }: Sets,
  regime: Regime,
  report: { readonly from: number; readonly to: number },
): Promise<{ run: TrainResult; moments: Moment[] }> {
  const { epochs, momentum, weightDecay, warmup } = settings.training
  const batch = batchOf(regime, settings)
  const total = epochs * Math.floor(set.size / batch)
  const { moments: count } = settings.analysis
  const moments: Moment[] = []
  const run = await train(device, model, set, {
    optimizer: { kind: 'sgd', lr: rateOf(regime, settings), momentum, weightDecay },
    schedule: { kind: 'cosine', warmup: { steps: Math.round(warmup * total) } },
    // Equal batches: a smaller last one would be another learning rate per image.
    ...{ epochs, batch, seed, signal, dropLast: true },
    checkpointEvery: Math.max(1, Math.floor(total / count)),
    onCheckpoint({ step, params, state }) {
      if (moments.length < count - 1)
        moments.push({ share: step / total, params, state: state ?? [] })
    },
    onProgress: ({ step, steps, loss }) =>
      onProgress(
        report.from + ((report.to - report.from) * step) / steps,
        `batch ${batch}, loss ${loss.toPrecision(3)}`,
      ),
  })
  moments.push({ share: run.steps / total, params: run.params, state: run.state })
  return { run, moments }
}

/** The first samples of a set. */
export function first(set: DataSet, most: number): DataSet {
  return take(
    set,
    Array.from({ length: Math.min(most, set.size) }, (_, i) => i),
  )
}

/** Six digits are more than any picture or verdict needs. */
export function short(value: number): number {
  return Number.isFinite(value) ? Number(value.toPrecision(6)) : value
}

/** null where JSON could not hold the number. */
export function orNull(value: number | null | undefined): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? short(value) : null
}
