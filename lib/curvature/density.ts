import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import { checkMeasure, largestMagnitude, type SpectralMeasure } from './measure.js'
import { oneOf } from './operator.js'
import { cellErf, google, papyan, papyanLog, ruleOfThumb } from './smoothing.js'

/** A smoothing convention, see {@link density}. */
export type DensityConvention = 'ours' | 'google' | 'papyan' | 'papyan-log' | 'rule-of-thumb'

/** A smoothed spectral density on an equally spaced grid. */
export interface Density {
  /**
   * Where the values are, ascending: cell centres with 'ours', points that include both ends with
   * the others. With 'papyan-log' the coordinate is ln(|λ| + ε).
   */
  grid: Float64Array
  /**
   * Density with respect to the grid's coordinate. With 'ours' the mean over each cell, so
   * Σ values · spacing is the mass within the grid.
   */
  values: Float64Array
  /** Standard deviation of the kernel, in units of the grid's coordinate. */
  width: number
}

export interface DensityOptions {
  /** Default 'ours'. */
  readonly convention?: DensityConvention
  /** Number of grid points, default 1024; 10 000 for 'google' and 'rule-of-thumb'. */
  readonly grid?: number
  /** 'ours': ends of the grid; default the extreme nodes of all probes ± 4 widths. */
  readonly range?: readonly [number, number]
  /** 'ours': standard deviation of the kernel; default max(range / 2m, 4 · spacing). */
  readonly width?: number
  /** 'google': s2, variance of the kernel per unit of max(1, range). Default 1e-5. */
  readonly sigmaSquared?: number
  /**
   * 'papyan', 'papyan-log': κ > 1, how deep the dip between two kernels 2/(m - 1) apart is; their
   * deviation is 2 / ((m - 1) √(8 ln κ)). Default 3 (the DeepnetHessian code has 1.25), and 1.04
   * for 'papyan-log' (3 in the caching class of curvlinops).
   */
  readonly kappa?: number
  /** 'papyan-log': ε of ln(|λ| + ε). Default 1e-5. */
  readonly epsilon?: number
}

/** Names of {@link DensityConvention}. */
export const DENSITY_CONVENTIONS = [
  'ours',
  'google',
  'papyan',
  'papyan-log',
  'rule-of-thumb',
] as const satisfies readonly DensityConvention[]

/** The options that only some conventions have. */
const OWN: Readonly<Record<DensityConvention, readonly (keyof DensityOptions)[]>> = {
  ours: ['range', 'width'],
  google: ['sigmaSquared'],
  papyan: ['kappa'],
  'papyan-log': ['kappa', 'epsilon'],
  'rule-of-thumb': [],
}

/**
 * Smoothed spectral density φ(t) = (1/P) Σ_probes Σ_l ω_l K(t - θ_l), by one of the conventions in
 * use. They differ in more than the kernel's width, so compare curves of the same convention only,
 * or the {@link cumulative} distribution, which has none. m is the longest probe.
 *
 * - `'ours'`: Gaussian of deviation max(range / 2m, 4 · spacing), integrated over each cell with
 *   erf (the histogram of the smoothed measure), so the mass is 1 whatever the grid; each kernel is
 *   truncated where the default grid ends, 4 widths or more from its centre (6e-5 of it at most).
 *   With a `range` of one's own the mass is what lies inside it. When all nodes coincide (to 1e-9)
 *   the width is 0.1 % of their magnitude.
 * - `'google'` (spectral-density, PyHessian): *variance* s2 · max(1, range) although the parameter
 *   reads like a deviation squared of fixed size; range from the means over probes of the extreme
 *   nodes ± 0.01; divided by the sum · spacing. Its floor gives spectra within [-0.1, 0.1] a
 *   deviation of 0.003 whatever their range; above a range of 10³ the deviation falls below the
 *   spacing and peaks alias; and a probe with larger extremes than the mean loses mass, which the
 *   division hides.
 * - `'papyan'` (DeepnetHessian, curvlinops): extremes of all probes widened by 5 % of the range on
 *   either side are mapped to [-1, 1]; deviation 2 / ((m - 1) √(8 ln κ)) there; not normalised.
 * - `'papyan-log'` (curvlinops): the same of ln(|λ| + ε), per unit of the logarithm. Signs are lost.
 * - `'rule-of-thumb'` (hessian-eigenthings): deviation range / m, 10 % of padding; not normalised.
 *
 * Where all nodes coincide the last three would divide by zero; they take 0.1 % of the magnitude
 * as range.
 *
 * @throws LosscapeError `ERR_ARGUMENT` for an unknown convention, an option that the convention
 * does not have, an empty range, a width that is not positive or fewer than 64 points; `ERR_SHAPE`
 * and `ERR_NOT_FINITE` for a malformed measure.
 *
 * @example
 * const { grid, values } = density({ nodes: [[0, 1]], weights: [[0.9, 0.1]] })
 */
export function density(measure: SpectralMeasure, options: DensityOptions = {}): Density {
  checkMeasure(measure)
  const convention = oneOf('convention', options?.convention ?? 'ours', DENSITY_CONVENTIONS)
  requireOptions(`density() with convention '${convention}'`, options, [
    ...(['convention', 'grid'] as const),
    ...OWN[convention],
  ])
  const { grid, sigmaSquared = 1e-5, epsilon = 1e-5 } = options
  const kappa = options.kappa ?? (convention === 'papyan-log' ? 1.04 : 3)
  requirePositive('sigmaSquared', sigmaSquared)
  requirePositive('epsilon', epsilon)
  if (!(kappa > 1 && Number.isFinite(kappa))) {
    throw new LosscapeError('ERR_ARGUMENT', `kappa must be greater than 1, got ${kappa}.`)
  }
  switch (convention) {
    case 'google':
      return google(measure, points(grid ?? 10_000), sigmaSquared)
    case 'papyan':
      return papyan(measure, points(grid ?? 1024), kappa)
    case 'papyan-log':
      return papyanLog(measure, points(grid ?? 1024), kappa, epsilon)
    case 'rule-of-thumb':
      return ruleOfThumb(measure, points(grid ?? 10_000))
    default:
      return cellErf(measure, { ...checked(options), points: points(grid ?? 1024) })
  }
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
 * The density for a symmetric-log axis, by the convention `'ours'` in u.
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
  requireOptions('symmetricLogDensity()', options, ['linearThreshold', 'points', 'width'])
  const magnitude = largestMagnitude(measure)
  const c = options.linearThreshold ?? 1e-6 * (magnitude > 1e-290 ? magnitude : 1)
  requirePositive('linearThreshold', c)
  const transformed: SpectralMeasure = {
    nodes: measure.nodes.map((row) =>
      Float64Array.from(row, (t) => Math.sign(t) * Math.log1p(Math.abs(t) / c)),
    ),
    weights: measure.weights,
  }
  const { width } = checked(options)
  const smooth = cellErf(transformed, { points: points(options.points ?? 1024), width })
  return {
    grid: smooth.grid.map((u) => Math.sign(u) * c * Math.expm1(Math.abs(u))),
    coordinates: smooth.grid,
    values: smooth.values,
    width: smooth.width,
    linearThreshold: c,
  }
}

/** `range` and `width`, valid where they are given. */
function checked({ range, width }: Pick<DensityOptions, 'range' | 'width'>) {
  if (width !== undefined) requirePositive('width', width)
  if (range !== undefined) {
    const [low, high] = Array.isArray(range) ? (range as readonly number[]) : [0, 0]
    if (!(Number.isFinite(low) && Number.isFinite(high) && high > low)) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `A density range must be two increasing finite numbers, got [${String(range)}].`,
      )
    }
  }
  return { range, width }
}

function points(count: number): number {
  if (Number.isInteger(count) && count >= 64) return count
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `A density grid needs an integer of at least 64 points, got ${count}.`,
  )
}

function requirePositive(name: string, value: number): void {
  if (!(value > 0 && Number.isFinite(value))) {
    throw new LosscapeError('ERR_ARGUMENT', `${name} must be positive and finite, got ${value}.`)
  }
}
