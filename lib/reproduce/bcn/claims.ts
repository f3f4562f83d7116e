import type { Results, SeedResult } from '../paper.js'
import { type Case, type Claim, judge, type Question } from '../verdicts.js'
import { STACK_NORMS, type StackNorm, type StackRow } from './initialization.js'
import { VARIANTS, type VariantName } from './settings.js'
import type { SmoothnessRow, VariantResult } from './variant.js'

export type BcnResults = { readonly [V in VariantName]: VariantResult } & {
  readonly initialization: readonly StackRow[]
}

/**
 * What the papers say, or its formulas imply, as far as small networks can show it. Every threshold
 * is a choice that a reader may dispute, hence it is printed beside the verdict.
 */
export const QUESTIONS = {
  drift: {
    id: 'gn-drifts',
    claim: 'With group norm, channels drift towards elimination with depth.',
    measure: 'divergence of the channels from N(0, 1) in the last layer of the stack at its start',
    threshold: { atLeast: 0.3 },
  },
  lost: {
    id: 'gn-loses-channels',
    claim: 'With group norm, some channels are off, or on, for every input.',
    measure: 'share of dead and linear channels in the last layer of the stack at its start',
    threshold: { atLeast: 0.1 },
  },
  standardized: {
    id: 'ws-centres',
    claim: 'Weight standardization removes most of that drift.',
    measure: 'divergence in the last layer, GN+WS over GN',
    threshold: { atMost: 0.1 },
  },
  batch: {
    id: 'bcn-none',
    claim: 'With batch-channel norm nothing drifts.',
    measure: 'largest divergence of any layer of the stack, BCN and BCN+WS',
    threshold: { atMost: 0.001 },
  },
  collapse: {
    id: 'bn-needs-batches',
    claim: 'Batch norm fails with micro-batches.',
    measure: 'test accuracy of BN at the micro-batch minus that at the large batch',
    threshold: { atMost: -0.1 },
  },
  hold: {
    id: 'others-hold',
    claim: 'The others train with micro-batches as with large ones.',
    measure:
      'test accuracy at the micro-batch minus that at the large batch: GN, GN+WS, BCN, BCN+WS',
    threshold: { atLeast: -0.05 },
  },
  beyond: {
    id: 'beats-bn',
    claim: 'At the micro-batch all others are better than batch norm.',
    measure: 'test accuracy at the micro-batch minus that of BN: GN, GN+WS, BCN, BCN+WS',
    threshold: { above: 0 },
  },
  helps: {
    id: 'ws-helps',
    claim: 'Weight standardization helps group norm.',
    measure: 'test accuracy of GN+WS minus that of GN, both batch sizes',
    threshold: { above: 0 },
  },
  best: {
    id: 'bcn-ws-best',
    claim: 'At the micro-batch BCN+WS is better than GN+WS.',
    measure: 'test accuracy of BCN+WS minus that of GN+WS at the micro-batch',
    threshold: { above: 0 },
  },
  large: {
    id: 'matches-large-bn',
    claim: 'BCN+WS at the micro-batch is as good as batch norm at the large one.',
    measure: 'test accuracy of BCN+WS at the micro-batch minus that of BN at the large batch',
    threshold: { atLeast: 0 },
  },
  nearer: {
    id: 'gn-nearer',
    claim: 'In training too, group norm brings channels nearer to elimination than BCN does.',
    measure: 'divergence of the channels over the training, GN over BCN, both batch sizes',
    threshold: { above: 1 },
  },
  alive: {
    id: 'bcn-alive',
    claim: 'Batch-channel norm keeps channels alive.',
    measure: 'largest share of dead channels at any moment of the training, BCN and BCN+WS',
    threshold: { atMost: 0.02 },
  },
  smoother: {
    id: 'ws-smoother',
    claim: 'Weight standardization makes the loss smoother along the training.',
    measure: 'effective β over the training, GN+WS over GN (geometric means)',
    threshold: { below: 1 },
  },
  sharpness: {
    id: 'ws-flatter',
    claim: 'Weight standardization ends at a smaller curvature.',
    measure: 'largest eigenvalue of the Hessian, GN+WS over GN',
    threshold: { below: 1 },
  },
  centering: {
    id: 'centring-matters',
    claim: 'Of the gradient, centring takes more than scaling.',
    measure: 'share of the squared gradient that centring takes over the share that scaling takes',
    threshold: { above: 1 },
  },
  flat: {
    id: 'flat-directions',
    claim: 'Every standardised filter is an exact flat direction of the Hessian.',
    measure: 'largest ‖H u‖ / ‖H‖ of combinations u of all null vectors, float32',
    threshold: { atMost: 1e-4 },
  },
} as const satisfies Record<string, Question>

type Part = Partial<Results<BcnResults>>
type Seeds<R> = readonly SeedResult<R>[]

const ROBUST = ['gn', 'gnWs', 'bcn', 'bcnWs'] as const
const REGIMES = ['large', 'micro'] as const

/** All claims for which there are results; a pure function of them. */
export function bcnClaims(results: Part): Claim[] {
  const stack = (names: readonly StackNorm[], value: (row: StackRow, rows: Rows) => number) =>
    stackCases(results.initialization ?? [], names, value)
  const of = (names: readonly VariantName[], value: (r: VariantResult) => number): Case[] =>
    names.flatMap((name) =>
      seedsOf(results, name).map(({ seed, result }) => ({
        name: `${VARIANTS[name].label}, seed ${seed}`,
        value: value(result),
      })),
    )
  const pairs = (
    names: readonly VariantName[],
    other: VariantName,
    value: (a: VariantResult, b: VariantResult) => number,
    what = '',
  ) =>
    names.flatMap((name) =>
      paired(seedsOf(results, name), seedsOf(results, other), value).map((one) => ({
        ...one,
        name: `${VARIANTS[name].label}${what}, ${one.name}`,
      })),
    )
  const both = (a: VariantName, b: VariantName, value: Both): Case[] =>
    REGIMES.flatMap((regime) =>
      pairs([a], b, (x, y) => value(x[regime], y[regime]), `, ${regime} batch`),
    )
  const micro = ({ micro: { accuracy } }: VariantResult) => accuracy
  const change = (r: VariantResult) => r.micro.accuracy - r.large.accuracy
  const claims: [Question, Case[]][] = [
    [QUESTIONS.drift, stack(['gn'], ({ divergence }) => last(divergence))],
    [QUESTIONS.lost, stack(['gn'], ({ dead, linear }) => last(dead) + last(linear))],
    [
      QUESTIONS.standardized,
      stack(['gnWs'], (row, rows) => last(row.divergence) / last(rows.gn?.divergence ?? [])),
    ],
    [QUESTIONS.batch, stack(['bcn', 'bcnWs'], ({ divergence }) => Math.max(...divergence))],
    [QUESTIONS.collapse, of(['bn'], change)],
    [QUESTIONS.hold, of(ROBUST, change)],
    [QUESTIONS.beyond, pairs(ROBUST, 'bn', (x, y) => micro(x) - micro(y))],
    [QUESTIONS.helps, both('gnWs', 'gn', (x, y) => x.accuracy - y.accuracy)],
    [QUESTIONS.best, pairs(['bcnWs'], 'gnWs', (x, y) => micro(x) - micro(y))],
    [QUESTIONS.large, pairs(['bcnWs'], 'bn', (x, y) => micro(x) - y.large.accuracy)],
    [QUESTIONS.nearer, both('gn', 'bcn', (x, y) => divergenceOf(x) / divergenceOf(y))],
    [QUESTIONS.alive, of(['bcn', 'bcnWs'], mostDead)],
    [
      QUESTIONS.smoother,
      pairs(['gnWs'], 'gn', (x, y) => betaOf(x.smoothness) / betaOf(y.smoothness)),
    ],
    [QUESTIONS.sharpness, pairs(['gnWs'], 'gn', (x, y) => topOf(x) / topOf(y))],
    [QUESTIONS.centering, of(['gnWs', 'bcnWs'], centeringOf)],
    [
      QUESTIONS.flat,
      of(['gnWs', 'bcnWs'], ({ landscape }) => landscape?.flat?.residual ?? Number.NaN),
    ],
  ]
  return claims.flatMap(([question, cases]) => (cases.length > 0 ? [judge(question, cases)] : []))
}

type Both = (a: VariantResult['large'], b: VariantResult['large']) => number
type Rows = Partial<Record<StackNorm, StackRow>>

const last = (values: readonly number[]): number => values.at(-1) ?? Number.NaN

/** Mean over the moments of a training; infinite where a channel was constant. */
export function divergenceOf({ channels }: VariantResult['large']): number {
  const values = channels.map(({ divergence }) => divergence ?? Number.POSITIVE_INFINITY)
  return values.reduce((sum, x) => sum + x, 0) / values.length
}

/** Geometric mean over the moments; NaN where one is not known. */
export function betaOf(rows: readonly SmoothnessRow[]): number {
  const logs = rows.map(({ beta }) => Math.log(beta ?? Number.NaN))
  return Math.exp(logs.reduce((sum, x) => sum + x, 0) / logs.length)
}

export const topOf = ({ landscape }: VariantResult): number =>
  landscape?.eigenvalues[0] ?? Number.NaN

function centeringOf({ landscape }: VariantResult): number {
  const ratios = landscape?.ratios
  return ratios ? ratios.centering / ratios.scaling : Number.NaN
}

function mostDead({ large, micro }: VariantResult): number {
  return Math.max(...[...large.channels, ...micro.channels].map(({ dead }) => dead))
}

const seedsOf = (results: Part, name: VariantName): Seeds<VariantResult> =>
  (results[name] ?? []) as Seeds<VariantResult>

function stackCases(
  seeds: Seeds<readonly StackRow[]>,
  names: readonly StackNorm[],
  value: (row: StackRow, rows: Rows) => number,
): Case[] {
  return seeds.flatMap(({ seed, result }) => {
    const rows: Rows = Object.fromEntries(result.map((row) => [row.norm, row]))
    return names.flatMap((name) => {
      const row = rows[name]
      return row
        ? [{ name: `${STACK_NORMS[name].label}, seed ${seed}`, value: value(row, rows) }]
        : []
    })
  })
}

function paired(
  a: Seeds<VariantResult>,
  b: Seeds<VariantResult>,
  value: (a: VariantResult, b: VariantResult) => number,
): Case[] {
  return a.flatMap(({ seed, result }) => {
    const other = b.find((one) => one.seed === seed)
    return other ? [{ name: `seed ${seed}`, value: value(result, other.result) }] : []
  })
}
