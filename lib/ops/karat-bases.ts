import { LosscapeError } from '../errors.js'
import type { Attributes } from '../program/types.js'
import { erf } from './erf.js'

/**
 * Functions of a score that all pairs of tokens share; coefficients make the learned functions of
 * them.
 *
 * - `fourier`: cos x .. cos Gx, sin x .. sin Gx for G = `harmonics`, without a constant (2 G
 *   features)
 */
export type KaratBasis = { readonly kind: 'fourier'; readonly harmonics: number }

/** One more feature b(x) behind those of the basis; 'gelu' is the exact one. */
export type KaratBase = 'zero' | 'identity' | 'silu' | 'gelu'

/** A function with its first two derivatives. */
type Jet = (x: number) => readonly [number, number, number]

/** Features by float64 arithmetic: what tests compare kernels with. */
export interface KaratFeatures {
  readonly count: number
  /** Writes f_j(x), f_j'(x) and f_j''(x) of every feature j. */
  at(x: number, f: Float64Array, slope: Float64Array, curvature: Float64Array): void
}

/** How a basis becomes attributes of an operation, is counted and is evaluated. */
interface BasisRule {
  /** The numbers of the basis in the order of native/cpu/karat_features.h. */
  numbers(basis: KaratBasis): number[]
  /** What is wrong with the numbers, or null. */
  fault(numbers: readonly number[]): string | null
  count(numbers: readonly number[]): number
  features(numbers: readonly number[]): readonly Jet[]
}

const BASES: Readonly<Record<KaratBasis['kind'], BasisRule>> = {
  fourier: {
    numbers: (basis) => [basis.harmonics],
    fault: ([harmonics]) => (isPositive(harmonics) ? null : `harmonics of 1 or more`),
    count: ([harmonics]) => 2 * harmonics,
    features: ([harmonics]) => [
      ...Array.from({ length: harmonics }, (_, i) => cosine(i + 1)),
      ...Array.from({ length: harmonics }, (_, i) => sine(i + 1)),
    ],
  },
}

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

function cosine(m: number): Jet {
  return (x) => {
    const [c, s] = [Math.cos(m * x), Math.sin(m * x)]
    return [c, -m * s, -m * m * c]
  }
}

function sine(m: number): Jet {
  return (x) => {
    const [c, s] = [Math.cos(m * x), Math.sin(m * x)]
    return [s, m * c, -m * m * s]
  }
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
  const rule = BASES[basis.kind]
  const numbers = rule.numbers(basis)
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
  const rule = BASES[basis as KaratBasis['kind']]
  return rule.count(basisNumbers as readonly number[]) + Number(base !== 'zero')
}

export function featuresOf({ basis, basisNumbers, base }: Attributes): KaratFeatures {
  const jets = [...BASES[basis as KaratBasis['kind']].features(basisNumbers as readonly number[])]
  if (base !== 'zero') jets.push(BASE_FUNCTIONS[base as Exclude<KaratBase, 'zero'>])
  return {
    count: jets.length,
    at(x, f, slope, curvature) {
      for (const [j, jet] of jets.entries()) [f[j], slope[j], curvature[j]] = jet(x)
    },
  }
}
