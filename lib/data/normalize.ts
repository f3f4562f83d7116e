import { argumentError, requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { atOnce, ranges, type Slices } from '../slices.js'
import {
  channelCount,
  checkNormalization,
  type DataSet,
  elements,
  IDENTITY,
  inputScale,
  type Normalization,
} from './dataset.js'

/** How a set is normalized: not at all, by its own statistics, or by given ones. */
export type NormalizationChoice = 'none' | 'standardize' | Normalization

/**
 * Mean and standard deviation (population) of every channel over all samples, in units of
 * pixel / 255 for pixels. A constant channel gets std 1, so that it becomes 0 rather than NaN.
 * Two passes in float64.
 */
export function statistics(set: DataSet): Normalization {
  return atOnce(statisticsSlices(set))
}

/** {@link statistics} in slices. */
export function* statisticsSlices(set: DataSet): Slices<Normalization> {
  requireArguments('statistics()', { set })
  const channels = channelCount(set.shape)
  const stride = elements(set.shape)
  const inner = stride / channels
  const scale = inputScale(set.inputs)
  const count = set.size * inner
  const { inputs } = set
  const mean = new Array<number>(channels).fill(0)
  const std = new Array<number>(channels).fill(0)
  const samples = Math.max(1, Math.floor(2 ** 20 / inner))
  for (let c = 0; c < channels; c++) {
    let sum = 0
    for (const [from, to] of ranges(set.size, samples)) {
      for (let i = from; i < to; i++) {
        const begin = i * stride + c * inner
        for (let k = begin; k < begin + inner; k++) sum += inputs[k]
      }
      yield
    }
    const centre = sum / count
    let squares = 0
    for (const [from, to] of ranges(set.size, samples)) {
      for (let i = from; i < to; i++) {
        const begin = i * stride + c * inner
        for (let k = begin; k < begin + inner; k++) squares += (inputs[k] - centre) ** 2
      }
      yield
    }
    mean[c] = centre * scale
    const deviation = Math.sqrt(squares / count) * scale
    std[c] = deviation > 0 ? deviation : 1
  }
  return { mean, std }
}

/** The set with another normalization; inputs are shared, not copied. Throws ERR_ARGUMENT. */
export function withNormalization(set: DataSet, choice: NormalizationChoice): DataSet {
  requireArguments('withNormalization()', { set })
  const normalization =
    choice === 'none' ? IDENTITY : choice === 'standardize' ? statistics(set) : choice
  checkNormalization(set.name, normalization, set.shape)
  return { ...set, normalization }
}

/**
 * The set normalized by its own channel statistics. For a test set pass the training set's
 * `normalization` to {@link withNormalization} instead.
 */
export function standardize(set: DataSet): DataSet {
  return withNormalization(set, 'standardize')
}

/**
 * Normalized samples as numbers, row-major [count, ...shape]: the samples `indices`, or all.
 * Throws ERR_RANGE for an index outside the set.
 */
export function normalizedInputs(set: DataSet, indices?: ArrayLike<number>): Float32Array
export function normalizedInputs<T extends Float32Array | Float64Array>(
  set: DataSet,
  indices: ArrayLike<number> | undefined,
  out: T,
): T
export function normalizedInputs(
  set: DataSet,
  indices?: ArrayLike<number>,
  out?: Float32Array | Float64Array,
): Float32Array | Float64Array {
  requireArguments('normalizedInputs()', { set, ...(indices !== undefined && { indices }) })
  if (out !== undefined && !isFloats(out)) {
    throw argumentError('normalizedInputs()', 'out', 'a Float32Array or Float64Array', out)
  }
  const stride = elements(set.shape)
  const channels = channelCount(set.shape)
  const inner = stride / channels
  const scale = inputScale(set.inputs)
  const { mean, std } = set.normalization
  const count = indices ? indices.length : set.size
  const target = out ?? new Float32Array(count * stride)
  if (target.length < count * stride) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `${count} samples need ${count * stride} numbers; the output holds ${target.length}.`,
    )
  }
  for (let i = 0; i < count; i++) {
    const sample = indices ? indices[i] : i
    if (!(sample >= 0 && sample < set.size)) {
      throw new LosscapeError(
        'ERR_RANGE',
        `${set.name}: sample ${sample} is outside 0 ... ${set.size - 1}.`,
      )
    }
    for (let c = 0; c < channels; c++) {
      const m = mean[mean.length === 1 ? 0 : c]
      const s = std[std.length === 1 ? 0 : c]
      const from = sample * stride + c * inner
      const to = i * stride + c * inner
      for (let k = 0; k < inner; k++) target[to + k] = (set.inputs[from + k] * scale - m) / s
    }
  }
  return target
}

const isFloats = (out: unknown): boolean =>
  out instanceof Float32Array || out instanceof Float64Array

/**
 * Labels as rows of a matrix [N, C]: 1 in the label's column, or 1 - smoothing with smoothing / C
 * spread over all. Throws ERR_ARGUMENT for a regression set.
 */
export function oneHot(set: DataSet, smoothing = 0): Float32Array {
  requireArguments('oneHot()', { set })
  if (set.classes === null) {
    throw new LosscapeError('ERR_ARGUMENT', `${set.name}: oneHot needs class labels.`)
  }
  if (!(smoothing >= 0 && smoothing < 1)) {
    throw new LosscapeError('ERR_ARGUMENT', `smoothing must be in [0, 1); got ${smoothing}.`)
  }
  const rows = new Float32Array(set.size * set.classes).fill(smoothing / set.classes)
  for (let i = 0; i < set.size; i++) {
    rows[i * set.classes + set.targets[i]] = 1 - smoothing + smoothing / set.classes
  }
  return rows
}
