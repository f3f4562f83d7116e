import type { DataSet } from '../data/dataset.js'
import { take } from '../data/select.js'
import { LosscapeError } from '../errors.js'
import { resolveStatistics } from '../nn/batch.js'
import type { Model, StatisticsMode } from '../nn/model.js'
import type { Precision } from './operator.js'
import type { CurvatureKind } from './setting.js'

/** Samples of a data set: these, in this order, or all from `from` up to `to` (exclusive). */
export type SampleSelection = ArrayLike<number> | { readonly from?: number; readonly to?: number }

/** What an operator is, for results, reports and comparisons. */
export interface OperatorDescription {
  readonly kind: CurvatureKind
  readonly model: string
  readonly loss: string
  /** Names of the parameters whose block it is. */
  readonly params: readonly string[]
  readonly samples: {
    readonly set: string
    /** Samples that count, N, and those of the set. */
    readonly count: number
    readonly of: number
    /** First and last + 1 of a range; absent for a list of indices. */
    readonly from?: number
    readonly to?: number
  }
  readonly reduction: 'mean' | 'sum'
  readonly weightDecay: number
  readonly statistics: StatisticsMode
  readonly precision: Precision
  /** Of the Monte-Carlo Fisher: targets per sample, and the seed of their numbers. */
  readonly draws?: number
  readonly seed?: string
}

/** A part of a data set, and where its samples stand in the whole. */
export interface SelectedSamples {
  readonly set: DataSet
  readonly description: OperatorDescription['samples']
  /** Index in the whole set of sample `i` of the part. */
  readonly indexOf: (i: number) => number
}

/** @throws ERR_ARGUMENT for an empty selection, ERR_RANGE for a sample that does not exist */
export function selectSamples(set: DataSet, samples?: SampleSelection): SelectedSamples {
  const { name, size } = set
  if (samples === undefined) return part(set, set, 0, size)
  if ('length' in samples) {
    const indices = Int32Array.from(samples, (i) => {
      if (Number.isInteger(i) && i >= 0 && i < size) return i
      throw new LosscapeError('ERR_RANGE', `samples: '${name}' has no sample ${i} of ${size}.`)
    })
    if (indices.length === 0) {
      throw new LosscapeError('ERR_ARGUMENT', 'samples: the selection is empty.')
    }
    return {
      set: take(set, indices),
      description: { set: name, count: indices.length, of: size },
      indexOf: (i) => indices[i],
    }
  }
  const { from = 0, to = size } = samples
  if (![from, to].every(Number.isInteger) || from < 0 || to > size) {
    throw new LosscapeError(
      'ERR_RANGE',
      `samples: expected integers from >= 0 and to <= ${size}, got from ${from} to ${to}.`,
    )
  }
  if (from >= to) {
    throw new LosscapeError('ERR_ARGUMENT', `samples: from ${from} to ${to} holds no sample.`)
  }
  const indices = Int32Array.from({ length: to - from }, (_, i) => from + i)
  return part(set, to - from === size ? set : take(set, indices), from, to)
}

function part(whole: DataSet, set: DataSet, from: number, to: number): SelectedSamples {
  return {
    set,
    description: { set: whole.name, count: set.size, of: whole.size, from, to },
    indexOf: (i) => from + i,
  }
}

/**
 * The statistics of a sum over samples that must stand alone.
 * @throws ERR_ARGUMENT as `resolveStatistics` does, and for 'batch'
 */
export function requireFrozen(what: string, model: Model, mode: StatisticsMode | undefined): void {
  if (resolveStatistics(model, mode) === 'frozen') return
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `${what} is a sum over single samples, which the batch statistics of model '${model.name}' couple: use statistics 'frozen'.`,
  )
}
