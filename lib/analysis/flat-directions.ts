import { argumentError, requireArguments } from '../arguments.js'
import { type LinearOperator, requireProducts } from '../curvature/operator.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import { structureOf } from '../nn/convnet/structure.js'
import type { Model } from '../nn/model.js'
import { requireOptions } from '../options.js'
import { normals, rademacher, stream } from '../random/index.js'

export interface FlatDirectionsOptions {
  /**
   * Standardised filters: names of their tensors [O, ..] or a pattern. Default: what the model's
   * weight standardisation takes.
   */
  readonly filters?: string | readonly string[]
  /** Random combinations of all null vectors that are tested. Default 3. */
  readonly probes?: number
  /** Products that estimate ‖A‖. Default 10. */
  readonly iterations?: number
  /** Default 0. */
  readonly seed?: number
  readonly signal?: AbortSignal
}

/** Directions in which an operator is exactly flat. */
export interface FlatDirections {
  /** Filters, each with one direction. */
  readonly count: number
  /** n of the operator, and the share of its eigenvalues that must be 0. */
  readonly size: number
  readonly share: number
  /** Lower bound of ‖A‖ from power iteration. */
  readonly norm: number
  /** ‖A u‖ / ‖A‖ of every tested combination u of null vectors, ‖u‖ = 1. */
  readonly residuals: readonly number[]
  /** The same of a random direction: what a residual would be without flatness. */
  readonly control: number
}

/** Names of the filters that a convolutional network standardises; [] without. */
export function standardizedFilters(model: Model): string[] {
  requireArguments('standardizedFilters()', { model })
  const { filters, ws } = structureOf('standardizedFilters()', model)
  return ws ? filters.map(({ name }) => name) : []
}

/**
 * Tests the exact flat directions of weight standardisation: a standardised filter does not see its
 * mean, so H 1 = 0 for the vector of ones on each filter, whatever epsilon is. A combination of all
 * of them with random signs, Σ ± 1_o / √(I_o O), is sent through the operator: its product vanishes
 * for all signs only if every single one does.
 *
 * Source: the gradient of U = w - mean w; Qiao et al., arXiv 1903.10520.
 *
 * @param operator a curvature operator over all parameters of the model
 * @example
 * const H = hessian(device, model, run.params, set, { state: run.state })
 * const { count, share, residuals } = await flatDirections(H, model)
 *
 * @throws ERR_ARGUMENT for a model without such filters; ERR_SHAPE; ERR_OPERATOR, ERR_ABORTED
 */
export async function flatDirections(
  operator: LinearOperator,
  model: Model,
  options: FlatDirectionsOptions = {},
): Promise<FlatDirections> {
  const where = 'flatDirections()'
  requireArguments(where, { operator, model })
  requireOptions(where, options, ['filters', 'probes', 'iterations', 'seed', 'signal'])
  const { probes = 3, iterations = 10, seed = 0, signal } = options
  for (const [name, value] of Object.entries({ probes, iterations })) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw argumentError(where, name, 'a positive integer', value)
    }
  }
  if (operator.size !== model.size) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `${where} expected an operator over the model's ${model.size} parameters, got ${operator.size}.`,
    )
  }
  const ranges = filterRanges(model, filterNames(model, options.filters))
  const product = async (v: Float64Array): Promise<Float64Array> => {
    throwIfAborted(signal)
    const result = await operator.matvec(v, { signal })
    requireProducts(result, operator.size)
    return Float64Array.from(result)
  }
  const start = unit(normals(seed, stream('probe', 0), 0, operator.size))
  let direction = await product(start)
  const control = length(direction)
  let norm = control
  for (let i = 1; i < iterations && length(direction) > 0; i++) {
    direction = await product(unit(direction))
    norm = Math.max(norm, length(direction))
  }
  const residuals: number[] = []
  for (let p = 0; p < probes; p++) {
    const signs = rademacher(seed, stream('probe', 1 + p), 0, ranges.length)
    const flat = new Float64Array(operator.size)
    for (const [o, { from, size }] of ranges.entries()) {
      flat.fill(signs[o] / Math.sqrt(size * ranges.length), from, from + size)
    }
    residuals.push(length(await product(flat)) / norm)
  }
  const count = ranges.length
  return {
    count,
    size: operator.size,
    share: count / operator.size,
    norm,
    residuals,
    control: control / norm,
  }
}

function filterNames(model: Model, filters: FlatDirectionsOptions['filters']): readonly string[] {
  if (typeof filters === 'string') return model.layout.match(filters)
  if (filters !== undefined && !Array.isArray(filters)) {
    throw argumentError('flatDirections()', 'filters', 'a pattern or a list of names', filters)
  }
  const names = filters ?? standardizedFilters(model)
  if (names.length > 0) return names
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `Model '${model.name}' standardises no filters: there are no flat directions to test.`,
  )
}

/** Where each filter lies in θ. */
function filterRanges(model: Model, names: readonly string[]): { from: number; size: number }[] {
  return names.flatMap((name) => {
    const { offset, size, shape } = model.layout.entry(name)
    const rows = shape[0] ?? 1
    const own = size / rows
    return Array.from({ length: rows }, (_, o) => ({ from: offset + o * own, size: own }))
  })
}

function length(v: Float64Array): number {
  return Math.sqrt(v.reduce((sum, x) => sum + x * x, 0))
}

function unit(v: Float64Array): Float64Array {
  const norm = length(v)
  return v.map((x) => x / norm)
}
