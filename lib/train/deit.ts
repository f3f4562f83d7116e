import { argumentError } from '../arguments.js'
import type { AugmentOptions } from '../data/augment/options.js'
import type { DataSet } from '../data/dataset.js'
import { requireOptions } from '../options.js'
import { isCount, isRate } from './check.js'
import type { OptimizerSpec } from './optimizer.js'
import type { TrainOptions } from './options.js'
import type { ScheduleSpec } from './schedule.js'

/** Options of {@link deitRecipe}. */
export interface DeitOptions {
  /** Default 100. */
  readonly epochs?: number
  /** B. Default 128. */
  readonly batch?: number
  /** Peak learning rate. Default 5e-4 B / 512. */
  readonly lr?: number
  /** Epochs of linear warm-up. Default 5, at most a quarter of `epochs`. */
  readonly warmupEpochs?: number
  /** Height and width that the model sees. Default: the data set's (or that of `withSize`). */
  readonly size?: AugmentOptions['size']
}

/** What {@link deitRecipe} makes; the options of `train`. */
export interface DeitRecipe {
  readonly optimizer: OptimizerSpec & { readonly lr: number }
  readonly schedule: ScheduleSpec
  readonly epochs: number
  readonly batch: number
  readonly clipNorm: number
  readonly labelSmoothing: number
  readonly mixup: number
  readonly cutmix: number
  readonly ema: number
  readonly augment: AugmentOptions
}

/** Ends of the learning rate: before warm-up, and after the last step. */
const FIRST_RATE = 1e-6
const LAST_RATE = 1e-5

/** Share of the shorter side that evaluation cuts out in this recipe. */
export const DEIT_CROP_RATIO = 0.9

/**
 * The recipe by which vision transformers with Kolmogorov-Arnold attention were trained, after DeiT
 * (Touvron et al. 2021): AdamW (β 0.9 and 0.999, ε 1e-6, decay 0.05, none on vectors, tokens and
 * positions), learning rate 5e-4 B / 512 with linear warm-up from 1e-6 and a cosine to 1e-5,
 * gradients clipped at norm 1, average of the weights with decay 0.99992, labels smoothed by 0.1,
 * mixup 0.8 and CutMix 1.0, one of them a batch, and on the images random resized crops (area 0.08
 * to 1, ratio 0.67 to 1.5), flips, RandAugment m15-n2-mstd1-inc1 and colour jitter 0.4.
 *
 * Evaluate on `withSize(test, size, { cropRatio: DEIT_CROP_RATIO })`. Learning rates change with
 * every step. Pipelines that follow timm leave the colour jitter out where RandAugment is on: pass
 * `augment` without it to do so.
 *
 * @param set decides the steps of an epoch
 * @throws ERR_ARGUMENT
 *
 * @example
 * const run = await train(device, model, set, { ...deitRecipe(set, { epochs: 100 }), seed: 1 })
 */
export function deitRecipe(set: Pick<DataSet, 'size'>, options: DeitOptions = {}): DeitRecipe {
  const where = 'deitRecipe()'
  requireOptions(where, options, ['epochs', 'batch', 'lr', 'warmupEpochs', 'size'])
  const { epochs = 100, size } = options
  const batch = options.batch ?? Math.min(128, set.size)
  if (!isCount(epochs)) throw argumentError(where, 'epochs', 'a positive integer', epochs)
  if (!isCount(batch)) throw argumentError(where, 'batch', 'a positive integer', batch)
  const { lr = (5e-4 * batch) / 512, warmupEpochs = Math.min(5, epochs / 4) } = options
  if (!(isRate(lr) && lr > 0)) throw argumentError(where, 'lr', 'a number > 0', lr)
  if (!isRate(warmupEpochs)) {
    throw argumentError(where, 'warmupEpochs', 'a number >= 0', warmupEpochs)
  }
  const steps = Math.round(warmupEpochs * Math.ceil(set.size / batch))
  const share = (rate: number): number => Math.min(1, rate / lr)
  return {
    optimizer: {
      kind: 'adamw',
      lr,
      betas: [0.9, 0.999],
      epsilon: 1e-6,
      weightDecay: 0.05,
      exemptFromDecay: 'vectors',
    },
    schedule: {
      kind: 'cosine',
      min: share(LAST_RATE),
      warmup: { steps, start: share(FIRST_RATE) },
    },
    epochs,
    batch,
    clipNorm: 1,
    labelSmoothing: 0.1,
    mixup: 0.8,
    cutmix: 1,
    ema: 0.99992,
    augment: {
      ...(size !== undefined && { size }),
      interpolation: 'bicubic',
      resizedCrop: { scale: [0.08, 1], ratio: [0.67, 1.5] },
      flip: 0.5,
      randAugment: 'm15-n2-mstd1-inc1',
      colourJitter: 0.4,
    },
  } satisfies TrainOptions
}
