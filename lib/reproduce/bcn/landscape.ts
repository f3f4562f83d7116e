import { type FlatDirections, flatDirections } from '../../analysis/flat-directions.js'
import { layerRatios } from '../../analysis/standardization-ratios.js'
import { lanczos } from '../../curvature/lanczos.js'
import { hessian } from '../../curvature/network.js'
import { slq } from '../../curvature/slq.js'
import type { Model } from '../../nn/model.js'
import type { TrainResult } from '../../train/train.js'
import { type Context, first, type Sets, short } from './network.js'

/** The loss at the end of a training, with frozen statistics. */
export interface Landscape {
  /** Largest eigenvalues of the Hessian, descending, and its spectral measure. */
  readonly eigenvalues: readonly number[]
  readonly nodes: readonly (readonly number[])[]
  readonly weights: readonly (readonly number[])[]
  /** Of networks with weight standardisation. */
  readonly flat:
    | (Pick<FlatDirections, 'count' | 'share' | 'control'> & { readonly residual: number })
    | null
  /** Means over the layers of what standardisation takes from the squared gradient. */
  readonly ratios: { readonly centering: number; readonly scaling: number } | null
}

export async function landscapeOf(
  { device, settings, seed, signal, onProgress }: Context,
  model: Model,
  { params, state }: Pick<TrainResult, 'params' | 'state'>,
  { set }: Sets,
): Promise<Landscape> {
  const { hessianSamples, eigenvalues, quadrature, flatProbes } = settings.analysis
  const seen = first(set, hessianSamples)
  const statistics = 'frozen'
  const operator = hessian(device, model, params, seen, {
    batch: hessianSamples,
    statistics,
    state,
  })
  const standardized = (model.config as { ws?: unknown }).ws !== false
  try {
    onProgress(0.83, 'eigenvalues')
    const top = await lanczos(operator, { k: eigenvalues, tol: 1e-2, seed, signal })
    onProgress(0.9, 'density')
    const { nodes, weights } = await slq(operator, { ...quadrature, seed, signal })
    onProgress(0.97, 'flat directions')
    const flat = standardized
      ? await flatDirections(operator, model, { probes: flatProbes, seed, signal })
      : null
    const layers = standardized
      ? await layerRatios(device, model, { params, state }, seen, {
          statistics,
          batch: hessianSamples,
          signal,
        })
      : null
    const mean = (values: readonly number[]) =>
      short(values.reduce((sum, x) => sum + x, 0) / values.length)
    return {
      eigenvalues: Array.from(top.values, short),
      nodes: nodes.map((row) => Array.from(row, short)),
      weights: weights.map((row) => Array.from(row, short)),
      flat: flat && {
        count: flat.count,
        share: short(flat.share),
        control: short(flat.control),
        residual: short(Math.max(...flat.residuals)),
      },
      ratios: layers && {
        centering: mean(layers.map(({ centering }) => centering)),
        scaling: mean(layers.map(({ scaling }) => scaling)),
      },
    }
  } finally {
    operator.dispose()
  }
}
