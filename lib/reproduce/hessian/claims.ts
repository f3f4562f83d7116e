import type { Results } from '../paper.js'
import { type Case, type Claim, judge, type Question } from '../verdicts.js'
import type { BatchResult } from './batch.js'
import type { ClassCount, Stage, Structure } from './classes.js'
import type { SweepPoint } from './sweeps.js'
import type { TrainingSpectra } from './training.js'

export interface HessianResults {
  readonly classes: readonly ClassCount[]
  readonly training: TrainingSpectra
  readonly clusters: readonly SweepPoint[]
  readonly width: readonly SweepPoint[]
  readonly separability: readonly SweepPoint[]
  readonly batch: BatchResult
  readonly data: readonly SweepPoint[]
}

/**
 * What the paper says, as far as small networks can show it. Every threshold is a choice that a
 * reader may dispute, hence it is printed beside the verdict.
 */
export const QUESTIONS = {
  initEnergy: {
    id: 'init-energy',
    claim: 'At the random start no few eigenvalues dominate.',
    measure: 'E_C, share of the top C eigenvalues in ‖H‖_F², before training',
    threshold: { below: 0.2 },
  },
  trainedEnergy: {
    id: 'trained-energy',
    claim: 'After training as many outliers as classes carry the spectrum.',
    measure: 'E_C after training',
    threshold: { above: 0.75 },
  },
  gapIndex: {
    id: 'gap-index',
    claim: 'The largest gap comes after at most C eigenvalues.',
    measure: 'index of the largest λ_i / λ_(i+1) among the first 4C, over C, after training',
    threshold: { above: 0, atMost: 1 },
  },
  outlierCount: {
    id: 'outlier-count',
    claim: 'The number of outliers follows the number of classes.',
    measure: 'eigenvalues above 0.1 λ_max after training, over C',
    threshold: { atLeast: 0.5, atMost: 1.5 },
  },
  bulk: {
    id: 'bulk',
    claim: 'After training most eigenvalues are nearly zero.',
    measure: 'share of |λ| < 1e-3 λ_max after training',
    threshold: { atLeast: 0.66 },
  },
  gaussNewton: {
    id: 'gauss-newton',
    claim: 'Once the samples are fitted the Hessian is close to its Gauss-Newton part.',
    measure: '‖H − G‖_F / ‖H‖_F after training',
    threshold: { atMost: 0.12 },
  },
  gaussNewtonFalls: {
    id: 'gauss-newton-falls',
    claim: 'Training brings the Hessian close to its Gauss-Newton part.',
    measure: '‖H − G‖_F / ‖H‖_F after training, over its value before',
    threshold: { atMost: 0.5 },
  },
  smallNegative: {
    id: 'small-negative',
    claim: 'Small negative eigenvalues remain at the end.',
    measure: '−λ_min / λ_max after training',
    threshold: { above: 0, atMost: 0.022 },
  },
  negativeSource: {
    id: 'negative-source',
    claim: 'Negative eigenvalues come from the remainder F only.',
    measure: '−λ_min(G) in units of its rounding floor, before and after training',
    threshold: { atMost: 1 },
  },
  structureMatch: {
    id: 'structure-match',
    claim: 'The means over classes, G₁, make the outliers (Papyan 2018).',
    measure: 'eigenvalues of G₁ with a partner in G within a quarter, over C, after training',
    threshold: { atLeast: 0.5 },
  },
  structureSum: {
    id: 'structure-sum',
    claim: 'The class means as a whole, G₀ + G₁ + G₂, carry the top of G.',
    measure: 'sum of their top C eigenvalues over that of G, after training',
    threshold: { atLeast: 0.75, atMost: 1 },
  },
  clusters: {
    id: 'clusters',
    claim: 'More clusters in the data make more outliers, at equal labels and network.',
    measure: 'eigenvalues above 0.1 λ_max at the most clusters, over those at the fewest',
    threshold: { above: 1 },
  },
  width: {
    id: 'width',
    claim: 'Growing the network enlarges only the bulk at zero.',
    measure: 'number of |λ| > 0.01 λ_max at the widest network, over that at the next narrower one',
    threshold: { atLeast: 0.75, atMost: 1.25 },
  },
  widthEnergy: {
    id: 'width-energy',
    claim: 'Growing the network leaves the weight of the outliers.',
    measure: 'E_C at the widest network minus E_C at the narrowest',
    threshold: { atLeast: -0.05, atMost: 0.05 },
  },
  separability: {
    id: 'separability',
    claim: 'Changing the data at a fixed network moves the outliers.',
    measure: 'λ_max of overlapping over λ_max of well separated blobs',
    threshold: { above: 10 },
  },
  lineSwitch: {
    id: 'line-switch',
    claim: 'No barrier lies on the line from the large-batch to the small-batch solution.',
    measure: 'height of the line over its chord, over the jump of the loss at the switch',
    threshold: { atMost: 0.25 },
  },
  lineIndependent: {
    id: 'line-independent',
    claim: 'Both solutions lie in one basin, unlike solutions from different starts.',
    measure: 'height of the line over its chord, over that to an independent solution',
    threshold: { atMost: 0.25 },
  },
  largeBatch: {
    id: 'large-batch',
    claim: 'Large batches end where outliers are larger.',
    measure: 'λ_max after large batches over λ_max after small ones',
    threshold: { above: 2 },
  },
  smallBatchAccuracy: {
    id: 'small-batch-accuracy',
    claim: 'Small batches generalise better.',
    measure: 'test accuracy after small batches minus that after large ones',
    threshold: { atLeast: 0.01 },
  },
  dataWidth: {
    id: 'data-width',
    claim: 'On real data, too, growing the network enlarges only the bulk.',
    measure: 'number of |λ| > 0.01 λ_max at the widest network, over that at the narrowest',
    threshold: { atLeast: 0.75, atMost: 1.25 },
  },
} as const satisfies Record<string, Question>

/** All claims for which there are results; a pure function of them. */
export function hessianClaims(results: Partial<Results<HessianResults>>): Claim[] {
  return [
    ...classClaims(results.classes ?? []),
    ...sweepClaims(results),
    ...batchClaims(results.batch ?? []),
  ]
}

type Seeds<R> = readonly { readonly seed: number; readonly result: R }[]

function classClaims(seeds: Seeds<readonly ClassCount[]>): Claim[] {
  if (seeds.length === 0) return []
  const cases = (value: (first: Stage, last: Stage, classes: number) => number): Case[] =>
    seeds.flatMap(({ seed, result }) =>
      result.map(({ classes, stages }) => ({
        name: `C = ${classes}, seed ${seed}`,
        value: value(stages[0], stages[stages.length - 1], classes),
      })),
    )
  const structures = (value: (structure: Structure, classes: number) => number): Case[] =>
    seeds.flatMap(({ seed, result }) =>
      result.map(({ classes, structure }) => ({
        name: `C = ${classes}, seed ${seed}`,
        value: value(structure, classes),
      })),
    )
  return [
    judge(
      QUESTIONS.initEnergy,
      cases((first) => first.energy),
    ),
    judge(
      QUESTIONS.trainedEnergy,
      cases((_, last) => last.energy),
    ),
    judge(
      QUESTIONS.gapIndex,
      cases((_, last, classes) => last.outliers.gap / classes),
    ),
    judge(
      QUESTIONS.outlierCount,
      cases((_, last, classes) => last.outliers.threshold / classes),
    ),
    judge(
      QUESTIONS.bulk,
      cases((_, last) => last.flatShare),
    ),
    judge(
      QUESTIONS.gaussNewton,
      cases((_, last) => last.gap),
    ),
    judge(
      QUESTIONS.gaussNewtonFalls,
      cases((first, last) => last.gap / first.gap),
    ),
    judge(
      QUESTIONS.smallNegative,
      cases((_, last) => last.negativeRatio),
    ),
    judge(
      QUESTIONS.negativeSource,
      cases((first, last) => Math.max(first.gaussNewtonFloor, last.gaussNewtonFloor)),
    ),
    judge(
      QUESTIONS.structureMatch,
      structures(({ matched }, classes) => matched / classes),
    ),
    judge(
      QUESTIONS.structureSum,
      structures(({ sum, gaussNewton }) => total(sum) / total(gaussNewton)),
    ),
  ]
}

function sweepClaims({ clusters, width, separability, data }: Partial<Results<HessianResults>>) {
  const claim = (
    question: Question,
    seeds: Seeds<readonly SweepPoint[]> | undefined,
    value: (points: readonly SweepPoint[]) => number,
  ): Claim[] => {
    if (!seeds || seeds.length === 0) return []
    const cases = seeds.map(({ seed, result }) => ({ name: `seed ${seed}`, value: value(result) }))
    return [judge(question, cases)]
  }
  const first = (points: readonly SweepPoint[]) => points[0]
  const last = (points: readonly SweepPoint[], back = 1) => points[points.length - back]
  return [
    ...claim(QUESTIONS.clusters, clusters, (p) => last(p).large / first(p).large),
    ...claim(QUESTIONS.width, width, (p) => last(p).nonNegligible / last(p, 2).nonNegligible),
    ...claim(QUESTIONS.widthEnergy, width, (p) => last(p).energy - first(p).energy),
    ...claim(QUESTIONS.separability, separability, (p) => last(p).largest / first(p).largest),
    ...claim(QUESTIONS.dataWidth, data, (p) => last(p).nonNegligible / first(p).nonNegligible),
  ]
}

function batchClaims(seeds: Seeds<BatchResult>): Claim[] {
  if (seeds.length === 0) return []
  const cases = (value: (result: BatchResult) => number): Case[] =>
    seeds.map(({ seed, result }) => ({ name: `seed ${seed}`, value: value(result) }))
  return [
    judge(
      QUESTIONS.lineSwitch,
      cases(({ line, spike }) => ratio(line.barrier, spike)),
    ),
    judge(
      QUESTIONS.lineIndependent,
      cases(({ line, independentLine }) => ratio(line.barrier, independentLine.barrier)),
    ),
    judge(
      QUESTIONS.largeBatch,
      cases(({ large, small }) => topOf(large) / topOf(small)),
    ),
    judge(
      QUESTIONS.smallBatchAccuracy,
      cases(({ large, small }) => small.testAccuracy - large.testAccuracy),
    ),
  ]
}

function total(values: readonly number[]): number {
  return values.reduce((sum, x) => sum + x, 0)
}

/** A barrier against one that is not there says nothing: infinite, which no limit holds. */
function ratio(part: number, whole: number): number {
  return whole > 0 ? part / whole : Number.POSITIVE_INFINITY
}

export function topOf({ spectrum }: BatchResult['large']): number {
  const rows = 'values' in spectrum ? [spectrum.values] : spectrum.nodes
  return Math.max(...rows.map((row) => Math.max(...row)))
}
