import { newArray } from '../../allocation.js'
import { LosscapeError } from '../../errors.js'
import { requireOptions } from '../../options.js'
import { fillSlices, normals, stream } from '../../random/index.js'
import { atOnce, type Slices } from '../../slices.js'
import { type DataSet, IDENTITY, validate } from '../dataset.js'
import { amountOption, integerOption, SYNTHETIC, type SyntheticOptions } from './options.js'
import { splitSize, splitStream } from './points.js'

/** Options of {@link teacher}. */
export interface TeacherOptions extends SyntheticOptions {
  /** Dimension of the inputs. Default 10. */
  dim?: number
  /** Width of the teacher's hidden layer. Default 20. */
  width?: number
  /** Labels are the largest of `classes` outputs; 0 makes a regression set. Default 5. */
  classes?: number
  /** Regression only: outputs a sample. Default 1. */
  outputs?: number
  /** Regression only: deviation of the noise on the targets. Default 0. */
  noise?: number
}

/**
 * A random two-layer ReLU network (the teacher) labels standard normal inputs:
 * y = W2 relu(W1 x + b1) with W1 ~ N(0, 2 / dim), b1 ~ N(0, 1), W2 ~ N(0, 1 / width).
 * For classes the outputs are centred with the training samples' mean first, so that no class
 * takes all. Default n 1000.
 *
 * Throws ERR_ARGUMENT.
 */
export function teacher(options: TeacherOptions = {}): DataSet {
  return atOnce(teacherSlices(options))
}

/** {@link teacher} in slices. */
export function* teacherSlices(options: TeacherOptions = {}): Slices<DataSet> {
  requireOptions('teacher()', options, [
    ...SYNTHETIC,
    ...(['dim', 'width', 'classes', 'outputs', 'noise'] as const),
  ])
  const { seed = 0, split = 'train' } = options
  const dim = integerOption('dim', options.dim ?? 10)
  const width = integerOption('width', options.width ?? 20)
  const classes = integerOption('classes', options.classes ?? 5, 0)
  const outputs = classes > 0 ? classes : integerOption('outputs', options.outputs ?? 1)
  const noise = amountOption('noise', options.noise ?? 0)
  if (classes === 1 || (classes > 0 && (noise > 0 || options.outputs !== undefined))) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      'A teacher has at least two classes; outputs and noise are for regression (classes = 0).',
    )
  }
  const weight = (part: number, count: number, variance: number) =>
    normals(seed, stream('data', 200 + part), 0, count).map((z) => z * Math.sqrt(variance))
  const first = weight(0, width * dim, 2 / dim)
  const bias = weight(1, width, 1)
  const second = weight(2, outputs * width, 1 / width)

  function* draw(part: 'train' | 'test') {
    const size = splitSize({ ...options, split: part }, 1000)
    const inputs = newArray(Float32Array, size * dim, 'teacher')
    yield* fillSlices(normals, seed, splitStream(part, 0), inputs)
    const y = newArray(Float64Array, size * outputs, 'teacher')
    const hidden = new Float64Array(width)
    for (let i = 0; i < size; i++) {
      for (let h = 0; h < width; h++) {
        let sum = bias[h]
        for (let k = 0; k < dim; k++) sum += first[h * dim + k] * inputs[i * dim + k]
        hidden[h] = sum > 0 ? sum : 0
      }
      for (let o = 0; o < outputs; o++) {
        let sum = 0
        for (let h = 0; h < width; h++) sum += second[o * width + h] * hidden[h]
        y[i * outputs + o] = sum
      }
      if (i % 64 === 0) yield
    }
    return { size, inputs, y }
  }

  const { size, inputs, y } = yield* draw(split)
  const common = { name: 'teacher', size, shape: [dim], inputs, normalization: IDENTITY }
  if (classes === 0) {
    const errors = new Float64Array(y.length)
    yield* fillSlices(normals, seed, splitStream(split, 1), errors)
    const targets = Float32Array.from(y, (value, i) => value + noise * errors[i])
    const targetShape = outputs === 1 ? [] : [outputs]
    return validate({ ...common, targets, targetShape, classes: null })
  }
  const means = columnMeans(split === 'train' ? y : (yield* draw('train')).y, classes)
  const targets = new Int32Array(size)
  for (let i = 0; i < size; i++) {
    let best = Number.NEGATIVE_INFINITY
    for (let c = 0; c < classes; c++) {
      const score = y[i * classes + c] - means[c]
      if (score > best) {
        best = score
        targets[i] = c
      }
    }
  }
  return validate({ ...common, targets, targetShape: [], classes })
}

function columnMeans(y: Float64Array, columns: number): Float64Array {
  const means = new Float64Array(columns)
  for (let i = 0; i < y.length; i++) means[i % columns] += y[i]
  return means.map((sum) => (sum * columns) / y.length)
}
