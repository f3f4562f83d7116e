import { argumentError, isVector } from '../../arguments.js'
import { LosscapeError } from '../../errors.js'
import {
  type StandardizeSettings,
  standardizeAttributes,
  standardizeSettings,
} from '../../ops/weight-standardize-options.js'
import { centered, scaleOf, standardizedRow } from '../../ops/weight-standardize-reference.js'
import type { Attributes } from '../../program/types.js'
import type { FloatVector } from '../layout.js'

/** Factors and offsets per filter. */
export interface FilterAffine {
  readonly gain: Float64Array
  readonly shift: Float64Array
}

interface Rows {
  readonly attributes: Attributes
  readonly factor: number
  readonly rows: readonly Float64Array[]
}

/** Splits a bank of filters, given flat as [O, I]. */
function rowsOf(
  where: string,
  weights: FloatVector,
  filters: number,
  settings: StandardizeSettings,
): Rows {
  const numbers = standardizeSettings(where, settings)
  if (!isVector(weights)) throw argumentError(where, 'weights', 'an array of numbers', weights)
  if (!Number.isSafeInteger(filters) || filters < 1) {
    throw argumentError(where, 'filters', 'a positive integer', filters)
  }
  const size = weights.length / filters
  if (!Number.isInteger(size) || size < 2) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `${where} expected ${filters} filters of two weights or more, got ${weights.length} weights.`,
    )
  }
  const all = Float64Array.from(weights)
  const attributes = standardizeAttributes(numbers, [size])
  return {
    attributes,
    factor: (attributes.factors as readonly number[])[0],
    rows: Array.from({ length: filters }, (_, o) => all.subarray(o * size, (o + 1) * size)),
  }
}

/**
 * The plain filters that standardised ones stand for, in float64: factor gain U / sigma + shift. A
 * convolution with them computes the same function, without the operation.
 *
 * @param weights [O, I], flat
 * @param filters O
 * @param settings as of `ops.weightStandardize`, with gain and shift [O]
 * @throws ERR_SHAPE (not O filters of two weights or more, gain or shift not of O numbers),
 *   ERR_ARGUMENT
 */
export function standardizedWeights(
  weights: FloatVector,
  filters: number,
  settings: StandardizeSettings & { gain?: FloatVector; shift?: FloatVector } = {},
): Float64Array {
  const where = 'standardizedWeights()'
  const { gain, shift, ...numbers } = settings
  const { attributes, factor, rows } = rowsOf(where, weights, filters, numbers)
  for (const [name, list] of Object.entries({ gain, shift })) {
    if (list === undefined || list.length === filters) continue
    throw new LosscapeError(
      'ERR_SHAPE',
      `${where} expected ${filters} numbers in ${name}, one per filter, got ${list.length}.`,
    )
  }
  const size = weights.length / filters
  const plain = new Float64Array(weights.length)
  for (const [o, w] of rows.entries()) {
    const a = factor * (gain?.[o] ?? 1)
    const b = shift?.[o] ?? 0
    plain.set(
      standardizedRow(w, attributes).map((x) => a * x + b),
      o * size,
    )
  }
  return plain
}

/**
 * Adaptive weight standardisation: gain and shift of a network whose weights were trained without
 * standardisation, so that the standardised filters are the loaded ones and training can go on from
 * there. gain is sigma (with epsilon, which so cancels) over the factor, shift the mean.
 *
 * @param weights [O, I], flat: the loaded filters
 * @param filters O
 * @throws ERR_SHAPE, ERR_ARGUMENT (a factor of 0)
 * @see Qiao, Chen, Yuille, DetectoRS, arXiv 2006.02334
 * @example
 * const { gain, shift } = adaptiveStandardization(view, 64, { form: 'in' })
 * standardizedWeights(view, 64, { form: 'in', gain, shift }) // view again
 */
export function adaptiveStandardization(
  weights: FloatVector,
  filters: number,
  settings: StandardizeSettings = {},
): FilterAffine {
  const where = 'adaptiveStandardization()'
  const { attributes, factor, rows } = rowsOf(where, weights, filters, settings)
  if (factor === 0) {
    throw new LosscapeError('ERR_ARGUMENT', `${where}: no gain makes up for a factor of 0.`)
  }
  return {
    gain: Float64Array.from(rows, (w) => scaleOf(w, attributes).sigma / factor),
    shift: Float64Array.from(rows, (w) => (attributes.center === 1 ? w[0] - centered(w)[0] : 0)),
  }
}
