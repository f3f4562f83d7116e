import type { BcnResults } from '../../lib/reproduce/bcn/claims.js'
import {
  STACK_NORM_NAMES,
  type StackNorm,
  type StackRow,
} from '../../lib/reproduce/bcn/initialization.js'
import { VARIANTS, type VariantName } from '../../lib/reproduce/bcn/settings.js'
import type { RunResult, VariantResult } from '../../lib/reproduce/bcn/variant.js'
import type { Results } from '../../lib/reproduce/paper.js'

interface Typical {
  readonly large: number
  readonly micro: number
  readonly divergence: number
  readonly dead: number
  readonly beta: number
  readonly top: number | null
  readonly residual: number
  readonly centering: number
}

/** What a variant is like when everything holds. */
const TYPICAL: Record<VariantName, Typical> = {
  bn: { ...base(0.6, 0.2), divergence: 0.1 },
  gn: { ...base(0.5, 0.5), divergence: 0.6, dead: 0.1, beta: 20, top: 40 },
  gnWs: { ...base(0.55, 0.55), beta: 10, top: 20 },
  bcn: base(0.55, 0.55),
  bcnWs: base(0.62, 0.61),
}

function base(large: number, micro: number): Typical {
  const rest = { divergence: 0.1, dead: 0, beta: 10, top: 20, residual: 1e-7, centering: 0.2 }
  return { large, micro, ...rest }
}

/** A variant's result, with deviations from the typical one. */
export function variant(name: VariantName, over: Partial<Typical> = {}): VariantResult {
  const typical = { ...TYPICAL[name], ...over }
  const { divergence, dead, beta, top, residual, centering } = typical
  const run = (accuracy: number): RunResult => ({
    completed: true,
    accuracy,
    trainLoss: 1.5,
    tests: [0.5, 1].map((share) => ({ share, loss: 1.5 / share, accuracy: accuracy * share })),
    channels: [0.5, 1].map((share) => ({ share, divergence, distance: 0.5, dead, linear: 0.01 })),
  })
  const standardized = VARIANTS[name].ws
  return {
    chance: 0.1,
    parameters: 1000,
    large: run(typical.large),
    micro: run(typical.micro),
    smoothness: [0.5, 1].map((share) => ({
      ...{ share, loss: 1, gradientNorm: 2, variation: 0.5, predictiveness: 0.3, beta },
    })),
    landscape:
      top === null
        ? null
        : {
            eigenvalues: [top, top / 2],
            nodes: [[0, top / 2, top]],
            weights: [[0.9, 0.09, 0.01]],
            flat: standardized ? { count: 20, share: 0.02, control: 0.1, residual } : null,
            ratios: standardized ? { centering, scaling: 0.05 } : null,
          },
  }
}

/** The stack of a norm, with deviations of its last layer. */
export function stack(
  over: Partial<Record<StackNorm, { divergence?: number; dead?: number }>> = {},
): StackRow[] {
  const typical: Record<StackNorm, { divergence: number; dead: number }> = {
    bn: { divergence: 1e-6, dead: 0 },
    ln: { divergence: 0.8, dead: 0.2 },
    gn: { divergence: 0.75, dead: 0.18 },
    gnWs: { divergence: 0.02, dead: 0 },
    bcn: { divergence: 1e-5, dead: 0 },
    bcnWs: { divergence: 1e-5, dead: 0 },
  }
  return STACK_NORM_NAMES.map((norm) => {
    const { divergence, dead } = { ...typical[norm], ...over[norm] }
    return { norm, divergence: [divergence / 2, divergence], dead: [0, dead], linear: [0, dead] }
  })
}

/** Results of two seeds in which every claim holds. */
export function exemplary(): Results<BcnResults> {
  const seeds = <R>(result: R) => [0, 1].map((seed) => ({ seed, result }))
  return {
    initialization: seeds(stack()),
    bn: seeds(variant('bn')),
    gn: seeds(variant('gn')),
    gnWs: seeds(variant('gnWs')),
    bcn: seeds(variant('bcn')),
    bcnWs: seeds(variant('bcnWs')),
  }
}
