import { newArray } from '../allocation.js'
import { LosscapeError } from '../errors.js'
import { erf } from '../ops/erf.js'
import { extremes, largestMagnitude, longestProbe, type SpectralMeasure } from './measure.js'

/** Nodes and weights turned into a density; see {@link density} for the conventions. */
export interface Smoothed {
  grid: Float64Array
  values: Float64Array
  width: number
}

/** Convention 'ours': Gaussians integrated over cells. `range` and `width` are valid if given. */
export function cellErf(
  measure: SpectralMeasure,
  options: { points: number; range?: readonly [number, number]; width?: number },
): Smoothed {
  const { points } = options
  const [low, high] = options.range ?? extremes(measure)
  const width = options.width ?? defaultWidth(measure, high - low, points, options.range)
  const margin = options.range ? 0 : 4 * width
  const start = low - margin
  const spacing = (high - low + 2 * margin) / points
  if (!(spacing > 0 && Number.isFinite(spacing))) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `The nodes from ${low} to ${high} have no range that a density can be drawn on.`,
    )
  }
  const values = newArray(Float64Array, points, 'The density')
  const unit = 1 / (measure.nodes.length * spacing)
  measure.nodes.forEach((row, p) => {
    for (let l = 0; l < row.length; l++) {
      const at = (row[l] - start) / spacing
      addCells(values, at, width / spacing, measure.weights[p][l] * unit, !options.range)
    }
  })
  return { grid: values.map((_, i) => start + (i + 0.5) * spacing), values, width }
}

/** Convention 'google': variance s2 · max(1, range), ends from the mean extremes of the probes. */
export function google(measure: SpectralMeasure, points: number, sigmaSquared: number): Smoothed {
  const ends = measure.nodes.map((row) => extremes({ nodes: [row], weights: [] }))
  const low = mean(ends.map(([end]) => end)) - 0.01
  const high = mean(ends.map(([, end]) => end)) + 0.01
  const width = Math.sqrt(sigmaSquared * Math.max(1, high - low))
  const grid = linearGrid(low, high, points)
  const values = gaussians(measure, grid, width)
  const integral = values.reduce((sum, x) => sum + x, 0) * (grid[1] - grid[0])
  if (!(integral > 0)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `No grid point is near a node: with convention 'google' take more than ${points} points.`,
    )
  }
  return { grid, values: values.map((x) => x / integral), width }
}

/** Convention 'papyan': smoothed on [-1, 1]. */
export function papyan(measure: SpectralMeasure, points: number, kappa: number): Smoothed {
  const [low, high] = widened(measure, 0.05)
  const centre = (low + high) / 2
  const half = (high - low) / 2
  const gaps = Math.max(1, longestProbe(measure) - 1)
  const width = 2 / (gaps * Math.sqrt(8 * Math.log(kappa)))
  const grid = linearGrid(-1, 1, points)
  const mapped = mapNodes(measure, (t) => (t - centre) / half)
  return {
    grid: grid.map((t) => t * half + centre),
    values: gaussians(mapped, grid, width).map((x) => x / half),
    width: width * half,
  }
}

/** Convention 'papyan-log': the same of ln(|λ| + ε). */
export function papyanLog(
  measure: SpectralMeasure,
  points: number,
  kappa: number,
  epsilon: number,
): Smoothed {
  const logarithms = mapNodes(measure, (t) => Math.log(Math.abs(t) + epsilon))
  return papyan(logarithms, points, kappa)
}

/** Convention 'rule-of-thumb': deviation range / m, 10 % of padding. */
export function ruleOfThumb(measure: SpectralMeasure, points: number): Smoothed {
  const [low, high] = widened(measure, 0)
  const width = (high - low) / longestProbe(measure)
  const padding = 0.1 * (high - low)
  const grid = linearGrid(low - padding, high + padding, points)
  return { grid, values: gaussians(measure, grid, width), width }
}

/** (1/P) Σ ω_l N(t; θ_l, width²) at every point of an ascending, equally spaced grid. */
function gaussians(measure: SpectralMeasure, grid: Float64Array, width: number): Float64Array {
  const values = new Float64Array(grid.length)
  const spacing = grid[1] - grid[0]
  const height = 1 / (width * Math.sqrt(2 * Math.PI) * measure.nodes.length)
  // Beyond 38.6 deviations a Gaussian is zero in double precision.
  const reach = 39 * width
  measure.nodes.forEach((row, p) => {
    for (let l = 0; l < row.length; l++) {
      const first = Math.max(0, Math.floor((row[l] - reach - grid[0]) / spacing))
      const end = Math.min(grid.length, Math.ceil((row[l] + reach - grid[0]) / spacing) + 1)
      const scale = height * measure.weights[p][l]
      for (let i = first; i < end; i++) {
        const z = (grid[i] - row[l]) / width
        values[i] += scale * Math.exp(-0.5 * z * z)
      }
    }
  })
  return values
}

/** Points from `low` to `high`, both included. */
function linearGrid(low: number, high: number, points: number): Float64Array {
  const spacing = (high - low) / (points - 1)
  return newArray(Float64Array, points, 'The grid').map((_, i) => low + i * spacing)
}

/** The extreme nodes, or 0.1 % of their magnitude where they coincide, with a margin. */
function widened(measure: SpectralMeasure, margin: number): [number, number] {
  const [low, high] = extremes(measure)
  const scale = scaleOf(measure)
  const missing = high - low <= 1e-9 * scale ? 0.5e-3 * scale : 0
  const padding = margin * (high - low + 2 * missing) + missing
  return [low - padding, high + padding]
}

function mapNodes(measure: SpectralMeasure, map: (t: number) => number): SpectralMeasure {
  return {
    nodes: measure.nodes.map((row) => Float64Array.from(row, map)),
    weights: measure.weights,
  }
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, x) => sum + x, 0) / values.length
}

/**
 * Adds one Gaussian with centre and deviation in units of cells; with `whole` the mass is what
 * falls into the grid.
 */
function addCells(values: Float64Array, at: number, std: number, mass: number, whole: boolean) {
  // 8.5 deviations: beyond them erf is 1 to double precision.
  const reach = 8.5 * std
  const first = Math.max(0, Math.floor(at - reach))
  const end = Math.min(values.length, Math.ceil(at + reach))
  if (first >= end) return
  const below = (edge: number) => 0.5 * (1 + erf((edge - at) / (std * Math.SQRT2)))
  const scale = whole ? mass / (below(values.length) - below(0)) : mass
  let left = below(first)
  for (let i = first; i < end; i++) {
    const right = below(i + 1)
    values[i] += scale * (right - left)
    left = right
  }
}

/**
 * max(range / 2m, 4 · spacing), where the spacing itself contains the margin of 4 widths on
 * either side: 4 (R + 8 s) / points <= s is s >= 4 R / (points - 32).
 */
function defaultWidth(
  measure: SpectralMeasure,
  range: number,
  points: number,
  fixed: readonly [number, number] | undefined,
): number {
  const scale = scaleOf(measure)
  if (range <= 1e-9 * scale) return 1e-3 * scale
  return Math.max(range / (2 * longestProbe(measure)), (4 * range) / (fixed ? points : points - 32))
}

/** Largest |node|, or 1 for an operator that is zero to all purposes. */
function scaleOf(measure: SpectralMeasure): number {
  const magnitude = largestMagnitude(measure)
  return magnitude > 1e-290 ? magnitude : 1
}
