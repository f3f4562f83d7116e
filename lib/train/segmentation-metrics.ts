import { newArray } from '../allocation.js'
import { argumentError, isVector } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'

/** How well pixels are classified. */
export interface SegmentationScores {
  /** Pixels that count. */
  readonly pixels: number
  /** Pixels of the ignored label. */
  readonly ignored: number
  /** Share of pixels with the right class. */
  readonly accuracy: number
  /** Mean over the classes of the share of their pixels that is found. */
  readonly meanAccuracy: number
  /** Mean of the intersections over unions that are defined. */
  readonly meanIou: number
  /** Per class: true positives / (true + false positives + false negatives); NaN for no pixel. */
  readonly iou: readonly number[]
  /** Counts [C, C], row-major: rows are labels, columns predictions. */
  readonly confusion: Float64Array
}

export interface ConfusionOptions {
  /** C */
  readonly classes: number
  /** Pixels of this label count for nothing, 255 in many data sets. Default: none. */
  readonly ignore?: number
}

/**
 * A confusion matrix that batches of pixels are added to.
 *
 * @example
 * const counts = new ConfusionMatrix({ classes: 4, ignore: 255 })
 * for (const batch of batches) counts.add(predicted(batch), labels(batch))
 * const { meanIou, iou } = counts.scores()
 */
export class ConfusionMatrix {
  private readonly counts: Float64Array
  private readonly classes: number
  private readonly ignore: number | undefined
  private ignored = 0

  /** @throws ERR_ARGUMENT */
  constructor(options: ConfusionOptions) {
    requireOptions('ConfusionMatrix', options, ['classes', 'ignore'])
    const { classes, ignore } = options
    if (!Number.isSafeInteger(classes) || classes < 1 || classes > 2 ** 12) {
      throw argumentError('ConfusionMatrix', 'classes', 'an integer from 1 to 4096', classes)
    }
    if (ignore !== undefined && !Number.isSafeInteger(ignore)) {
      throw argumentError('ConfusionMatrix', 'ignore', 'a label', ignore)
    }
    this.classes = classes
    this.ignore = ignore
    this.counts = newArray(Float64Array, classes * classes, 'The confusion matrix')
  }

  /**
   * Adds pixels: predicted classes and labels in any shape, as flat arrays.
   * @throws ERR_SHAPE for lengths that differ; ERR_RANGE for a class that is none, naming the pixel
   */
  add(predicted: ArrayLike<number>, labels: ArrayLike<number>): this {
    for (const [name, list] of Object.entries({ predicted, labels })) {
      if (!isVector(list)) throw argumentError('add()', name, 'an array of classes', list)
    }
    if (predicted.length !== labels.length) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `add() expected a prediction for each of ${labels.length} labels, got ${predicted.length}.`,
      )
    }
    const added = new Float64Array(this.counts.length)
    let ignored = 0
    for (let i = 0; i < labels.length; i++) {
      if (labels[i] === this.ignore) {
        ignored++
        continue
      }
      this.requireClass('label', labels[i], i)
      this.requireClass('prediction', predicted[i], i)
      added[labels[i] * this.classes + predicted[i]]++
    }
    // Only now, so that a refused batch leaves nothing behind.
    for (let k = 0; k < added.length; k++) this.counts[k] += added[k]
    this.ignored += ignored
    return this
  }

  /** Scores of all pixels so far; NaN where no pixel decides. */
  scores(): SegmentationScores {
    const { classes: C, counts } = this
    const range = Array.from({ length: C }, (_, c) => c)
    const at = (label: number, prediction: number) => counts[label * C + prediction]
    const total = (f: (k: number) => number) => range.reduce((sum, k) => sum + f(k), 0)
    const labelled = range.map((c) => total((k) => at(c, k)))
    const predicted = range.map((c) => total((k) => at(k, c)))
    const pixels = labelled.reduce((a, b) => a + b, 0)
    const iou = range.map((c) => at(c, c) / (labelled[c] + predicted[c] - at(c, c)))
    return {
      pixels,
      ignored: this.ignored,
      accuracy: total((c) => at(c, c)) / pixels,
      meanAccuracy: meanOf(range.map((c) => at(c, c) / labelled[c])),
      meanIou: meanOf(iou),
      iou,
      confusion: counts.slice(),
    }
  }

  private requireClass(what: string, value: number, pixel: number): void {
    if (Number.isInteger(value) && value >= 0 && value < this.classes) return
    throw new LosscapeError(
      'ERR_RANGE',
      `The ${what} of pixel ${pixel} is ${value}, expected a class from 0 to ${this.classes - 1}` +
        `${this.ignore === undefined ? '' : `, or ${this.ignore} to ignore the pixel`}.`,
    )
  }
}

/**
 * Pixel accuracy, mean intersection over union and the rest of one set of pixels.
 *
 * @example
 * const { accuracy, meanIou } = segmentationScores([0, 1, 1, 1], [0, 1, 0, 255], { classes: 2, ignore: 255 })
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE, ERR_RANGE
 */
export function segmentationScores(
  predicted: ArrayLike<number>,
  labels: ArrayLike<number>,
  options: ConfusionOptions,
): SegmentationScores {
  return new ConfusionMatrix(options).add(predicted, labels).scores()
}

/**
 * The class of the largest of C scores for every pixel, the first of equals: [N, C, ..] ('nchw', the
 * default) or [N, .., C] ('nhwc') to [N, ..], flat.
 *
 * @throws ERR_ARGUMENT; ERR_SHAPE unless `scores` is a whole number of samples
 */
export function pixelClasses(
  scores: ArrayLike<number>,
  options: {
    readonly classes: number
    /** H W, pixels of a sample. */
    readonly pixels: number
    readonly layout?: 'nchw' | 'nhwc'
  },
): Int32Array {
  requireOptions('pixelClasses()', options, ['classes', 'pixels', 'layout'])
  const { classes, pixels, layout = 'nchw' } = options
  if (!isVector(scores)) throw argumentError('pixelClasses()', 'scores', 'an array', scores)
  for (const [name, value] of Object.entries({ classes, pixels })) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw argumentError('pixelClasses()', name, 'a positive integer', value)
    }
  }
  if (layout !== 'nchw' && layout !== 'nhwc') {
    throw argumentError('pixelClasses()', 'layout', "'nchw' or 'nhwc'", layout)
  }
  if (scores.length % (classes * pixels) !== 0) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `pixelClasses() expected ${classes} x ${pixels} scores a sample, got ${scores.length} in all.`,
    )
  }
  const out = newArray(Int32Array, scores.length / classes, 'The classes of the pixels')
  const [pixelStride, classStride] = layout === 'nchw' ? [1, pixels] : [classes, 1]
  for (let i = 0; i < out.length; i++) {
    const at = Math.floor(i / pixels) * classes * pixels + (i % pixels) * pixelStride
    for (let c = 1; c < classes; c++) {
      if (scores[at + c * classStride] > scores[at + out[i] * classStride]) out[i] = c
    }
  }
  return out
}

function meanOf(values: readonly number[]): number {
  const known = values.filter((value) => !Number.isNaN(value))
  return known.reduce((sum, value) => sum + value, 0) / known.length
}
