import type { HessianResults } from '../../lib/reproduce/hessian/claims.js'
import type { ClassCount, Stage } from '../../lib/reproduce/hessian/classes.js'
import type { SweepPoint } from '../../lib/reproduce/hessian/sweeps.js'
import type { Results } from '../../lib/reproduce/paper.js'

const spectrum = (largest: number) => ({ size: 4, values: [-0.01 * largest, 0, 0, largest] })

function stage(over: Partial<Stage>): Stage {
  return {
    step: 0,
    loss: 1,
    accuracy: 0.5,
    gap: 0.98,
    spectralGap: 0.98,
    energy: 0.1,
    outliers: { gap: 3, energy: 3, edge: 20, threshold: 3 },
    largest: 1,
    negativeRatio: 0.9,
    negativeShare: 0.4,
    gaussNewtonFloor: 0.1,
    flatShare: 0.2,
    hessian: spectrum(1),
    ...over,
  }
}

/** A training with three classes that shows what the paper says, but for what `over` changes. */
export function classCount(over: {
  first?: Partial<Stage>
  last?: Partial<Stage>
  structure?: Partial<ClassCount['structure']>
}): ClassCount {
  const last = { step: 1000, gap: 0.05, energy: 0.9, negativeRatio: 0.01, flatShare: 0.7 }
  return {
    classes: 3,
    size: 4,
    stages: [stage(over.first ?? {}), stage({ ...last, ...over.last })],
    structure: {
      gaussNewton: [3, 2, 1],
      sum: [2.9, 1.8, 0.9],
      g1: [2.8, 1.7, 0.8],
      matched: 3,
      traces: { g0: 0.1, g1: 0.6, g2: 0.1, g3: 0.2 },
      points: [
        { label: 0, other: 0, x: 1, y: 2 },
        { label: 0, other: 1, x: -1, y: 2 },
      ],
      ...over.structure,
    },
  }
}

/** Two networks or data sets of a sweep, described by what the claims compare. */
export function sweep(first: Partial<SweepPoint>, last: Partial<SweepPoint>): SweepPoint[] {
  return [first, last].map((over, i) => ({
    value: i + 1,
    size: 4,
    loss: 0.1,
    accuracy: 1,
    largest: 1,
    median: 1e-5,
    energy: 0.9,
    nonNegligible: 80,
    large: 5,
    hessian: spectrum(1),
    ...over,
  }))
}

export interface BatchNumbers {
  spike?: number
  line?: number
  independent?: number
  large?: number
  small?: number
  testLarge?: number
  testSmall?: number
}

export function batch(n: BatchNumbers): HessianResults['batch'] {
  const line = (barrier: number) => ({
    alpha: [0, 0.5, 1],
    loss: [0.1, 0.1 + barrier, 0.1],
    accuracy: [1, 1, 1],
    barrier,
  })
  const solution = (largest: number, testAccuracy: number) => ({
    loss: 0.1,
    accuracy: 1,
    testAccuracy,
    spectrum: spectrum(largest),
  })
  return {
    trajectory: [
      [100, 0.1],
      [110, 1],
      [200, 0.1],
    ],
    switchAt: 100,
    spike: n.spike ?? 1,
    large: solution(n.large ?? 9, n.testLarge ?? 0.9),
    small: solution(n.small ?? 3, n.testSmall ?? 0.92),
    line: line(n.line ?? 0.1),
    independentLine: line(n.independent ?? 2),
  }
}

/** Results of one seed in which every claim holds. */
export function exemplary(): Results<HessianResults> {
  const one = <R>(result: R) => [{ seed: 0, result }]
  return {
    classes: one([classCount({})]),
    training: one({
      size: 4,
      checkpoints: [0, 1000].map((step) => ({ step, loss: 1, spectrum: spectrum(1) })),
      layers: [{ name: 'layers.0', spectrum: spectrum(0.5) }],
    }),
    clusters: one(sweep({ large: 4 }, { large: 9 })),
    width: one(sweep({}, { size: 9 })),
    separability: one(sweep({ largest: 0.1 }, { largest: 3 })),
    batch: one(batch({})),
    data: one(sweep({}, {})),
  }
}
