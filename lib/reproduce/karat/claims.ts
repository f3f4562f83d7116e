import type { Results, SeedResult } from '../paper.js'
import { type Case, type Claim, judge, type Question } from '../verdicts.js'
import type { MemoryRow } from './memory.js'
import { VARIANTS, type VariantName } from './settings.js'
import type { TransferResult } from './transfer.js'
import type { EpochRow, VariantResult } from './variant.js'

export type KaratResults = { readonly [V in VariantName]: VariantResult } & {
  readonly memory: readonly MemoryRow[]
  readonly transfer: TransferResult
}

/**
 * What the paper says, or its formulas imply, as far as small networks can show it. Every threshold
 * is a choice that a reader may dispute, hence it is printed beside the verdict.
 */
export const QUESTIONS = {
  learns: {
    id: 'learns',
    claim: 'Learnable attention without projection learns, as softmax does.',
    measure: 'test accuracy over that of chance',
    threshold: { atLeast: 2 },
  },
  stable: {
    id: 'stable',
    claim: 'Without projection training is stable.',
    measure: 'largest rise of the training loss from epoch to epoch, over its fall in all',
    threshold: { atMost: 0.1 },
  },
  projectionLatent: {
    id: 'projection-latent',
    claim: 'Projecting the latent numbers on the simplex hurts.',
    measure: 'test accuracy of G3B minus that of G3B with projected latents',
    threshold: { atLeast: 0.05 },
  },
  projectionOutput: {
    id: 'projection-output',
    claim: 'Projecting the rows of weights on the simplex hurts.',
    measure: 'test accuracy of G3B minus that of G3B with projected rows',
    threshold: { atLeast: 0.05 },
  },
  lowRank: {
    id: 'low-rank',
    claim: 'Learnable attention has rank r at most.',
    measure: 'σ_(r+1) / σ_1 of the attention matrices in float64, largest',
    threshold: { atMost: 1e-12 },
  },
  softmaxRank: {
    id: 'softmax-rank',
    claim: 'Softmax attention is not of low rank.',
    measure: 'σ_(r+1) / σ_1 of the attention matrices in float64, smallest',
    threshold: { above: 1e-10 },
  },
  parameters: {
    id: 'parameters',
    claim: 'Learnable attention adds (2 G + 1) N r h parameters, for every block or once.',
    measure: 'parameters counted minus those of the law',
    threshold: { atLeast: 0, atMost: 0 },
  },
  memory: {
    id: 'memory',
    claim: 'Working memory depends on G and r through Z and the parameters only.',
    measure: 'growth of the working memory of a layer with G and r, over the growth of both',
    threshold: { atMost: 4 },
  },
  better: {
    id: 'better',
    claim: 'On a small network G3B is at least as good as softmax.',
    measure: 'test accuracy of G3B minus that of softmax',
    threshold: { atLeast: 0 },
  },
  sharpness: {
    id: 'sharpness',
    claim: 'Learnable attention ends at a sharper minimum.',
    measure: 'largest eigenvalue of the Hessian of G3B over that of softmax',
    threshold: { above: 1 },
  },
  rougher: {
    id: 'rougher',
    claim: 'The loss surface of learnable attention is rougher.',
    measure: 'roughness of the surface of G3B over that of softmax',
    threshold: { above: 1 },
  },
  grid: {
    id: 'grid',
    claim: 'Many harmonics hurt.',
    measure: 'test accuracy of G3B minus that of G11B',
    threshold: { above: 0 },
  },
  nearZero: {
    id: 'near-zero',
    claim: 'Learnable attention has more weights near zero.',
    measure: 'share of weights within ±0.01 of G3B minus that of softmax, after training',
    threshold: { above: 0 },
  },
  transfer: {
    id: 'transfer',
    claim: 'A student with the attention of G3B surpasses softmax and its teacher.',
    measure: 'test accuracy of the student minus the larger of both',
    threshold: { above: 0 },
  },
} as const satisfies Record<string, Question>

type Part = Partial<Results<KaratResults>>
type Seeds<R> = readonly SeedResult<R>[]

const FREE = ['softmax', 'g1b', 'g3b', 'g3u', 'g11b'] as const
const LEARNABLE = ['g1b', 'g3b', 'g3u', 'g11b'] as const

/** All claims for which there are results; a pure function of them. */
export function karatClaims(results: Part): Claim[] {
  const of = (names: readonly VariantName[], value: (r: VariantResult) => number): Case[] =>
    names.flatMap((name) =>
      ((results[name] ?? []) as Seeds<VariantResult>).map(({ seed, result }) => ({
        name: `${VARIANTS[name].label}, seed ${seed}`,
        value: value(result),
      })),
    )
  const pairs = (
    a: VariantName,
    b: VariantName,
    value: (a: VariantResult, b: VariantResult) => number,
  ) => paired(results[a], results[b], value)
  const accuracyOver = (a: VariantName, b: VariantName) =>
    pairs(a, b, (x, y) => x.accuracy - y.accuracy)
  const claims: [Question, Case[]][] = [
    [QUESTIONS.learns, of(FREE, ({ accuracy, chance }) => accuracy / chance)],
    [QUESTIONS.stable, of(FREE, largestRise)],
    [QUESTIONS.projectionLatent, accuracyOver('g3b', 'g3bLatent')],
    [QUESTIONS.projectionOutput, accuracyOver('g3b', 'g3bOutput')],
    [QUESTIONS.lowRank, of(LEARNABLE, ({ ranks }) => ranks.beyond)],
    [QUESTIONS.softmaxRank, of(['softmax'], ({ ranks }) => ranks.beyondLeast)],
    [
      QUESTIONS.parameters,
      of([...LEARNABLE, 'g3bLatent', 'g3bOutput'], ({ parameters: p }) => p.counted - p.law),
    ],
    [QUESTIONS.memory, memoryCases(results.memory ?? [])],
    [QUESTIONS.better, accuracyOver('g3b', 'softmax')],
    [QUESTIONS.sharpness, pairs('g3b', 'softmax', (x, y) => topOf(x) / topOf(y))],
    [QUESTIONS.rougher, pairs('g3b', 'softmax', (x, y) => roughnessOf(x) / roughnessOf(y))],
    [QUESTIONS.grid, accuracyOver('g3b', 'g11b')],
    [QUESTIONS.nearZero, pairs('g3b', 'softmax', (x, y) => x.nearZero - y.nearZero)],
    [QUESTIONS.transfer, transferCases(results)],
  ]
  return claims.flatMap(([question, cases]) => (cases.length > 0 ? [judge(question, cases)] : []))
}

/** Largest rise of the training loss between epochs over first minus smallest; infinite if it broke. */
export function largestRise({
  rows,
  completed,
}: Pick<VariantResult, 'rows' | 'completed'>): number {
  const losses = rows.map(({ trainLoss }: EpochRow) => trainLoss ?? Number.NaN)
  if (!completed || losses.length < 2 || losses.some(Number.isNaN)) return Number.POSITIVE_INFINITY
  const fall = losses[0] - Math.min(...losses)
  const rise = losses.slice(1).reduce((most, loss, i) => Math.max(most, loss - losses[i]), 0)
  if (rise === 0) return 0
  return fall > 0 ? rise / fall : Number.POSITIVE_INFINITY
}

export const topOf = ({ landscape }: VariantResult): number =>
  landscape?.eigenvalues[0] ?? Number.NaN

export const roughnessOf = ({ landscape }: VariantResult): number =>
  landscape?.surface.roughness.index ?? Number.NaN

function paired<A, B>(
  first: Seeds<A> | undefined,
  second: Seeds<B> | undefined,
  value: (a: A, b: B) => number,
): Case[] {
  return (first ?? []).flatMap(({ seed, result }) => {
    const other = second?.find((one) => one.seed === seed)
    return other ? [{ name: `seed ${seed}`, value: value(result, other.result) }] : []
  })
}

/** Every learnable size against the first one; the first seed, for nothing here is random. */
function memoryCases(seeds: Seeds<readonly MemoryRow[]>): Case[] {
  const [base, ...others] = (seeds[0]?.result ?? []).filter(({ size }) => size !== null)
  return others.map((row) => ({
    name: `G = ${row.size?.G}, r = ${row.size?.r}`,
    value: Math.max(0, row.arena - base.arena) / (held(row) - held(base)),
  }))
}

const held = ({ latents, parameters }: MemoryRow): number => latents + parameters

function transferCases({ transfer, softmax }: Part): Case[] {
  return paired(transfer, softmax, (t, s) => t.student - Math.max(t.teacher, s.accuracy))
}
