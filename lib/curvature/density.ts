import { LosscapeError } from '../errors.js'
import { erf } from '../ops/erf.js'

/**
 * What stochastic Lanczos quadrature returns: for every probe the Ritz values (nodes) and the
 * squared first components (weights, which sum to 1). Probes may differ in length.
 */
export interface SpectralMeasure {
  nodes: readonly ArrayLike<number>[]
  weights: readonly ArrayLike<number>[]
}

/** A smoothed spectral density on an equally spaced grid. */
export interface Density {
  /** Cell centres, ascending. */
  grid: Float64Array
  /** Mean density over each cell; Σ values · spacing is the mass within the grid. */
  values: Float64Array
  /** Standard deviation of the kernel, in units of the eigenvalue. */
  width: number
}

export interface DensityOptions {
  /** Smoothing convention, default `'cell-erf'`. See {@link densityKernels}. */
  kernel?: string
  /** Number of grid points, default 1024. */
  grid?: number
  /** Ends of the grid; default: extreme nodes of all probes ± 4 widths. */
  range?: readonly [number, number]
  /** Standard deviation of the kernel; default: what the convention says. */
  width?: number
}

/** A smoothing convention: turns nodes and weights into a density. */
export type DensityKernel = (measure: SpectralMeasure, options: DensityOptions) => Density

const kernels: Readonly<Record<string, DensityKernel>> = { 'cell-erf': cellErf }

/** Names that `density` accepts as `kernel`. */
export const densityKernels: readonly string[] = Object.keys(kernels)

/**
 * Smoothed spectral density φ(t) = (1/P) Σ_probes Σ_l ω_l K(t - θ_l).
 *
 * Convention `'cell-erf'` (default): Gaussian kernel of standard deviation
 * max(range / 2m, 4 · spacing), m the longest probe, integrated over each cell with erf (the
 * histogram of the smoothed measure), so the mass is 1 whatever the grid; each kernel is
 * truncated where the default grid ends, 4 widths or more from its centre (6e-5 of it at most).
 * With a `range` of one's own the mass is what lies inside it. When all nodes coincide
 * (to 1e-9) the width is 0.1 % of their magnitude.
 *
 * @throws LosscapeError `ERR_ARGUMENT` for an unknown kernel, an empty range, a width that is not
 * positive or fewer than 64 points; `ERR_SHAPE` and `ERR_NOT_FINITE` for a malformed measure.
 *
 * @example
 * const { grid, values } = density({ nodes: [[0, 1]], weights: [[0.9, 0.1]] })
 */
export function density(measure: SpectralMeasure, options: DensityOptions = {}): Density {
  checkMeasure(measure)
  const name = options.kernel ?? 'cell-erf'
  if (!Object.hasOwn(kernels, name)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `Unknown density kernel '${name}': expected one of ${densityKernels.join(', ')}.`,
    )
  }
  return kernels[name](measure, options)
}

/**
 * Density per symmetric-log coordinate u = sign(t) ln(1 + |t| / c): linear within ±c,
 * logarithmic beyond. Smoothed in u, so that every decade is resolved alike; its mass over u is 1.
 */
export interface SymmetricLogDensity {
  /** Eigenvalues t at the cell centres. */
  grid: Float64Array
  /** Cell centres in u, equally spaced. */
  coordinates: Float64Array
  /** Density with respect to u. */
  values: Float64Array
  /** Standard deviation of the kernel in u. */
  width: number
  /** c. */
  linearThreshold: number
}

/**
 * The density for a symmetric-log axis, by the `'cell-erf'` convention in u.
 *
 * `linearThreshold` (c) defaults to 1e-6 of the largest node magnitude, which is the precision
 * floor of f32 products; `points` defaults to 1024.
 *
 * @throws as {@link density}, and `ERR_ARGUMENT` for a threshold that is not positive.
 */
export function symmetricLogDensity(
  measure: SpectralMeasure,
  options: { linearThreshold?: number; points?: number; width?: number } = {},
): SymmetricLogDensity {
  checkMeasure(measure)
  const c = options.linearThreshold ?? 1e-6 * scaleOf(measure)
  requirePositive('linearThreshold', c)
  const transformed: SpectralMeasure = {
    nodes: measure.nodes.map((row) =>
      Float64Array.from(row, (t) => Math.sign(t) * Math.log1p(Math.abs(t) / c)),
    ),
    weights: measure.weights,
  }
  const smooth = cellErf(transformed, { grid: options.points, width: options.width })
  return {
    grid: smooth.grid.map((u) => Math.sign(u) * c * Math.expm1(Math.abs(u))),
    coordinates: smooth.grid,
    values: smooth.values,
    width: smooth.width,
    linearThreshold: c,
  }
}

/**
 * Fraction of the spectrum that is <= t, for each t: (1/P) Σ ω_l [θ_l <= t]. Needs no kernel,
 * hence the comparison to trust. O((K + M) log M) for K thresholds and M nodes in all.
 */
export function cumulative(measure: SpectralMeasure, t: ArrayLike<number>): Float64Array {
  checkMeasure(measure)
  const { nodes, sums } = sortedMass(measure)
  return Float64Array.from(t, (threshold) => {
    let low = 0
    let high = nodes.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (nodes[middle] <= threshold) low = middle + 1
      else high = middle
    }
    return low === 0 ? 0 : Math.min(sums[low - 1], 1)
  })
}

/**
 * tr f(A) ≈ n · mean over probes of Σ ω_l f(θ_l), with the standard error of that mean over
 * probes (NaN with a single probe, whose error cannot be known). n = 1 gives the mean of f over
 * the spectrum: `functional(measure, (t) => +(t < 0), 1)` is the fraction of negative eigenvalues.
 *
 * Source: Ubaru, Chen, Saad 2017.
 */
export function functional(
  measure: SpectralMeasure,
  f: (t: number) => number,
  n: number,
): { value: number; standardError: number } {
  checkMeasure(measure)
  const perProbe = measure.nodes.map((row, p) => {
    let sum = 0
    for (let l = 0; l < row.length; l++) sum += measure.weights[p][l] * f(row[l])
    return n * sum
  })
  const count = perProbe.length
  const value = perProbe.reduce((sum, x) => sum + x, 0) / count
  const squares = perProbe.reduce((sum, x) => sum + (x - value) ** 2, 0)
  return {
    value,
    standardError: count > 1 ? Math.sqrt(squares / (count - 1) / count) : Number.NaN,
  }
}

/**
 * Wasserstein-1 distance ∫ |F_a(t) - F_b(t)| dt between two measures (F as in
 * {@link cumulative}), in units of the eigenvalue.
 */
export function wasserstein1(a: SpectralMeasure, b: SpectralMeasure): number {
  const points = [...a.nodes, ...b.nodes].flatMap((row) => Array.from(row)).sort((x, y) => x - y)
  const fa = cumulative(a, points)
  const fb = cumulative(b, points)
  let sum = 0
  for (let i = 0; i + 1 < points.length; i++) {
    sum += Math.abs(fa[i] - fb[i]) * (points[i + 1] - points[i])
  }
  return sum
}

/** Largest |node| over all probes. */
export function largestMagnitude(measure: SpectralMeasure): number {
  const [low, high] = extremes(measure)
  return Math.max(Math.abs(low), Math.abs(high))
}

function cellErf(measure: SpectralMeasure, options: DensityOptions): Density {
  const points = options.grid ?? 1024
  if (!Number.isInteger(points) || points < 64) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `A density grid needs an integer of at least 64 points, got ${points}.`,
    )
  }
  const [low, high] = options.range ?? extremes(measure)
  const width = options.width ?? defaultWidth(measure, high - low, points, options.range)
  requirePositive('width', width)
  const margin = options.range ? 0 : 4 * width
  const start = low - margin
  const spacing = (high - low + 2 * margin) / points
  if (!(spacing > 0 && Number.isFinite(spacing))) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `A density range must be two increasing finite numbers, got [${low}, ${high}].`,
    )
  }
  const values = new Float64Array(points)
  const unit = 1 / (measure.nodes.length * spacing)
  measure.nodes.forEach((row, p) => {
    for (let l = 0; l < row.length; l++) {
      const at = (row[l] - start) / spacing
      addCells(values, at, width / spacing, measure.weights[p][l] * unit, !options.range)
    }
  })
  return { grid: values.map((_, i) => start + (i + 0.5) * spacing), values, width }
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
  const steps = Math.max(...measure.nodes.map((row) => row.length))
  return Math.max(range / (2 * steps), (4 * range) / (fixed ? points : points - 32))
}

/** Largest |node|, or 1 for an operator that is zero to all purposes. */
function scaleOf(measure: SpectralMeasure): number {
  const magnitude = largestMagnitude(measure)
  return magnitude > 1e-290 ? magnitude : 1
}

function extremes(measure: SpectralMeasure): [number, number] {
  let low = Number.POSITIVE_INFINITY
  let high = Number.NEGATIVE_INFINITY
  for (const row of measure.nodes) {
    for (let l = 0; l < row.length; l++) {
      low = Math.min(low, row[l])
      high = Math.max(high, row[l])
    }
  }
  return [low, high]
}

/** All nodes ascending with the running sum of their weights over the number of probes. */
function sortedMass(measure: SpectralMeasure) {
  const all: [number, number][] = []
  measure.nodes.forEach((row, p) => {
    for (let l = 0; l < row.length; l++) all.push([row[l], measure.weights[p][l]])
  })
  all.sort((x, y) => x[0] - y[0])
  let sum = 0
  const sums = Float64Array.from(all, ([, weight]) => {
    sum += weight
    return sum / measure.nodes.length
  })
  return { nodes: Float64Array.from(all, ([node]) => node), sums }
}

function checkMeasure({ nodes, weights }: SpectralMeasure): void {
  if (nodes.length === 0 || nodes.length !== weights.length) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `A spectral measure needs nodes and weights of the same number (> 0) of probes, got ${nodes.length} and ${weights.length}.`,
    )
  }
  nodes.forEach((row, p) => {
    if (row.length === 0 || row.length !== weights[p].length) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `Probe ${p} needs equally many (> 0) nodes and weights, got ${row.length} and ${weights[p].length}.`,
      )
    }
    for (let l = 0; l < row.length; l++) {
      if (!Number.isFinite(row[l]) || !Number.isFinite(weights[p][l])) {
        throw new LosscapeError(
          'ERR_NOT_FINITE',
          `Node ${l} of probe ${p} is ${row[l]} with weight ${weights[p][l]}: both must be finite.`,
        )
      }
    }
  })
}

function requirePositive(name: string, value: number): void {
  if (!(value > 0 && Number.isFinite(value))) {
    throw new LosscapeError('ERR_ARGUMENT', `${name} must be positive and finite, got ${value}.`)
  }
}
