import { argumentError, isVector, requireArguments } from '../arguments.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import { requireOptions } from '../options.js'
import {
  type DataSet,
  elements,
  IDENTITY,
  type InputArray,
  type TargetArray,
  validate,
} from './dataset.js'
import { type NormalizationChoice, withNormalization } from './normalize.js'

/** What {@link fromArrays} needs to know beside the numbers. */
export interface ArrayOptions {
  /** Shape of one sample. Default: [columns] for an array of rows, else [length / targets]. */
  shape?: readonly number[]
  /** Makes the targets labels 0 ... classes - 1. Default for integer arrays: largest label + 1. */
  classes?: number
  classNames?: readonly string[]
  /** Makes the targets real numbers of this shape per sample; [] for one number each. */
  targetShape?: readonly number[]
  /** Default 'arrays'. */
  name?: string
  /** Default 'none'. */
  normalization?: NormalizationChoice
}

/** One sample of an iterable. */
export interface Sample {
  readonly input: ArrayLike<number>
  /** A label, a number, or a vector of numbers. */
  readonly target: number | ArrayLike<number>
}

type Rows = readonly ArrayLike<number>[]
type Integers = Int8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | Uint8ClampedArray
type InputSource = InputArray | Integers | readonly number[] | Rows
type TargetSource = TargetArray | Uint8Array | Integers | readonly number[] | Rows

/**
 * A data set from arrays in memory. Typed arrays are kept as they are (not copied), others become
 * float32. Targets are labels when `classes` is given or the array is an integer one
 * (Int32Array, Uint8Array, ..), real numbers when `targetShape` is given or it is a float array or rows.
 *
 * Throws ERR_ARGUMENT (empty, or plain numbers as targets without `classes` or `targetShape`),
 * ERR_SHAPE (lengths disagree), ERR_RANGE (labels), ERR_NOT_FINITE (naming the sample).
 *
 * @example
 * const xor = fromArrays([[0, 0], [0, 1], [1, 0], [1, 1]], Int32Array.of(0, 1, 1, 0))
 */
export function fromArrays(x: InputSource, y: TargetSource, options: ArrayOptions = {}): DataSet {
  requireOptions('fromArrays()', options, ARRAY_OPTIONS)
  const name = options.name ?? 'arrays'
  if (typeof name !== 'string') throw argumentError('fromArrays()', 'name', 'a string', name)
  for (const key of ['shape', 'targetShape'] as const) {
    const shape = options[key]
    if (shape !== undefined && !Array.isArray(shape)) {
      throw argumentError('fromArrays()', key, 'a list of positive integers', shape)
    }
  }
  const inputs = toInputs(name, x)
  const target = toTargets(name, y, options)
  const size = target.targets.length / elements(target.targetShape)
  const shape = options.shape ?? [isRows(x) ? x[0].length : inputs.length / size]
  if (inputs.length === 0 || target.targets.length === 0) {
    throw new LosscapeError('ERR_ARGUMENT', `${name}: a data set needs at least one sample.`)
  }
  if (![size, ...shape].every(Number.isInteger) || size * elements(shape) !== inputs.length) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `${name}: inputs and targets disagree: ${inputs.length} input numbers of shape ` +
        `[${shape}] a sample, ${target.targets.length} target numbers of shape ` +
        `[${target.targetShape}].`,
    )
  }
  const set: DataSet = {
    name,
    size,
    shape,
    inputs,
    ...target,
    ...(options.classNames ? { classNames: options.classNames } : {}),
    normalization: IDENTITY,
  }
  return withNormalization(validate(set), options.normalization ?? 'none')
}

const ARRAY_OPTIONS = [
  ...(['shape', 'classes', 'classNames', 'targetShape', 'name', 'normalization'] as const),
] as const satisfies readonly (keyof ArrayOptions)[]

/** Options of {@link fromIterable}. */
export interface IterableOptions extends ArrayOptions {
  /** Takes only the first `limit` samples and closes the iterable. */
  limit?: number
  signal?: AbortSignal
}

/**
 * A data set from samples that come one by one, synchronously or not, kept as float32. All must
 * have the length of the first. Single numbers as targets need `classes` (labels) or
 * `targetShape: []`. Throws as {@link fromArrays}, and ERR_ABORTED.
 */
export async function fromIterable(
  samples: AsyncIterable<Sample> | Iterable<Sample>,
  options: IterableOptions = {},
): Promise<DataSet> {
  requireArguments('fromIterable()', { samples })
  requireOptions('fromIterable()', options, [...ARRAY_OPTIONS, 'limit', 'signal'])
  const { limit = Number.POSITIVE_INFINITY, signal, ...rest } = options
  const name = options.name ?? 'iterable'
  const inputs: Float32Array[] = []
  const targets: number[] = []
  let targetLength = -1
  throwIfAborted(signal)
  if (limit > 0) {
    for await (const sample of samples) {
      throwIfAborted(signal)
      if (
        !isVector(sample?.input) ||
        !(typeof sample.target === 'number' || isVector(sample.target))
      ) {
        throw argumentError(name, `sample ${inputs.length}`, '{ input, target }', sample)
      }
      const input = Float32Array.from(sample.input)
      const target = typeof sample.target === 'number' ? [sample.target] : sample.target
      if (targetLength < 0) targetLength = target.length
      if (input.length !== (inputs[0] ?? input).length || target.length !== targetLength) {
        throw new LosscapeError(
          'ERR_SHAPE',
          `${name}: sample ${inputs.length} has ${input.length} input and ${target.length} target ` +
            `numbers; sample 0 has ${inputs[0].length} and ${targetLength}.`,
        )
      }
      inputs.push(input)
      for (let k = 0; k < target.length; k++) targets.push(target[k])
      if (inputs.length >= limit) break
    }
  }
  const x = new Float32Array(inputs.length * (inputs[0]?.length ?? 0))
  inputs.forEach((input, i) => {
    x.set(input, i * input.length)
  })
  const shape = options.shape ?? [inputs[0]?.length ?? 0]
  return fromArrays(x, targets, {
    ...(targetLength > 1 ? { targetShape: [targetLength] } : {}),
    ...rest,
    shape,
    name,
  })
}

function isRows(values: InputSource | TargetSource): values is Rows {
  return Array.isArray(values) && values.length > 0 && typeof values[0] !== 'number'
}

function flatten(name: string, rows: Rows): Float32Array {
  const wrong = rows.findIndex((row) => !isVector(row))
  if (wrong >= 0) throw argumentError(name, `row ${wrong}`, 'an array of numbers', rows[wrong])
  const width = rows[0].length
  const flat = new Float32Array(rows.length * width)
  rows.forEach((row, i) => {
    if (row.length !== width) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `${name}: row ${i} has ${row.length} numbers; row 0 has ${width}.`,
      )
    }
    flat.set(row, i * width)
  })
  return flat
}

function toInputs(name: string, x: InputSource): InputArray {
  if (isRows(x)) return flatten(name, x)
  if (x instanceof Uint8Array || x instanceof Float32Array || x instanceof Float64Array) return x
  if (x instanceof Uint8ClampedArray) return new Uint8Array(x.buffer, x.byteOffset, x.length)
  return Float32Array.from(asNumbers(name, x))
}

/** @throws ERR_DTYPE for arrays of big integers and for what is not an array */
function asNumbers(name: string, values: unknown): ArrayLike<number> {
  const big = values instanceof BigInt64Array || values instanceof BigUint64Array
  const isList = Array.isArray(values) || (ArrayBuffer.isView(values) && 'length' in values)
  if (isList && !big) return values as unknown as ArrayLike<number>
  throw new LosscapeError(
    'ERR_DTYPE',
    `${name}: expected an array of numbers, got ${big ? values.constructor.name : typeof values}.`,
  )
}

function toTargets(
  name: string,
  y: TargetSource,
  options: ArrayOptions,
): Pick<DataSet, 'targets' | 'targetShape' | 'classes'> {
  if (!isVector(y)) throw argumentError(name, 'targets', 'an array of numbers', y)
  const isInteger =
    ArrayBuffer.isView(y) && !(y instanceof Float32Array || y instanceof Float64Array)
  if (options.classes !== undefined && options.targetShape?.length) {
    throw new LosscapeError('ERR_ARGUMENT', `${name}: give classes or targetShape, not both.`)
  }
  if (options.classes !== undefined || (isInteger && options.targetShape === undefined)) {
    const targets = toLabels(name, isRows(y) ? flatten(name, y) : y)
    const classes = options.classes ?? targets.reduce((most, label) => Math.max(most, label), 0) + 1
    return { targets, targetShape: [], classes }
  }
  if (isRows(y)) {
    const targets = flatten(name, y)
    return { targets, targetShape: options.targetShape ?? [y[0].length], classes: null }
  }
  if (options.targetShape === undefined && Array.isArray(y)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${name}: plain numbers as targets need \`classes\` (labels) or \`targetShape\` ` +
        '([] for one real number each).',
    )
  }
  const targets =
    y instanceof Float32Array || y instanceof Float64Array
      ? y
      : Float32Array.from(asNumbers(name, y))
  return { targets, targetShape: options.targetShape ?? [], classes: null }
}

function toLabels(name: string, y: ArrayLike<number>): Int32Array {
  if (y instanceof Int32Array) return y
  const labels = new Int32Array(y.length)
  for (let i = 0; i < y.length; i++) {
    labels[i] = y[i]
    if (labels[i] !== y[i]) {
      const code = Number.isFinite(y[i]) ? 'ERR_RANGE' : 'ERR_NOT_FINITE'
      throw new LosscapeError(code, `${name}: label of sample ${i} is not an integer: ${y[i]}.`)
    }
  }
  return labels
}
