import type { NpyArray } from '../data/npy.js'
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
