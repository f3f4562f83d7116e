import { argumentError } from '../../arguments.js'
import { LosscapeError } from '../../errors.js'
import { requireOptions } from '../../options.js'
import { type DataSet, inputScale } from '../dataset.js'
import type { JitterPlan } from './colour.js'
import type { Border } from './crop.js'
import { OPERATIONS } from './operations.js'
import { parseRandAugment, RAND_AUGMENT, type RandAugmentPlan } from './rand-augment.js'
import type { Interpolation } from './resample.js'

/** A part of random area and shape, brought to the size. */
export interface ResizedCrop {
  /** Share of the area. Default [0.08, 1]. */
  readonly scale?: readonly [low: number, high: number]
  /** Width over height. Default [3/4, 4/3]. */
  readonly ratio?: readonly [low: number, high: number]
}

/** A random place in the image with a border around it. */
export interface PaddedCrop {
  /** Pixels. Default 4. */
  readonly padding?: number
  /** What the border shows. Default 'fill': zeros. */
  readonly border?: Border
}

/**
 * What happens to training images, in this order. Everything is off unless given, and drawn from
 * seed, epoch and the sample's index alone.
 */
export interface AugmentOptions {
  /** Height and width that the model sees. Default: the data set's, or what `withSize` made it. */
  readonly size?: number | readonly [height: number, width: number]
  /** Default: that of `withSize`, or 'bilinear'. */
  readonly interpolation?: Interpolation
  /** True for the defaults. */
  readonly resizedCrop?: boolean | ResizedCrop
  /** Pixels, or options. Not together with `resizedCrop`. */
  readonly paddedCrop?: number | PaddedCrop
  /** Probability of mirroring left and right; true: 0.5. */
  readonly flip?: boolean | number
  /** RandAugment by its usual text, `m15-n2-mstd1-inc1`, or by options. */
  readonly randAugment?: boolean | string | Partial<RandAugmentPlan>
  /** Widths of the random factors; a number x for brightness, contrast and saturation. */
  readonly colourJitter?: number | Partial<JitterPlan>
}

/** Options with every default filled in, for one data set; plain data that workers can get. */
export interface AugmentPlan {
  readonly size: readonly [height: number, width: number]
  readonly interpolation: Interpolation
  readonly resizedCrop: Required<ResizedCrop> | null
  readonly paddedCrop: Required<PaddedCrop> | null
  readonly flip: number
  readonly randAugment: RandAugmentPlan | null
  readonly colourJitter: JitterPlan | null
  /** Per channel, what shows where an operation moves the image away: the mean, in the inputs' units. */
  readonly fill: readonly number[]
}

/** [channels, height, width] of a set of images. Throws ERR_SHAPE for other samples. */
export function imageShape(set: Pick<DataSet, 'name' | 'shape'>): [number, number, number] {
  const { shape } = set
  if (shape.length === 2) return [1, shape[0], shape[1]]
  if (shape.length === 3) return [shape[0], shape[1], shape[2]]
  throw new LosscapeError(
    'ERR_SHAPE',
    `${set.name}: expected images [height, width] or [channels, height, width], ` +
      `got samples of shape [${shape}].`,
  )
}

const check = (condition: boolean, name: string, what: string, got: unknown): void => {
  if (!condition) throw argumentError('augment', name, what, got)
}

/** @throws ERR_ARGUMENT, ERR_SHAPE (samples that are no images), ERR_DTYPE (colours of non-pixels) */
export function resolveAugment(options: AugmentOptions, set: DataSet): AugmentPlan {
  requireOptions('augment', options, [
    ...(['size', 'interpolation', 'resizedCrop', 'paddedCrop', 'flip'] as const),
    ...(['randAugment', 'colourJitter'] as const),
  ])
  const [channels, height, width] = imageShape(set)
  const { flip = 0 } = options
  const interpolation = options.interpolation ?? set.resize?.interpolation ?? 'bilinear'
  check(
    interpolation === 'bilinear' || interpolation === 'bicubic',
    'interpolation',
    "'bilinear' or 'bicubic'",
    interpolation,
  )
  const probability = flip === true ? 0.5 : Number(flip)
  check(probability >= 0 && probability <= 1, 'flip', 'a probability', flip)
  const plan: AugmentPlan = {
    size: imageSize('augment', options.size ?? set.resize?.size ?? [height, width]),
    interpolation,
    resizedCrop: resolveResizedCrop(options.resizedCrop),
    paddedCrop: resolvePaddedCrop(options.paddedCrop),
    flip: probability,
    randAugment: resolveRandAugment(options.randAugment),
    colourJitter: resolveJitter(options.colourJitter),
    fill: meanFill(set, channels),
  }
  check(!plan.resizedCrop || !plan.paddedCrop, 'paddedCrop', 'absent with resizedCrop', 'both')
  if ((plan.randAugment || plan.colourJitter) && !(set.inputs instanceof Uint8Array)) {
    throw new LosscapeError(
      'ERR_DTYPE',
      `${set.name}: randAugment and colourJitter work on pixels (a Uint8Array), ` +
        `got a ${set.inputs.constructor.name}.`,
    )
  }
  return plan
}

/** Pixels along an edge: larger images are a slip, and their interpolation alone is gigabytes. */
const LARGEST_EDGE = 16384

/** The highest level of RandAugment that any recipe has. */
const HIGHEST_LEVEL = 30

/** Height and width from one number or two. Throws ERR_ARGUMENT. */
export function imageSize(
  where: string,
  size: number | readonly [number, number],
): readonly [number, number] {
  const pair = typeof size === 'number' ? [size, size] : size
  const sound =
    Array.isArray(pair) &&
    pair.length === 2 &&
    pair.every((d) => Number.isInteger(d) && d >= 1 && d <= LARGEST_EDGE)
  if (!sound) {
    const what = `a positive integer up to ${LARGEST_EDGE}, or [height, width] of such`
    throw argumentError(where, 'size', what, size)
  }
  return [pair[0], pair[1]]
}

function range(name: string, given: readonly [number, number]): readonly [number, number] {
  const sound = Array.isArray(given) && given.length === 2 && given[0] > 0 && given[0] <= given[1]
  check(sound && Number.isFinite(given[1]), name, '[low, high] with 0 < low <= high', given)
  return given
}

function resolveResizedCrop(given: AugmentOptions['resizedCrop']): AugmentPlan['resizedCrop'] {
  if (given === undefined || given === false) return null
  const options = given === true ? {} : given
  requireOptions('augment.resizedCrop', options, ['scale', 'ratio'])
  const scale = range('resizedCrop.scale', options.scale ?? [0.08, 1])
  check(scale[1] <= 1, 'resizedCrop.scale', 'a share of at most 1', scale)
  return { scale, ratio: range('resizedCrop.ratio', options.ratio ?? [3 / 4, 4 / 3]) }
}

function resolvePaddedCrop(given: AugmentOptions['paddedCrop']): AugmentPlan['paddedCrop'] {
  if (given === undefined) return null
  const options = typeof given === 'number' ? { padding: given } : given
  requireOptions('augment.paddedCrop', options, ['padding', 'border'])
  const { padding = 4, border = 'fill' } = options
  check(Number.isInteger(padding) && padding >= 1, 'paddedCrop', 'an integer >= 1', padding)
  check(['fill', 'reflect'].includes(border), 'border', "'fill' or 'reflect'", border)
  return { padding, border }
}

function resolveRandAugment(given: AugmentOptions['randAugment']): RandAugmentPlan | null {
  if (given === undefined || given === false) return null
  const options = typeof given === 'string' ? parseRandAugment(given) : given === true ? {} : given
  requireOptions('augment.randAugment', options, Object.keys(RAND_AUGMENT) as never[])
  const plan = { ...RAND_AUGMENT, ...options }
  const { magnitude, count, deviation, most, probability, operations } = plan
  for (const [name, value] of Object.entries({ magnitude, deviation, most })) {
    const sound = value >= 0 && value <= HIGHEST_LEVEL
    check(sound, `randAugment.${name}`, `a number from 0 to ${HIGHEST_LEVEL}`, value)
  }
  check(Number.isInteger(count) && count >= 1, 'randAugment.count', 'an integer >= 1', count)
  check(probability >= 0 && probability <= 1, 'randAugment.probability', 'in [0, 1]', probability)
  const known = Object.keys(OPERATIONS)
  const sound = Array.isArray(operations) && operations.length > 0
  check(sound, 'randAugment.operations', `a list of ${known.join(', ')}`, operations)
  const unknown = operations.find((name) => !known.includes(name))
  check(unknown === undefined, 'randAugment.operations', `of ${known.join(', ')}`, unknown)
  return plan
}

function resolveJitter(given: AugmentOptions['colourJitter']): JitterPlan | null {
  if (given === undefined) return null
  const options =
    typeof given === 'number' ? { brightness: given, contrast: given, saturation: given } : given
  requireOptions('augment.colourJitter', options, ['brightness', 'contrast', 'saturation', 'hue'])
  const plan = { brightness: 0, contrast: 0, saturation: 0, hue: 0, ...options }
  for (const [name, width] of Object.entries(plan)) {
    check(Number.isFinite(width) && width >= 0, `colourJitter.${name}`, 'a number >= 0', width)
  }
  check(plan.hue <= 0.5, 'colourJitter.hue', 'at most 0.5', plan.hue)
  return plan
}

function meanFill({ inputs, normalization: { mean } }: DataSet, channels: number): number[] {
  const bytes = inputs instanceof Uint8Array
  return Array.from({ length: channels }, (_, c) => {
    const value = mean[mean.length === 1 ? 0 : c] / inputScale(inputs)
    return bytes ? Math.max(0, Math.min(255, Math.round(value))) : value
  })
}
