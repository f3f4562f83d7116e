import { denseWeights, evaluationWeights } from '../data/augment/resample.js'
import {
  channelCount,
  type DataSet,
  inputScale,
  type Resize,
  requireLengths,
  sampleShape,
} from '../data/dataset.js'
import { LosscapeError } from '../errors.js'
import * as ops from '../ops/index.js'
import { elements, sameShape } from '../program/shape.js'
import type { Tensor } from '../program/tensor.js'
import type { TensorType } from '../program/types.js'
import type { Loss } from './loss.js'
import type { Model, StatisticsMode } from './model.js'

/** Types of a batch as programs take it: raw samples, targets, weights (0 pads). */
export function batchTypes(
  set: DataSet,
  batch: number,
): { x: TensorType; y: TensorType; w: TensorType } {
  const labels = set.targets instanceof Int32Array
  return {
    x: {
      dtype: set.inputs instanceof Uint8Array ? 'u8' : 'f32',
      shape: [batch, ...set.shape],
    },
    y: {
      dtype: labels ? 'i32' : 'f32',
      shape: [batch, ...(labels ? set.targetShape : valueShape(set))],
    },
    w: { dtype: 'f32', shape: [batch] },
  }
}

/** Shape of a sample's target values; a single number is a vector of one, as outputs are. */
function valueShape(set: DataSet): readonly number[] {
  return set.targetShape.length === 0 ? [1] : set.targetShape
}

/** Raw samples as the model sees them: x' = (x * scale - mean) / std, in the model's shape. */
export function normalizeBatch(
  x: Tensor,
  set: Pick<DataSet, 'shape' | 'inputs' | 'normalization' | 'resize'>,
  model: Model,
): Tensor {
  const scale = inputScale(set.inputs)
  const { mean, std } = set.normalization
  const per = Math.max(mean.length, std.length)
  if (Math.min(mean.length, std.length) !== per && Math.min(mean.length, std.length) !== 1) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `The normalization has ${mean.length} means but ${std.length} standard deviations.`,
    )
  }
  const at = (list: readonly number[], i: number): number => list[list.length === 1 ? 0 : i]
  const factor = Array.from({ length: per }, (_, i) => scale / at(std, i))
  const shift = Array.from({ length: per }, (_, i) => -at(mean, i) / at(std, i))
  const channels = channelCount(set.shape)
  if (per !== 1 && per !== channels) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `The normalization has ${per} channels, samples of shape [${set.shape}] have ${channels}.`,
    )
  }
  const shape = per === 1 ? [] : [channels, ...new Array<number>(set.shape.length - 1).fill(1)]
  const isIdentity = factor.every((f) => f === 1) && shift.every((s) => s === 0)
  let y = ops.cast(x, 'f32')
  if (!isIdentity) {
    const column = (list: number[]): Tensor | number =>
      per === 1 ? list[0] : ops.constant(list, { shape })
    y = ops.add(ops.mul(y, column(factor)), column(shift))
  }
  if (set.resize) y = resizeBatch(y, set.resize)
  return ops.reshape(y, [x.shape[0], ...model.input])
}

/**
 * Images [.., h, w] brought to [.., H, W]: R x Cᵀ with the weights of both axes as matrices, after
 * the normalization, which weights that sum to 1 commute with.
 */
function resizeBatch(x: Tensor, { size, cropRatio, interpolation }: Resize): Tensor {
  const [height, width] = x.shape.slice(-2)
  const shorter = Math.min(height, width)
  const matrix = (length: number, target: number): Tensor => {
    const weights = evaluationWeights(length, shorter, target, cropRatio, interpolation)
    return ops.constant(denseWeights(weights, length), { shape: [target, length] })
  }
  const lines = ops.matmul(x, matrix(width, size[1]), { transB: true })
  return ops.matmul(matrix(height, size[0]), lines)
}

/**
 * The statistics of an analysis. Where samples may be coupled the choice changes the function that
 * is analysed, so that there is no default.
 *
 * @throws ERR_ARGUMENT for no choice or an unknown one, and for 'batch' where nothing takes
 * statistics over a batch
 */
export function resolveStatistics(
  model: Pick<Model, 'name' | 'couplesSamples'>,
  mode: StatisticsMode | undefined,
): StatisticsMode {
  const { name, couplesSamples } = model
  if (mode === undefined && !couplesSamples) return 'frozen'
  if (mode !== 'frozen' && mode !== 'batch') {
    const why = couplesSamples ? ` model '${name}' normalises over the samples of a batch;` : ''
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `Choose statistics:${why} 'frozen' takes its state, 'batch' the statistics of each batch; got ${String(mode)}.`,
    )
  }
  if (mode === 'batch' && !couplesSamples) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `Model '${name}' has no batch statistics: use statistics 'frozen', the default.`,
    )
  }
  return mode
}

/**
 * Samples per batch where a batch is normalised by its own statistics: the loss is then the mean
 * over consecutive batches, and padding would change them.
 *
 * @throws ERR_ARGUMENT unless `batch` (default: all samples) divides the samples
 */
export function statisticsBatch(model: Model, set: DataSet, batch = set.size): number {
  if (Number.isSafeInteger(batch) && batch >= 1 && set.size % batch === 0) return batch
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `With the batch statistics of model '${model.name}', batch must divide the ${set.size} samples ` +
      `of '${set.name}', got ${String(batch)}: leave it out for one batch of all samples, select ` +
      "samples, or use statistics 'frozen'.",
  )
}

/**
 * Checks that a model, a loss and a data set belong together.
 * @param stored the set that lies in memory, where `set` is what workers make of it
 * @throws ERR_SHAPE, ERR_ARGUMENT
 */
export function requireMatch(model: Model, loss: Loss, set: DataSet, stored = set): void {
  requireLengths(stored)
  const shape = sampleShape(set)
  if (elements(model.input) !== elements(shape)) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `Model '${model.name}' takes samples of [${model.input}], data set '${set.name}' has [${shape}].`,
    )
  }
  const labels = set.targets instanceof Int32Array
  if (loss.targets === 'labels' && !labels) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `Loss '${loss.name}' needs class labels, data set '${set.name}' has values.`,
    )
  }
  if (loss.targets === 'values' && labels) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `Loss '${loss.name}' needs target values, data set '${set.name}' has labels: see data.oneHot().`,
    )
  }
  requirePlaces(model, loss, set)
  const outputs = labels && set.targetShape.length > 0 ? model.output[0] : elements(model.output)
  if (labels && outputs > 1 && set.classes !== null && set.classes > outputs) {
    throw new LosscapeError(
      'ERR_RANGE',
      `Data set '${set.name}' has ${set.classes} classes, model '${model.name}' only ${outputs} outputs.`,
    )
  }
  if (labels && outputs === 1 && set.classes !== null && set.classes > 2) {
    throw new LosscapeError(
      'ERR_RANGE',
      `Model '${model.name}' has a single output; data set '${set.name}' has ${set.classes} classes.`,
    )
  }
  if (!labels && !sameShape(valueShape(set), model.output)) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `Model '${model.name}' gives outputs [${model.output}], targets have shape [${valueShape(set)}].`,
    )
  }
}

/** Labels of places [H, W] need scores of the same places [C, H, W], and a loss that knows them. */
function requirePlaces(model: Model, loss: Loss, set: DataSet): void {
  const { targetShape } = set
  const entropy = loss.name === 'cross-entropy'
  if (!(set.targets instanceof Int32Array) || (targetShape.length === 0 && !entropy)) return
  const places = model.output.slice(1)
  if (!sameShape(places, targetShape)) {
    const of = (shape: readonly number[]): string =>
      shape.length === 0 ? 'each sample' : `each place of [${shape}]`
    throw new LosscapeError(
      'ERR_SHAPE',
      `Model '${model.name}' scores ${of(places)}, data set '${set.name}' has a label for ${of(targetShape)}.`,
    )
  }
  if (places.length > 0 && !entropy && loss.likelihood) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `Loss '${loss.name}' takes one label a sample; labels of places need 'cross-entropy'.`,
    )
  }
}
