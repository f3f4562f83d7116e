import { LosscapeError } from '../errors.js'
import type { Attributes } from '../program/types.js'
import { erf } from './erf.js'
import { chebyshev, gaussians, harmonics, type Jet, splines } from './karat-jets.js'

/**
 * Functions of a score x that all pairs of tokens share; coefficients make the learned functions of
 * them. Features come in this order:
 *
 * - `fourier`: cos x .. cos Gx, sin x .. sin Gx for G = `harmonics`, without a constant (2 G
 *   features)
 * - `chebyshev`: T_1(t) .. T_degree(t) at t = tanh x, which keeps the argument in (-1, 1)
 *   (`degree` features)
 * - `rbf`: exp(-((x - c_i) / h)²) at `centers` points c_i from `low` to `high`, h apart (`centers`
 *   features, 2 or more; FastKAN's)
 * - `bspline`: the B-splines of degree `order` (1 to 15) on uniform knots, `intervals` between
 *   -range and range and `order` beyond either end (`intervals` + `order` features). They sum to 1
 *   on [-range, range], fall to 0 over the knots beyond and are 0 from there on. A derivative of
 *   degree `order` has jumps at knots: use 3 or more where second derivatives matter.
 */
export type KaratBasis =
  | { readonly kind: 'fourier'; readonly harmonics: number }
  | { readonly kind: 'chebyshev'; readonly degree: number }
  | { readonly kind: 'rbf'; readonly centers: number; readonly low: number; readonly high: number }
  | {
      readonly kind: 'bspline'
      readonly order: number
      readonly intervals: number
      readonly range: number
    }

/** One more feature b(x) behind those of the basis; 'gelu' is the exact one. */
export type KaratBase = 'zero' | 'identity' | 'silu' | 'gelu'

/** Features by float64 arithmetic: what tests compare kernels with. */
export interface KaratFeatures {
  readonly count: number
  /** Writes f_j(x), f_j'(x) and f_j''(x) of every feature j. */
  at(x: number, f: Float64Array, slope: Float64Array, curvature: Float64Array): void
}

/** How a basis becomes attributes of an operation, is counted and is evaluated. */
interface BasisRule<Basis extends KaratBasis = never> {
  /** Its numbers in the order of native/cpu/karat_features.h. */
  readonly fields: readonly (keyof Basis & string)[]
  /** What is wrong with the numbers, or null. */
  fault(numbers: readonly number[]): string | null
  count(numbers: readonly number[]): number
  features(numbers: readonly number[]): readonly Jet[]
}

const MAX_ORDER = 15

const BASES: {
  readonly [Kind in KaratBasis['kind']]: BasisRule<Extract<KaratBasis, { kind: Kind }>>
} = {
  fourier: {
    fields: ['harmonics'],
    fault: ([G]) => (isPositive(G) ? null : `harmonics of 1 or more`),
    count: ([G]) => 2 * G,
    features: ([G]) => harmonics(G),
  },
  chebyshev: {
    fields: ['degree'],
    fault: ([degree]) => (isPositive(degree) ? null : `a degree of 1 or more`),
    count: ([degree]) => degree,
    features: ([degree]) => chebyshev(degree),
  },
  rbf: {
    fields: ['centers', 'low', 'high'],
    fault([centers, low, high]) {
      if (!isPositive(centers) || centers < 2) return '2 centers or more'
      return low < high && Number.isFinite(high - low) ? null : 'finite low < high'
    },
    count: ([centers]) => centers,
    features: ([centers, low, high]) => gaussians(centers, low, high),
  },
  bspline: {
    fields: ['order', 'intervals', 'range'],
    fault([order, intervals, range]) {
      if (!isPositive(order) || order > MAX_ORDER) return `an order from 1 to ${MAX_ORDER}`
      if (!isPositive(intervals)) return '1 interval or more'
      return range > 0 && Number.isFinite(range) ? null : 'a finite range above 0'
    },
    count: ([order, intervals]) => intervals + order,
    features: ([order, intervals, range]) => splines(order, intervals, range),
  },
}

const ruleOf = (kind: unknown): BasisRule => BASES[kind as KaratBasis['kind']] as BasisRule

const BASE_FUNCTIONS: Readonly<Record<Exclude<KaratBase, 'zero'>, Jet>> = {
  identity: (x) => [x, 1, 0],
  silu(x) {
    const g = 1 / (1 + Math.exp(-x))
    return [x * g, g * (1 + x * (1 - g)), g * (1 - g) * (2 + x * (1 - 2 * g))]
  },
  gelu(x) {
    const phi = 0.5 * (1 + erf(x * Math.SQRT1_2))
    const density = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI)
    return [x * phi, phi + x * density, density * (2 - x * x)]
  },
}

function isPositive(n: number): boolean {
  return Number.isSafeInteger(n) && n >= 1
}

/** Throws ERR_ARGUMENT for a basis with more than `kind` and these fields. */
export function requireFields(basis: { readonly kind: string }, fields: readonly string[]): void {
  const unknown = Object.keys(basis).find((name) => name !== 'kind' && !fields.includes(name))
  if (unknown === undefined) return
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `A ${basis.kind} basis has no '${unknown}'; it has ${fields.join(', ') || 'its kind only'}.`,
  )
}

/** The attributes `basis`, `basisNumbers` and `base` of an operation. Throws ERR_ARGUMENT. */
export function basisAttributes(basis: KaratBasis, base: KaratBase): Attributes {
  const kinds = Object.keys(BASES)
  if (!basis || !kinds.includes(basis.kind)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `basis must be one of ${kinds.join(', ')} as { kind: .. }, got ${JSON.stringify(basis)}.`,
    )
  }
  if (base !== 'zero' && !Object.hasOwn(BASE_FUNCTIONS, base)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `base must be 'zero', 'identity', 'silu' or 'gelu', got ${JSON.stringify(base)}.`,
    )
  }
  const rule = ruleOf(basis.kind)
  requireFields(basis, rule.fields)
  const given = basis as unknown as Readonly<Record<string, number>>
  const numbers = rule.fields.map((name) => given[name])
  const fault = rule.fault(numbers)
  if (fault) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `A ${basis.kind} basis needs ${fault}, got ${JSON.stringify(basis)}.`,
    )
  }
  return { basis: basis.kind, basisNumbers: numbers, base }
}

/** J: how many coefficients a learned function has. Throws ERR_ARGUMENT. */
export function karatFeatureCount(basis: KaratBasis, base: KaratBase = 'zero'): number {
  return countFeatures(basisAttributes(basis, base))
}

export function countFeatures({ basis, basisNumbers, base }: Attributes): number {
  const rule = ruleOf(basis)
  return rule.count(basisNumbers as readonly number[]) + Number(base !== 'zero')
}

export function featuresOf({ basis, basisNumbers, base }: Attributes): KaratFeatures {
  const jets = [...ruleOf(basis).features(basisNumbers as readonly number[])]
  if (base !== 'zero') jets.push(BASE_FUNCTIONS[base as Exclude<KaratBase, 'zero'>])
  return {
    count: jets.length,
    at(x, f, slope, curvature) {
      for (const [j, jet] of jets.entries()) [f[j], slope[j], curvature[j]] = jet(x)
    },
  }
}
