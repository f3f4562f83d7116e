import { argumentError, requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'

/** Storage of samples; Uint8Array means pixels. */
export type InputArray = Uint8Array | Float32Array | Float64Array

/** Class labels (Int32Array) or regression targets. */
export type TargetArray = Int32Array | Float32Array | Float64Array

/** x' = (x * scale - mean) / std per channel, with the scale of {@link inputScale}. */
export interface Normalization {
  readonly mean: readonly number[]
  readonly std: readonly number[]
}

/** What evaluation sees of an image: the centre of the image brought to a larger size. */
export interface Resize {
  /** Height and width that the model gets. */
  readonly size: readonly [height: number, width: number]
  /** The shorter side is brought to ⌊size / cropRatio⌋ before the centre is cut out; 1: no crop. */
  readonly cropRatio: number
  readonly interpolation: 'bilinear' | 'bicubic'
}

/** N samples of one shape with their targets, in memory. */
export interface DataSet {
  readonly name: string
  /** N, the number of samples. */
  readonly size: number
  /** Shape of one sample: [28, 28], [3, 32, 32] (channels first), [2]. */
  readonly shape: readonly number[]
  /** Row-major [N, ...shape]. */
  readonly inputs: InputArray
  /** Class labels or regression targets, [N, ...targetShape]. */
  readonly targets: TargetArray
  /** [] for one label a sample, [h, w] for one a pixel. */
  readonly targetShape: readonly number[]
  /** Number of classes C, labels being 0 ... C - 1; null for regression. */
  readonly classes: number | null
  readonly classNames?: readonly string[]
  /**
   * Applied when a batch is made: x' = (x * scale - mean) / std, where scale is 1 / 255 for
   * Uint8Array inputs (so mean and std are in units of pixel / 255) and 1 otherwise. `mean` and
   * `std` hold one number per channel ({@link channelCount}), or a single one for all.
   */
  readonly normalization: Normalization
  /** Images are resized on the device when a batch is made; set by {@link withSize}. */
  readonly resize?: Resize
}

/** Shape of a sample as a model gets it. */
export function sampleShape({
  shape,
  resize,
}: Pick<DataSet, 'shape' | 'resize'>): readonly number[] {
  return resize ? [...shape.slice(0, -2), ...resize.size] : shape
}

/** No normalization beyond the scaling of pixels to [0, 1]. */
export const IDENTITY: Normalization = { mean: [0], std: [1] }

/** Product of the dimensions; 1 for []. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((product, d) => product * d, 1)
}

/**
 * Channels that a normalization distinguishes: features of a vector [d], planes of [c, h, w],
 * one for a grey image [h, w] and for scalars.
 */
export function channelCount(shape: readonly number[]): number {
  requireArguments('channelCount()', { shape })
  return shape.length === 1 || shape.length >= 3 ? shape[0] : 1
}

/** 1 / 255 for pixels, 1 for real numbers. */
export function inputScale(inputs: InputArray): number {
  return inputs instanceof Uint8Array ? 1 / 255 : 1
}

/**
 * Checks lengths, labels and finiteness and returns `set`.
 *
 * Throws ERR_ARGUMENT (empty set, bad normalization), ERR_SHAPE (lengths), ERR_RANGE (labels) and
 * ERR_NOT_FINITE, each naming the first sample at fault. Cost: one pass over the set.
 */
export function validate(set: DataSet): DataSet {
  requireArguments('validate()', { set })
  const { name, size, shape, targetShape, inputs, targets, classes } = set
  if (!Number.isInteger(size) || size < 1) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${name}: a data set needs at least one sample; got ${size}.`,
    )
  }
  for (const dims of [shape, targetShape]) {
    if (!dims.every((d) => Number.isInteger(d) && d >= 1)) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `${name}: dimensions must be positive integers; got [${dims}].`,
      )
    }
  }
  requireLengths(set)
  if (classes !== null) checkLabels(set, classes)
  if (!(inputs instanceof Uint8Array)) checkFinite(name, 'inputs', inputs, elements(shape))
  if (!(targets instanceof Int32Array)) checkFinite(name, 'targets', targets, elements(targetShape))
  checkNormalization(name, set.normalization, shape)
  return set
}

/** Throws ERR_SHAPE unless the arrays hold as many samples as the set says. */
export function requireLengths(set: DataSet): void {
  const { name, size, shape, targetShape, inputs, targets } = set
  checkLength(name, 'inputs', inputs.length, size, shape)
  checkLength(name, 'targets', targets.length, size, targetShape)
}

function checkLength(
  name: string,
  what: string,
  length: number,
  size: number,
  shape: readonly number[],
): void {
  const expected = size * elements(shape)
  if (length === expected) return
  throw new LosscapeError(
    'ERR_SHAPE',
    `${name}: ${size} samples of shape [${shape}] need ${expected} ${what}; got ${length}.`,
  )
}

function checkLabels({ name, targets, targetShape, classNames }: DataSet, classes: number): void {
  if (!Number.isInteger(classes) || classes < 1) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${name}: classes must be a positive integer; got ${classes}.`,
    )
  }
  if (!(targets instanceof Int32Array)) {
    throw new LosscapeError('ERR_DTYPE', `${name}: class labels must be an Int32Array.`)
  }
  if (classNames && classNames.length !== classes) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${name}: ${classes} classes need as many names; got ${classNames.length}.`,
    )
  }
  const stride = elements(targetShape)
  for (let i = 0; i < targets.length; i++) {
    if (targets[i] < 0 || targets[i] >= classes) {
      const sample = Math.floor(i / stride)
      throw new LosscapeError(
        'ERR_RANGE',
        `${name}: labels must be from 0 to ${classes - 1}; sample ${sample} has ${targets[i]}. ` +
          'Pass a larger `classes`, or renumber the labels.',
      )
    }
  }
}

function checkFinite(
  name: string,
  what: string,
  values: Float32Array | Float64Array,
  stride: number,
): void {
  for (let i = 0; i < values.length; i++) {
    // x - x is 0 for finite x and NaN otherwise: half the time of Number.isFinite here.
    if (values[i] - values[i] !== 0) {
      const sample = Math.floor(i / stride)
      throw new LosscapeError(
        'ERR_NOT_FINITE',
        `${name}: ${what} must be finite; sample ${sample}, element ${i % stride} is ${values[i]}.`,
      )
    }
  }
}

/** Throws ERR_ARGUMENT unless `normalization` fits samples of `shape`. */
export function checkNormalization(
  name: string,
  normalization: Normalization,
  shape: readonly number[],
): void {
  if (!Array.isArray(normalization?.mean) || !Array.isArray(normalization.std)) {
    throw argumentError(name, 'normalization', '{ mean: [..], std: [..] }', normalization)
  }
  const { mean, std } = normalization
  const channels = channelCount(shape)
  const fits = (length: number) => length === 1 || length === channels
  if (!fits(mean.length) || mean.length !== std.length) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${name}: normalization needs one mean and std, or one for each of ${channels} channels; ` +
        `got ${mean.length} means and ${std.length} standard deviations.`,
    )
  }
  if (!mean.every(Number.isFinite) || !std.every((s) => Number.isFinite(s) && s > 0)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${name}: means must be finite and standard deviations positive; ` +
        `got mean [${mean}], std [${std}].`,
    )
  }
}
