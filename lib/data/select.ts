import { argumentError, requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import type { Word64 } from '../random/index.js'
import { integers, permutation, stream } from '../random/index.js'
import { type DataSet, elements } from './dataset.js'

/** Which samples {@link subset} keeps; the steps apply in this order. */
export interface SubsetOptions {
  /** These samples, in this order. */
  indices?: ArrayLike<number>
  /** Only samples with these labels; labels keep their numbers. */
  classes?: readonly number[]
  /** A random share in (0, 1] of what is left, in file order. Needs `seed`. */
  fraction?: number
  /** The first `limit` in file order, or a random `limit` of them when `seed` is given. */
  limit?: number
  seed?: Word64
}

/**
 * A part of a set, with copied samples and the same normalization. `limit` larger than what is
 * left keeps everything. Throws ERR_ARGUMENT, ERR_RANGE, and ERR_ARGUMENT when nothing is left.
 */
export function subset(set: DataSet, options: SubsetOptions): DataSet {
  requireArguments('subset()', { set })
  requireOptions('subset()', options, ['indices', 'classes', 'fraction', 'limit', 'seed'])
  const { indices, classes: labels } = options
  if (indices !== undefined) requireArguments('subset()', { indices })
  if (labels !== undefined && !Array.isArray(labels)) {
    throw argumentError('subset()', 'classes', 'a list of labels', labels)
  }
  let kept = options.indices
    ? Array.from(options.indices, (i) => checkIndex(set, i))
    : Array.from({ length: set.size }, (_, i) => i)
  if (options.classes) {
    if (set.classes === null) {
      throw new LosscapeError('ERR_ARGUMENT', `${set.name}: a regression set has no classes.`)
    }
    requireSampleLabels(set, 'classes of a subset')
    const wanted = new Set(options.classes)
    kept = kept.filter((i) => wanted.has(set.targets[i]))
  }
  if (options.fraction !== undefined) {
    const count = Math.round(checkFraction(options.fraction) * kept.length)
    kept = draw(kept, count, options.seed, 'fraction')
  }
  if (options.limit !== undefined) {
    if (!Number.isInteger(options.limit) || options.limit < 1) {
      throw new LosscapeError('ERR_ARGUMENT', `limit must be at least 1; got ${options.limit}.`)
    }
    kept =
      options.seed !== undefined && options.fraction === undefined
        ? draw(kept, options.limit, options.seed, 'limit')
        : kept.slice(0, options.limit)
  }
  if (kept.length === 0) {
    throw new LosscapeError('ERR_ARGUMENT', `${set.name}: the subset holds no sample.`)
  }
  return take(set, kept)
}

/**
 * Splits a set at random: `fraction` of the samples (rounded, at least one on each side) in the
 * first part, the rest in the second, both in file order.
 */
export function split(set: DataSet, fraction: number, seed: Word64): [DataSet, DataSet] {
  requireArguments('split()', { set, seed })
  const size = Math.round(checkFraction(fraction) * set.size)
  if (size < 1 || size >= set.size) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${set.name}: a fraction of ${fraction} leaves one part of ${set.size} samples empty.`,
    )
  }
  const order = permutation(seed, stream('split'), set.size)
  return [take(set, order.slice(0, size).sort()), take(set, order.slice(size).sort())]
}

/**
 * Symmetric label noise: exactly round(fraction * N) samples, chosen at random, get a label drawn
 * evenly from the other C - 1 classes. Inputs are shared with `set`. Throws ERR_ARGUMENT.
 */
export function labelNoise(set: DataSet, fraction: number, seed: Word64): DataSet {
  requireArguments('labelNoise()', { set, seed })
  if (set.classes === null || set.classes < 2) {
    throw new LosscapeError('ERR_ARGUMENT', `${set.name}: label noise needs two classes or more.`)
  }
  requireSampleLabels(set, 'label noise')
  if (!(fraction >= 0 && fraction <= 1)) {
    throw new LosscapeError('ERR_ARGUMENT', `fraction must be in [0, 1]; got ${fraction}.`)
  }
  const count = Math.round(fraction * set.size)
  const order = permutation(seed, stream('labels', 0), set.size)
  const shifts = integers(seed, stream('labels', 1), 0, count, set.classes - 1)
  const targets = Int32Array.from(set.targets)
  for (let k = 0; k < count; k++) {
    const i = order[k]
    targets[i] = (targets[i] + 1 + shifts[k]) % set.classes
  }
  return { ...set, name: `${set.name}+noise`, targets }
}

/** The samples `indices` of a set, copied, in that order. */
export function take(set: DataSet, indices: ArrayLike<number>): DataSet {
  requireArguments('take()', { set, indices })
  for (let k = 0; k < indices.length; k++) checkIndex(set, indices[k])
  const pick = <T extends DataSet['inputs'] | DataSet['targets']>(from: T, stride: number): T => {
    const Type = from.constructor as new (length: number) => T
    const to = new Type(indices.length * stride)
    for (let k = 0; k < indices.length; k++) {
      const begin = indices[k] * stride
      to.set(from.subarray(begin, begin + stride), k * stride)
    }
    return to
  }
  return {
    ...set,
    size: indices.length,
    inputs: pick(set.inputs, elements(set.shape)),
    targets: pick(set.targets, elements(set.targetShape)),
  }
}

/** @throws ERR_ARGUMENT for a set with a label a pixel */
function requireSampleLabels({ name, targetShape }: DataSet, what: string): void {
  if (targetShape.length === 0) return
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `${name}: ${what} needs one label a sample; the set has labels of shape [${targetShape}].`,
  )
}

function draw(from: number[], count: number, seed: Word64 | undefined, what: string): number[] {
  if (seed === undefined) {
    throw new LosscapeError('ERR_ARGUMENT', `A random ${what} of a set needs a seed.`)
  }
  const order = permutation(seed, stream('split'), from.length)
  return Array.from(order.subarray(0, count).slice().sort(), (k) => from[k])
}

function checkFraction(fraction: number): number {
  if (fraction > 0 && fraction <= 1) return fraction
  throw new LosscapeError('ERR_ARGUMENT', `fraction must be in (0, 1]; got ${fraction}.`)
}

function checkIndex(set: DataSet, i: number): number {
  if (Number.isInteger(i) && i >= 0 && i < set.size) return i
  throw new LosscapeError(
    'ERR_RANGE',
    `${set.name}: sample ${String(i)} is outside 0 ... ${set.size - 1}.`,
  )
}
