import { newArray } from '../allocation.js'
import { argumentError, isVector, requireArguments } from '../arguments.js'
import { functional, type SpectralMeasure } from '../curvature/measure.js'
import { oneOf } from '../curvature/operator.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import { marchenkoPasturEdge } from './marchenko-pastur.js'

/** Ways of telling outliers from the bulk; they differ, so report several. */
export type OutlierRule = 'gap' | 'energy' | 'edge' | 'threshold' | 'class-structure'

export const OUTLIER_RULES: readonly OutlierRule[] = [
  ...(['gap', 'energy', 'edge', 'threshold', 'class-structure'] as const),
]

export interface OutlierOptions {
  readonly rule: OutlierRule
  /** C; needed by 'gap' and 'energy'. */
  readonly classes?: number
  /** n; needed with a measure, else the number of values. */
  readonly size?: number
  /** 'energy': share of ‖A‖_F² that the outliers must hold. Default 0.9. */
  readonly share?: number
  /** 'edge': κ. Default 6. */
  readonly kappa?: number
  /** 'edge': γ = n / N of a Marchenko-Pastur law, which then replaces the robust edge. */
  readonly ratio?: number
  /** 'threshold': τ. Default 0.01. */
  readonly threshold?: number
  /** 'threshold': τ counts in units of the largest |λ|. Default true. */
  readonly relative?: boolean
  /** 'threshold': also count λ < -τ. Default false. */
  readonly magnitude?: boolean
  /** 'class-structure': eigenvalues of G₁. */
  readonly reference?: ArrayLike<number>
  /** 'class-structure': largest |λ - μ| / μ of a matched pair. Default 0.25. */
  readonly tolerance?: number
}

export interface OutlierCount {
  readonly rule: OutlierRule
  readonly count: number
  /** Outliers lie beyond it; NaN where the rule has none. */
  readonly cutoff: number
  /** 'energy': E_C; 'gap': the largest ratio; else NaN. */
  readonly strength: number
}

/**
 * Counts the eigenvalues of a symmetric operator that stand out of its bulk. `source` is all its
 * eigenvalues in any order, or a quadrature measure with `size`, whose eigenvalues are then taken
 * as the quantiles (i - ½) / n.
 *
 * | rule | counts |
 * |---|---|
 * | `gap` | i of the largest ratio λ_i / λ_(i+1) among the first 4C (brittle: half of small cases) |
 * | `energy` | the fewest top values with Σ λ² ≥ share ‖A‖_F²; E_C = Σ_(i ≤ C) λ_i² / ‖A‖_F² |
 * | `edge` | values above median + κ MAD, on the scale sign(λ) √|λ|; or above a fitted Marchenko-Pastur edge |
 * | `threshold` | values above τ, or τ max |λ| |
 * | `class-structure` | eigenvalues of G₁ that have a partner among the values |
 *
 * O(n log n). Source: Sagun et al. 2017 (cut-offs by eye there); Papyan 2018 for the last rule.
 *
 * @example
 * const { values } = await exactSpectrum(H)
 * const { count, strength } = countOutliers(values, { rule: 'energy', classes: 10 })
 *
 * @throws ERR_ARGUMENT for an unknown rule, a missing option or one out of range; ERR_NOT_FINITE
 */
export function countOutliers(
  source: ArrayLike<number> | SpectralMeasure,
  options: OutlierOptions,
): OutlierCount {
  requireOptions('countOutliers()', options, [
    ...(['rule', 'classes', 'size', 'share', 'kappa', 'ratio', 'threshold'] as const),
    ...(['relative', 'magnitude', 'reference', 'tolerance'] as const),
  ])
  if (!isVector(source)) requireArguments('countOutliers()', { measure: source })
  const rule = oneOf('rule', options.rule, OUTLIER_RULES)
  const spectrum = descending(source, options)
  const { values } = spectrum
  if (rule === 'gap') return largestGap(values, classCount(options))
  if (rule === 'energy') return energy(spectrum, classCount(options), options.share ?? 0.9)
  if (rule === 'edge') return aboveEdge(values, options)
  if (rule === 'threshold') return aboveThreshold(values, options)
  return matched(values, options)
}

interface Spectrum {
  /** Descending. */
  readonly values: Float64Array
  /** ‖A‖_F² */
  readonly squares: number
  /** Sum of the squares of the `count` largest. */
  readonly topSquares: (count: number) => number
}

function descending(
  source: ArrayLike<number> | SpectralMeasure,
  { size }: OutlierOptions,
): Spectrum {
  if ('nodes' in source) return quantiles(source, size)
  const values = Float64Array.from(source).sort().reverse()
  if (size !== undefined && size !== values.length) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `Expected all ${size} eigenvalues, got ${values.length}: pass a measure where only some are known.`,
    )
  }
  if (values.length === 0) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      'countOutliers() expected the eigenvalues, or a measure with size; got an empty list.',
    )
  }
  if (!values.every(Number.isFinite)) {
    throw new LosscapeError('ERR_NOT_FINITE', 'Outliers are counted among finite eigenvalues.')
  }
  const sum = (list: Float64Array) => list.reduce((total, x) => total + x * x, 0)
  return { values, squares: sum(values), topSquares: (count) => sum(values.subarray(0, count)) }
}

/** The n eigenvalues that a measure stands for: λ_i where its mass from above reaches (i - ½) / n. */
function quantiles(measure: SpectralMeasure, size: number | undefined): Spectrum {
  const n = size ?? 0
  if (!Number.isInteger(n) || n < 1) {
    throw new LosscapeError('ERR_ARGUMENT', `A measure needs its size n, got ${size}.`)
  }
  const squares = functional(measure, (t) => t * t, n).value
  const nodes = measure.nodes
    .flatMap((row, p) => Array.from(row, (t, l) => ({ t, mass: measure.weights[p][l] })))
    .sort((a, b) => b.t - a.t)
  const values = newArray(Float64Array, n, 'The quantiles of the measure')
  let mass = 0
  let i = 0
  for (const node of nodes) {
    mass += node.mass / measure.nodes.length
    while (i < n && (i + 0.5) / n <= mass) values[i++] = node.t
  }
  // What rounding left of the mass belongs to the smallest node.
  values.fill(nodes[nodes.length - 1].t, i)
  // From the masses themselves: rounded to whole eigenvalues, E_C could exceed 1.
  const topSquares = (count: number): number => {
    let left = count / n
    let sum = 0
    for (const node of nodes) {
      const part = Math.min(left, node.mass / measure.nodes.length)
      sum += part * node.t * node.t
      left -= part
    }
    return n * sum
  }
  return { values, squares, topSquares }
}

function largestGap(values: Float64Array, classes: number): OutlierCount {
  let best = { count: 0, ratio: 1 }
  for (let i = 0; i < Math.min(4 * classes, values.length - 1) && values[i + 1] > 0; i++) {
    const ratio = values[i] / values[i + 1]
    if (ratio > best.ratio) best = { count: i + 1, ratio }
  }
  const cutoff = best.count > 0 ? values[best.count - 1] : Number.NaN
  return { rule: 'gap', count: best.count, cutoff, strength: best.ratio }
}

function energy(
  { values, squares, topSquares }: Spectrum,
  classes: number,
  share: number,
): OutlierCount {
  demand(share > 0 && share <= 1, 'share', 'in (0, 1]', share)
  let sum = 0
  let count = 0
  for (const value of values) {
    if (sum >= share * squares || value <= 0) break
    sum += value * value
    count++
  }
  const strength = squares > 0 ? Math.min(1, topSquares(classes) / squares) : Number.NaN
  return { rule: 'energy', count, cutoff: count > 0 ? values[count - 1] : Number.NaN, strength }
}

function aboveEdge(values: Float64Array, options: OutlierOptions): OutlierCount {
  const { kappa = 6, ratio } = options
  demand(kappa > 0, 'kappa', 'positive', kappa)
  const cutoff =
    ratio === undefined ? robustEdge(values, kappa) : marchenkoPasturEdge(values, ratio)
  return { rule: 'edge', count: above(values, cutoff), cutoff, strength: Number.NaN }
}

/** Median + κ MAD of sign(λ) √|λ|, squared back: a Wishart bulk is nearly symmetric on that scale. */
function robustEdge(values: Float64Array, kappa: number): number {
  const roots = values.map((x) => Math.sign(x) * Math.sqrt(Math.abs(x)))
  const centre = median(roots)
  const edge = centre + kappa * median(roots.map((x) => Math.abs(x - centre)))
  return Math.sign(edge) * edge * edge
}

function median(values: Float64Array): number {
  const sorted = Float64Array.from(values).sort()
  const half = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
}

function aboveThreshold(values: Float64Array, options: OutlierOptions): OutlierCount {
  const { threshold = 0.01, relative = true, magnitude = false } = options
  demand(threshold > 0, 'threshold', 'positive', threshold)
  const largest = Math.max(Math.abs(values[0]), Math.abs(values[values.length - 1]))
  const cutoff = relative ? threshold * largest : threshold
  const below = magnitude ? values.filter((x) => x < -cutoff).length : 0
  const count = above(values, cutoff) + below
  return { rule: 'threshold', count, cutoff, strength: Number.NaN }
}

/** Pairs the values of G₁ one by one, from the largest, with the nearest eigenvalue left. */
function matched(values: Float64Array, options: OutlierOptions): OutlierCount {
  const { reference, tolerance = 0.25 } = options
  if (!reference || !isVector(reference)) {
    throw argumentError('countOutliers()', 'reference', 'the eigenvalues of G₁', reference)
  }
  demand(tolerance >= 0, 'tolerance', 'at least 0', tolerance)
  const wanted = Float64Array.from(reference).sort().reverse()
  const floor = 1e-6 * (wanted[0] ?? 0)
  const free = new Set(values.keys())
  let cutoff = Number.NaN
  let count = 0
  for (const mu of wanted) {
    if (mu <= floor) break
    let best = -1
    for (const i of free) {
      if (best < 0 || Math.abs(values[i] - mu) < Math.abs(values[best] - mu)) best = i
      // Descending: from here on the distance only grows.
      else if (values[i] < mu) break
    }
    if (best < 0 || Math.abs(values[best] - mu) > tolerance * mu) continue
    free.delete(best)
    cutoff = values[best]
    count++
  }
  return { rule: 'class-structure', count, cutoff, strength: Number.NaN }
}

function above(values: Float64Array, cutoff: number): number {
  return values.filter((x) => x > cutoff).length
}

function classCount({ rule, classes }: OutlierOptions): number {
  if (Number.isInteger(classes) && (classes as number) >= 1) return classes as number
  throw new LosscapeError('ERR_ARGUMENT', `Rule '${rule}' needs classes, got ${classes}.`)
}

function demand(condition: boolean, name: string, what: string, got: number): void {
  if (condition && typeof got === 'number') return
  throw argumentError('countOutliers()', name, `a number, ${what}`, got)
}
