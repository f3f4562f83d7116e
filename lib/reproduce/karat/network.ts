import type { DataSet } from '../../data/dataset.js'
import { load } from '../../data/load.js'
import type { Device } from '../../device/device.js'
import { LosscapeError } from '../../errors.js'
import type { FloatVector } from '../../nn/layout.js'
import type { Model } from '../../nn/model.js'
import { vit } from '../../nn/vit.js'
import type { VitOptions } from '../../nn/vit-config.js'
import type { TrainOptions } from '../../train/options.js'
import { type TrainResult, train } from '../../train/train.js'
import type { ExperimentContext } from '../paper.js'
import { type KaratSettings, trainingPart, VARIANTS, type VariantName } from './settings.js'

export type Context = ExperimentContext<KaratSettings>

export interface Sets {
  readonly set: DataSet
  readonly test: DataSet
}

/** Images with class labels, and as many test images. */
export async function imageSets({ settings, signal }: Context): Promise<Sets> {
  const { spec, samples, test } = settings.data
  const set = await load(spec, { limit: samples, signal })
  if (set.classes === null || set.shape.length < 2) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${spec}: learnable attention is compared on images with class labels, such as cifar10:DIR.`,
    )
  }
  const { normalization } = set
  return { set, test: await load(spec, { split: 'test', limit: test, normalization, signal }) }
}

/** Sizes of a transformer for the images: patches in a grid of at most 8 x 8. */
export function sizesFor(set: DataSet, { network }: KaratSettings): VitOptions {
  const [height, width] = set.shape.slice(-2)
  const input = set.shape.length === 2 ? [1, height, width] : set.shape
  let patch = Math.max(1, Math.ceil(Math.max(height, width) / 8))
  while (height % patch !== 0 || width % patch !== 0) patch++
  const { width: D, depth, heads } = network
  return { input, patch, width: D, depth, heads, classes: set.classes ?? 1 }
}

/** The network of a variant. */
export function network(set: DataSet, name: VariantName, settings: KaratSettings): Model {
  const { attention } = VARIANTS[name]
  const choice = attention === 'softmax' ? attention : `${attention},r${settings.network.rank}`
  return vit({ ...sizesFor(set, settings), attention: choice })
}

/** Trains as all variants are trained. */
export async function trainNetwork(
  { device, settings, seed, signal, onProgress }: Context,
  model: Model,
  { set, test }: Sets,
  more: Pick<TrainOptions, 'checkpointEvery' | 'onCheckpoint'> & { readonly share: number },
): Promise<TrainResult> {
  const { epochs, batch, learningRate, weightDecay, clipNorm, warmup } = settings.training
  const { share, ...hooks } = more
  return train(device, model, set, {
    optimizer: { kind: 'adamw', lr: learningRate, weightDecay },
    schedule: { kind: 'cosine', warmup: { steps: warmup } },
    ...{ epochs, batch, clipNorm, seed, test, signal },
    ...hooks,
    onProgress: ({ step, steps, loss }) =>
      onProgress((share * step) / steps, `loss ${loss.toPrecision(3)}`),
  })
}

/** Trained parameters of this process, so that a teacher is not trained twice. */
const trained = new WeakMap<Device, Map<string, FloatVector>>()

const keyOf = ({ settings, seed }: Context, name: VariantName): string =>
  JSON.stringify([name, seed, trainingPart(settings)])

export function remember(context: Context, name: VariantName, params: FloatVector): void {
  const known = trained.get(context.device) ?? new Map<string, FloatVector>()
  trained.set(context.device, known.set(keyOf(context, name), params))
}

export function remembered(context: Context, name: VariantName): FloatVector | undefined {
  return trained.get(context.device)?.get(keyOf(context, name))
}

/** Eight digits are more than any picture or verdict needs. */
export function short(value: number): number {
  return Number.isFinite(value) ? Number(value.toPrecision(8)) : value
}
