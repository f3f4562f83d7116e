import { argumentError } from '../../arguments.js'
import { LosscapeError } from '../../errors.js'
import { requireOptions } from '../../options.js'
import { evaluate, trace } from '../../program/index.js'
import type { Shape } from '../../program/types.js'
import type { FloatVector } from '../layout.js'
import type { Model } from '../model.js'
import { gainName, standardizeFilters } from './standardize.js'
import { type Structure, structureOf } from './structure.js'

export interface FoldOptions {
  /** Batch norms with frozen statistics go into the convolutions too. Default false. */
  readonly norms?: boolean
}

/** A network for prediction, with its own parameters and state. */
export interface Folded {
  readonly model: Model
  readonly params: Float64Array
  readonly state: Float64Array
}

/**
 * Plain convolutions in place of standardised ones, which compute the same function: W becomes
 *
 *     gain U / sigma                                                  standardised
 *     W scale / sqrt(variance + eps), b + shift - mean scale / ..     with `norms: true`, of batch norm
 *
 * for deployment: training cannot go on from the result as if it had not been folded.
 *
 * @throws ERR_ARGUMENT for a model that is no convolutional network of this package, for one with
 * neither standardisation nor norms to fold, and with `norms` for other norms than 'bn' (statistics
 * of samples cannot be folded) and pre-activation; ERR_SHAPE; ERR_NOT_FINITE naming the tensor with a
 * NaN or infinity; ERR_RANGE for a negative variance
 *
 * @example
 * const { model: plain, params, state } = fold(model, run.params, run.state)
 */
export function fold(
  model: Model,
  params: FloatVector,
  state: FloatVector,
  options: FoldOptions = {},
): Folded {
  requireOptions('fold()', options, ['norms'])
  const { norms = false } = options
  const structure = structureOf('fold()', model)
  for (const [name, vector, layout] of [
    ['params', params, model.layout],
    ['state', state, model.stateLayout],
  ] as const) {
    if (!ArrayBuffer.isView(vector)) throw argumentError('fold()', name, 'a vector', vector)
    layout.requireLength(vector.length)
    layout.requireFinite(vector, 'f64')
  }
  const { ws, rebuild } = structure
  if (!ws && !norms) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `fold() found no weight standardisation in '${model.name}'; norms: true folds batch norms.`,
    )
  }
  if (norms) requireFoldable(model, structure)
  const values = new Map<string, Float64Array>()
  for (const { name } of model.layout.entries) {
    values.set(name, Float64Array.from(model.layout.view(params, name)))
  }
  if (ws) standardize(model, structure, values)
  if (norms) foldNorms(model, structure, values, state)
  const plain = rebuild(norms ? { norm: 'none', ws: false } : { ws: false })
  // Without norms the layers of vgg have other numbers.
  const old = new Map<string, string>()
  for (const [i, { name }] of structureOf('fold()', plain).filters.entries()) {
    const before = structure.filters[i].name
    for (const part of ['weight', 'bias']) {
      old.set(name.replace(/weight$/, part), before.replace(/weight$/, part))
    }
  }
  const folded = new Float64Array(plain.size)
  for (const { name, offset } of plain.layout.entries) {
    folded.set(values.get(old.get(name) ?? name) as Float64Array, offset)
  }
  return {
    model: plain,
    params: folded,
    state: norms ? plain.initState() : Float64Array.from(state),
  }
}

function requireFoldable(model: Model, { norm, filters }: Structure): void {
  const refuse = (why: string): never => {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `fold() cannot fold the norms of '${model.name}': ${why}.`,
    )
  }
  if (norm.kind !== 'bn') {
    refuse(`only batch norm is one affine map for all samples, these are '${norm.kind}'`)
  }
  if (filters.some((filter) => filter.norm === undefined)) {
    refuse('pre-activation norms stand before convolutions, behind sums')
  }
}

/** Filters as they are used, in float64. */
function standardize(
  model: Model,
  { filters, ws }: Structure,
  values: Map<string, Float64Array>,
): void {
  if (!ws) return
  const names = filters.flatMap(({ name }) => (ws.gain ? [name, gainName(name)] : [name]))
  const shapes: Shape[] = names.map((name) => model.layout.entry(name).shape)
  const program = trace((...tensors) => {
    const own = Object.fromEntries(names.map((name, i) => [name, tensors[i]]))
    const weights = standardizeFilters(own, filters, ws)
    return filters.map(({ name }) => weights[name])
  }, shapes)
  const results = evaluate(
    program,
    names.map((name) => values.get(name) as Float64Array),
  )
  for (const [i, { name }] of filters.entries()) values.set(name, results[i] as Float64Array)
}

/** W' = W a, b' = b a + shift - mean a with a = scale / sqrt(variance + eps). */
function foldNorms(
  model: Model,
  { filters, norm }: Structure,
  values: Map<string, Float64Array>,
  state: FloatVector,
): void {
  for (const { name, norm: at, bias } of filters) {
    const weight = values.get(name) as Float64Array
    const [scale, shift] = ['weight', 'bias'].map((k) => values.get(`${at}.${k}`) as Float64Array)
    const [mean, variance] = ['running_mean', 'running_var'].map((k) =>
      model.stateLayout.view(state, `${at}.${k}`),
    )
    const negative = variance.findIndex((v) => v < 0)
    if (negative >= 0) {
      throw new LosscapeError(
        'ERR_RANGE',
        `fold() expected variances of at least 0, got ${variance[negative]} at element ${negative} of '${at}.running_var'.`,
      )
    }
    const key = name.replace(/weight$/, 'bias')
    const before = bias ? (values.get(key) as Float64Array) : new Float64Array(scale.length)
    const after = new Float64Array(scale.length)
    const size = weight.length / scale.length
    for (let o = 0; o < scale.length; o++) {
      const a = scale[o] / Math.sqrt(variance[o] + norm.epsilon)
      after[o] = (before[o] - mean[o]) * a + shift[o]
      for (let j = o * size; j < (o + 1) * size; j++) weight[j] *= a
    }
    values.set(key, after)
  }
}
