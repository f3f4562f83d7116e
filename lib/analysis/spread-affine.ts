import { argumentError, requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import type { Model } from '../nn/model.js'
import { requireOptions } from '../options.js'
import { normals, stream } from '../random/index.js'

export interface SpreadAffineOptions {
  /** Deviation of the scales γ around what they are. Default 0. */
  readonly scale?: number
  /** Deviation of the shifts β. Default 0. */
  readonly shift?: number
  /** Norms by the names of their scales, a pattern: `layer1.*`. Default: all norms. */
  readonly params?: string
  /** Default 0. */
  readonly seed?: number
}

/**
 * Start parameters with the affine parts of the norms spread: γ' = γ + scale z, β' = β + shift z
 * with z ~ N(0, 1) for each channel. A way to start a network nearer to elimination than norms do:
 * channels with β / |γ| far below 0 are off from the beginning.
 *
 * A norm is a vector `NAME.weight` that begins as ones or zeros beside a `NAME.bias` of its size.
 *
 * Source: after Qiao et al., arXiv 1911.09738.
 *
 * @returns a copy
 * @throws ERR_ARGUMENT for a model without norms, or a pattern that names none; ERR_SHAPE
 *
 * @example
 * const start = spreadAffine(model, model.init(1), { scale: 0.5, shift: 1 })
 * await train(device, model, set, { optimizer, params: start })
 */
export function spreadAffine(
  model: Model,
  params: ArrayLike<number>,
  options: SpreadAffineOptions = {},
): Float64Array {
  const where = 'spreadAffine()'
  requireArguments(where, { model, params })
  requireOptions(where, options, ['scale', 'shift', 'params', 'seed'])
  const { scale = 0, shift = 0, seed = 0 } = options
  for (const [name, value] of Object.entries({ scale, shift })) {
    if (!(Number.isFinite(value) && value >= 0)) {
      throw argumentError(where, name, 'a deviation of at least 0', value)
    }
  }
  model.layout.requireLength(params.length)
  const out = Float64Array.from(params)
  const wanted = options.params === undefined ? null : new Set(model.layout.match(options.params))
  const norms = normNames(model).filter((name) => wanted === null || wanted.has(`${name}.weight`))
  if (norms.length === 0) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${where} found no norm with scale and shift in model '${model.name}'` +
        `${options.params === undefined ? '' : ` among '${options.params}'`}.`,
    )
  }
  for (const name of norms) {
    for (const [part, deviation] of [
      ['weight', scale],
      ['bias', shift],
    ] as const) {
      const { offset, size } = model.layout.entry(`${name}.${part}`)
      // By its place in θ, so that a choice of norms does not change the numbers of the others.
      const z = normals(seed, stream('init', 1), offset, size)
      for (let i = 0; i < size; i++) out[offset + i] += deviation * z[i]
    }
  }
  return out
}

function normNames({ parameters }: Model): string[] {
  const byName = new Map(parameters.map((parameter) => [parameter.name, parameter]))
  return parameters.flatMap(({ name, shape, init }) => {
    const constant = init.kind === 'ones' || init.kind === 'zeros'
    if (!name.endsWith('.weight') || shape.length !== 1 || !constant) return []
    const prefix = name.slice(0, -'.weight'.length)
    const bias = byName.get(`${prefix}.bias`)
    return bias?.shape.join() === shape.join() ? [prefix] : []
  })
}
