import type { NpyArray } from '../data/npy.js'
import type { AttentionResult, SurfaceResult } from './analyses.js'
import type { SpectrumResult } from './data.js'

/**
 * The arrays of a spectrum for other tools, by file name: `density-grid`, `density-values`,
 * `nodes` and `weights` [probes, steps] (short probes padded with NaN and 0), `eigenvalues` and
 * `residuals` [top..., bottom...].
 */
export function spectrumArrays(spectrum: SpectrumResult): Record<string, NpyArray> {
  return {
    'density-grid': vector(spectrum.density.grid),
    'density-values': vector(spectrum.density.values),
    nodes: matrix(spectrum.nodes, Number.NaN),
    weights: matrix(spectrum.weights, 0),
    eigenvalues: vector([...spectrum.eigenvalues.top, ...spectrum.eigenvalues.bottom]),
    residuals: vector([...spectrum.residuals.top, ...spectrum.residuals.bottom]),
  }
}

/**
 * The arrays of a loss surface: `surface-x`, `surface-y`, `surface-loss` [y, x], `surface-accuracy`
 * [y, x] for classifiers, `surface-path` [points, 3] of step, x and y, `surface-explained`.
 */
export function surfaceArrays(surface: SurfaceResult): Record<string, NpyArray> {
  return {
    'surface-x': vector(surface.x),
    'surface-y': vector(surface.y),
    'surface-loss': matrix(surface.loss, Number.NaN),
    ...(surface.accuracy && { 'surface-accuracy': matrix(surface.accuracy, Number.NaN) }),
    'surface-path': matrix(
      surface.path.map(({ step, x, y }) => [step, x, y]),
      Number.NaN,
    ),
    'surface-explained': vector(surface.explained),
  }
}

/**
 * The arrays of an attention analysis: `attention-scores-I` and `attention-weights-I` [3, N], the
 * logarithms of smallest, mean and largest singular values of block I, and `attention-maps`
 * [images, heads, patches].
 */
export function attentionArrays({ spectra, maps }: AttentionResult): Record<string, NpyArray> {
  const arrays: Record<string, NpyArray> = {}
  for (const { block, scores, weights } of spectra) {
    for (const [name, { min, mean, max }] of Object.entries({ scores, weights })) {
      arrays[`attention-${name}-${block}`] = matrix([min, mean, max], Number.NaN)
    }
  }
  if (maps.length > 0) {
    const { shape, data } = matrix(
      maps.flatMap(({ heads }) => heads),
      Number.NaN,
    )
    arrays['attention-maps'] = { shape: [maps.length, shape[0] / maps.length, shape[1]], data }
  }
  return arrays
}

function vector(values: readonly (number | null)[]): NpyArray {
  return { shape: [values.length], data: Float64Array.from(values, (x) => x ?? Number.NaN) }
}

function matrix(rows: readonly (readonly (number | null)[])[], padding: number): NpyArray {
  const columns = Math.max(0, ...rows.map((row) => row.length))
  const data = new Float64Array(rows.length * columns).fill(padding)
  rows.forEach((row, i) => {
    data.set(
      row.map((x) => x ?? Number.NaN),
      i * columns,
    )
  })
  return { shape: [rows.length, columns], data }
}
