import { pcaPlane } from '../../analysis/pca-plane.js'
import { lossSurface } from '../../analysis/surface.js'
import { lanczos } from '../../curvature/lanczos.js'
import { hessian } from '../../curvature/network.js'
import { slq } from '../../curvature/slq.js'
import { take } from '../../data/select.js'
import type { FloatVector } from '../../nn/layout.js'
import type { Model } from '../../nn/model.js'
import type { SurfaceResult } from '../../report/analyses.js'
import { type Context, type Sets, short } from './network.js'

/** The loss around the end of a training. */
export interface Landscape {
  readonly surface: Omit<SurfaceResult, 'histograms' | 'time_ms' | 'device'>
  /** Largest eigenvalues of the Hessian, descending, and its spectral measure. */
  readonly eigenvalues: readonly number[]
  readonly nodes: readonly (readonly number[])[]
  readonly weights: readonly (readonly number[])[]
}

/** Surface on the plane of the checkpoints, and the Hessian at the end. */
export async function landscapeOf(
  context: Context,
  model: Model,
  { checkpoints, params }: { checkpoints: readonly FloatVector[]; params: FloatVector },
  { set, test }: Sets,
): Promise<Landscape> {
  const { device, settings, seed, signal, onProgress } = context
  const { grid, surfaceSamples, hessianSamples, eigenvalues, quadrature } = settings.analysis
  const first = (n: number, most: number) => Array.from({ length: Math.min(n, most) }, (_, i) => i)
  // The last checkpoint of an epoch is the end itself.
  const ended = checkpoints[checkpoints.length - 1].every((x, i) => x === params[i])
  const vectors = ended ? checkpoints : [...checkpoints, params]
  const plane = await pcaPlane(vectors, { signal })
  const few = take(test, first(surfaceSamples, test.size))
  const surface = await lossSurface(device, model, plane, few, {
    grid,
    signal,
    onProgress: (done, total) => onProgress(0.6 + (0.2 * done) / total, 'surface'),
  })
  const rows = <T>(of: (at: number) => T): T[][] =>
    Array.from({ length: grid }, (_, j) => Array.from({ length: grid }, (_, i) => of(j * grid + i)))
  const orNull = (x: number) => (Number.isFinite(x) ? short(x) : null)
  const seen = take(set, first(hessianSamples, set.size))
  const operator = hessian(device, model, params, seen, { batch: hessianSamples })
  try {
    onProgress(0.8, 'eigenvalues')
    const top = await lanczos(operator, { k: eigenvalues, tol: 1e-3, seed, signal })
    onProgress(0.9, 'density')
    const { nodes, weights } = await slq(operator, { ...quadrature, seed, signal })
    const { accuracy } = surface
    return {
      surface: {
        n: model.size,
        samples: few.size,
        split: 'test',
        x: Array.from(surface.x, short),
        y: Array.from(surface.y, short),
        loss: rows((at) => orNull(surface.loss[at])),
        accuracy: accuracy && rows((at) => short(accuracy[at])),
        explained: Array.from(plane.explained, short),
        path: plane.path.map(({ x, y }, step) => ({ step, x: short(x), y: short(y) })),
        roughness: {
          index: orNull(surface.roughness.index),
          extrema: orNull(surface.roughness.extrema),
          triples: surface.roughness.triples,
        },
        dtype: 'f32',
      },
      eigenvalues: Array.from(top.values, short),
      nodes: nodes.map((row) => Array.from(row, short)),
      weights: weights.map((row) => Array.from(row, short)),
    }
  } finally {
    operator.dispose()
  }
}
