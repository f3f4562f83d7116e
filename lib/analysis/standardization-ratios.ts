import { argumentError, isVector, requireArguments } from '../arguments.js'
import type { DataSet } from '../data/dataset.js'
import type { Device } from '../device/device.js'
import { LosscapeError } from '../errors.js'
import { fold } from '../nn/convnet/fold.js'
import type { Model } from '../nn/model.js'
import { requireOptions } from '../options.js'
import { standardizedFilters } from './flat-directions.js'
import { GRADIENT_OPTIONS, type GradientOptions, LossGradient } from './loss-gradient.js'

/** Shares of the gradient's squared norm that weight standardisation takes away. */
export interface StandardizationRatios {
  /** By the centring: Σ_o I mean(P_o)² / Σ_o ‖P_o‖². */
  readonly centering: number
  /** By the scaling: Σ_o ⟨P_o, U_o⟩² / ‖U_o‖² / Σ_o ‖P_o‖². */
  readonly scaling: number
}

/** A layer's filters. */
export interface LayerRatios extends StandardizationRatios {
  /** `layer1.0.conv1.weight` */
  readonly name: string
}

/**
 * With P the gradient in the standardised filters, Ŵ = r U and epsilon 0, the gradient in W is
 *
 *     ‖dW‖² = r² ( ‖P‖² - I mean(P)² - ⟨P, U⟩² / ‖U‖² )
 *
 * per filter: two terms that are never negative, by which the Lipschitz constant of the loss shrinks
 * beside optimising Ŵ itself. This gives both as shares of ‖P‖², summed over a bank of filters; NaN
 * where the gradient is zero.
 *
 * Source: Qiao et al., arXiv 1903.10520, section on the Lipschitz constants.
 *
 * @param weights W [O, I], flat
 * @param gradient P [O, I], flat
 * @throws ERR_ARGUMENT, ERR_SHAPE
 */
export function standardizationRatios(
  weights: ArrayLike<number>,
  gradient: ArrayLike<number>,
  filters: number,
): StandardizationRatios {
  const where = 'standardizationRatios()'
  for (const [name, list] of Object.entries({ weights, gradient })) {
    if (!isVector(list)) throw argumentError(where, name, 'an array of numbers', list)
  }
  if (!Number.isSafeInteger(filters) || filters < 1) {
    throw argumentError(where, 'filters', 'a positive integer', filters)
  }
  const size = weights.length / filters
  if (gradient.length !== weights.length || !Number.isInteger(size) || size < 2) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `${where} expected ${filters} filters of two weights or more and their gradient, got ` +
        `${weights.length} weights and ${gradient.length} numbers of the gradient.`,
    )
  }
  let [total, centering, scaling] = [0, 0, 0]
  for (let o = 0; o < filters; o++) {
    const row = Array.from({ length: size }, (_, i) => o * size + i)
    const sum = (f: (i: number) => number) => row.reduce((s, i) => s + f(i), 0)
    const mean = sum((i) => weights[i]) / size
    const along = sum((i) => gradient[i] * (weights[i] - mean))
    const spread = sum((i) => (weights[i] - mean) ** 2)
    total += sum((i) => gradient[i] ** 2)
    centering += sum((i) => gradient[i]) ** 2 / size
    scaling += spread > 0 ? along ** 2 / spread : 0
  }
  return { centering: centering / total, scaling: scaling / total }
}

/**
 * {@link standardizationRatios} of every standardised layer of a network, with the gradient of the
 * mean loss over a set: that of the folded network, whose filters are the standardised ones.
 *
 * @throws ERR_ARGUMENT for a network without weight standardisation; ERR_SHAPE, ERR_ABORTED
 *
 * @example
 * const layers = await layerRatios(device, model, run, set)
 * layers.map(({ name, centering }) => `${name}: ${(100 * centering).toFixed(1)} %`)
 */
export async function layerRatios(
  device: Device,
  model: Model,
  point: { readonly params: ArrayLike<number>; readonly state?: ArrayLike<number> },
  set: DataSet,
  options: GradientOptions & { readonly signal?: AbortSignal } = {},
): Promise<LayerRatios[]> {
  const where = 'layerRatios()'
  requireArguments(where, { device, model, set, params: point?.params })
  requireOptions(where, options, [...GRADIENT_OPTIONS, 'signal'])
  const names = standardizedFilters(model)
  const params = Float64Array.from(point.params)
  const folded = fold(model, params, Float64Array.from(point.state ?? model.initState()))
  const gradient = new LossGradient(device, folded.model, set, options)
  try {
    const { gradient: g } = await gradient.at(folded.params, folded.state, options.signal)
    return names.map((name) => {
      const { shape } = model.layout.entry(name)
      const own = folded.model.layout.view(g, name)
      return { name, ...standardizationRatios(model.layout.view(params, name), own, shape[0]) }
    })
  } finally {
    gradient.dispose()
  }
}
