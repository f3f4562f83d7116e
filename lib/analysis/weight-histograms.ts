import { argumentError, isVector, requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import type { Model } from '../nn/model.js'
import { requireOptions } from '../options.js'

export interface HistogramOptions {
  /** Equal bins over [-range, range]. Default 101. */
  readonly bins?: number
  /** Default: for one histogram the largest magnitude, for those of a training 0.1. */
  readonly range?: number
}

/** Counts of numbers. */
export interface Histogram {
  /** Bins are equal and cover [-range, range]. */
  readonly range: number
  readonly counts: Float64Array
  /** Numbers beyond the range. */
  readonly outside: number
  readonly total: number
  readonly mean: number
  readonly deviation: number
}

/** A histogram with what it is of. */
export interface NamedHistogram extends Histogram {
  readonly name: string
}

const OPTIONS = ['bins', 'range'] as const

/**
 * Histogram of numbers around 0.
 * @throws ERR_ARGUMENT, ERR_NOT_FINITE
 */
export function histogram(values: ArrayLike<number>, options: HistogramOptions = {}): Histogram {
  if (!isVector(values)) throw argumentError('histogram()', 'values', 'an array of numbers', values)
  requireOptions('histogram()', options, OPTIONS)
  let [sum, squares, largest] = [0, 0, 0]
  for (let i = 0; i < values.length; i++) {
    sum += values[i]
    squares += values[i] * values[i]
    largest = Math.max(largest, Math.abs(values[i]))
  }
  if (!Number.isFinite(sum + squares)) {
    throw new LosscapeError('ERR_NOT_FINITE', 'histogram() expected finite numbers.')
  }
  const { bins = 101, range = largest > 0 ? largest : 1 } = options
  if (!Number.isSafeInteger(bins) || bins < 1 || bins > 1e6) {
    throw argumentError('histogram()', 'bins', 'an integer from 1 to 1,000,000', bins)
  }
  if (typeof range !== 'number' || !(range > 0 && Number.isFinite(range))) {
    throw argumentError('histogram()', 'range', 'a positive number', range)
  }
  const counts = new Float64Array(bins)
  let outside = 0
  for (let i = 0; i < values.length; i++) {
    const at = ((values[i] + range) / (2 * range)) * bins
    // The upper end belongs to the last bin.
    if (values[i] === range) counts[bins - 1]++
    else if (at >= 0 && at < bins) counts[Math.floor(at)]++
    else outside++
  }
  const total = values.length
  const mean = total > 0 ? sum / total : Number.NaN
  const variance = total > 0 ? Math.max(0, squares / total - mean * mean) : Number.NaN
  return { range, counts, outside, total, mean, deviation: Math.sqrt(variance) }
}

/** Parameters at a moment of a training, as histograms name it. */
export interface NamedParameters {
  readonly name: string
  readonly params: ArrayLike<number>
}

/**
 * Histograms of all weights at moments of a training, all over the same bins.
 * @throws ERR_ARGUMENT, ERR_NOT_FINITE
 */
export function weightHistograms(
  moments: readonly NamedParameters[],
  options: HistogramOptions = {},
): NamedHistogram[] {
  requireOptions('weightHistograms()', options, OPTIONS)
  if (!Array.isArray(moments) || !moments.every((m) => typeof m?.name === 'string')) {
    throw argumentError('weightHistograms()', 'moments', 'a list of { name, params }', moments)
  }
  const { bins, range = 0.1 } = options
  return moments.map(({ name, params }) => {
    requireArguments('weightHistograms()', { params })
    return { name, ...histogram(params, { bins, range }) }
  })
}

/** Tensors of learnable attention, [h, ...] each: block, group of heads, coefficients or projector. */
const LEARNABLE = /^(?:(.*)\.)?karat\.(?:(\d+)\.)?(?:(weight)|[abc]2?|edges2?)$/

/** Coefficients and projector of one attention head. */
export interface HeadHistograms {
  /** `block 0`, or `shared` where all blocks use the same functions; groups of heads by number. */
  readonly block: string
  /** Among the heads of its group. */
  readonly head: number
  /** Of the basis coefficients, a and b together. */
  readonly coefficients: Histogram
  /** Of W; null for orders without one. */
  readonly projector: Histogram | null
}

/**
 * Histograms of the basis coefficients {a, b} and of the projector W, for every head of every
 * block of a model with learnable attention (once when blocks share them); [] for other models.
 *
 * @throws ERR_SHAPE, ERR_NOT_FINITE
 */
export function headHistograms(
  model: Model,
  params: ArrayLike<number>,
  options: HistogramOptions = {},
): HeadHistograms[] {
  requireArguments('headHistograms()', { model, params })
  requireOptions('headHistograms()', options, OPTIONS)
  model.layout.requireLength(params.length)
  const blocks = new Map<string, { coefficients: Float64Array[][]; projector: Float64Array[][] }>()
  for (const { name, shape, offset, size } of model.layout.entries) {
    const found = LEARNABLE.exec(name)
    if (!found) continue
    const [, prefix, group, projector] = found
    const number = prefix === undefined ? 'shared' : `block ${prefix.split('.')[1]}`
    const block = group === undefined ? number : `${number}, group ${group}`
    const parts = blocks.get(block) ?? { coefficients: [], projector: [] }
    blocks.set(block, parts)
    const heads = shape[0]
    const each = size / heads
    const list = projector ? parts.projector : parts.coefficients
    for (let h = 0; h < heads; h++) {
      const from = offset + h * each
      list[h] = [
        ...(list[h] ?? []),
        Float64Array.from({ length: each }, (_, i) => params[from + i]),
      ]
    }
  }
  return [...blocks].flatMap(([block, { coefficients, projector }]) =>
    coefficients.map((parts, head) => ({
      block,
      head,
      coefficients: histogram(joined(parts), options),
      projector: projector[head] ? histogram(joined(projector[head]), options) : null,
    })),
  )
}

function joined(parts: readonly Float64Array[]): Float64Array {
  const out = new Float64Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}
