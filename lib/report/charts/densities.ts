import { symmetricLogDensity } from '../../curvature/density.js'
import { largestMagnitude, type SpectralMeasure } from '../../curvature/measure.js'

/** A spectrum among others in one figure. */
export interface NamedSpectrum {
  readonly name: string
  /** n */
  readonly size: number
  readonly measure: SpectralMeasure
}

/** Densities of several spectra on one symmetric-log axis. */
export interface SharedDensities {
  /** c of the axis. */
  readonly threshold: number
  /** Ends of the axis. */
  readonly domain: readonly [number, number]
  /** Eigenvalues per decade. */
  readonly rows: readonly {
    readonly name: string
    readonly grid: Float64Array
    readonly counts: Float64Array
  }[]
  readonly peak: number
}

/** Smallest share of the largest |λ| that the axis resolves. */
const LINEAR = 1e-6

/** Common axis and smoothed eigenvalues per decade; spectra without a finite node are left out. */
export function sharedDensities(spectra: readonly NamedSpectrum[]): SharedDensities | undefined {
  const usable = spectra.filter(
    ({ measure }) =>
      measure.nodes.length > 0 &&
      measure.nodes.every((row) => row.length > 0 && Array.from(row).every(Number.isFinite)),
  )
  if (usable.length === 0) return undefined
  const radius = Math.max(...usable.map(({ measure }) => largestMagnitude(measure)))
  const threshold = LINEAR * radius || LINEAR
  const rows = usable.map(({ name, size, measure }) => {
    const smooth = symmetricLogDensity(measure, { linearThreshold: threshold, points: 320 })
    const counts = smooth.values.map((x) => x * size * Math.LN10)
    return { name, grid: smooth.grid, counts }
  })
  return {
    threshold,
    domain: [
      Math.min(...rows.map(({ grid }) => grid[0])),
      Math.max(...rows.map(({ grid }) => grid[grid.length - 1])),
    ],
    rows,
    peak: Math.max(...rows.map(({ counts }) => Math.max(...counts))),
  }
}
