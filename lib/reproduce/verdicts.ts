import { LosscapeError } from '../errors.js'

/** 'seen' in every case, 'mixed' in at least half of them, else 'not seen'. */
export type Verdict = 'seen' | 'mixed' | 'not seen'

/** A number holds when it lies within the limits that are given. */
export interface Threshold {
  readonly atLeast?: number
  readonly atMost?: number
  readonly above?: number
  readonly below?: number
}

/** One measurement: usually a setting and a seed. */
export interface Case {
  readonly name: string
  readonly value: number
}

/** A statement of a paper, and how it is put to the test. */
export interface Question {
  /** Short and stable, for programs. */
  readonly id: string
  /** What the paper says. */
  readonly claim: string
  /** The quantity that is held against the threshold. */
  readonly measure: string
  readonly threshold: Threshold
}

/** A question with its answer. */
export interface Claim extends Question {
  readonly cases: readonly (Case & { readonly holds: boolean })[]
  readonly verdict: Verdict
}

/** Whether a number lies within the limits; NaN does not. */
export function holds(value: number, { atLeast, atMost, above, below }: Threshold): boolean {
  if (Number.isNaN(value)) return false
  return (
    (atLeast === undefined || value >= atLeast) &&
    (atMost === undefined || value <= atMost) &&
    (above === undefined || value > above) &&
    (below === undefined || value < below)
  )
}

/**
 * The verdict of cases: 'seen' when all hold, 'mixed' when at least half do, else 'not seen'.
 * @throws ERR_ARGUMENT without a case
 */
export function verdictOf(cases: readonly { readonly holds: boolean }[]): Verdict {
  if (cases.length === 0) {
    throw new LosscapeError('ERR_ARGUMENT', 'A verdict needs at least one case.')
  }
  const count = cases.filter((one) => one.holds).length
  if (count === cases.length) return 'seen'
  return 2 * count >= cases.length ? 'mixed' : 'not seen'
}

/** Holds measurements against a question's threshold. A pure function of both. */
export function judge(question: Question, cases: readonly Case[]): Claim {
  const judged = cases.map((one) => ({ ...one, holds: holds(one.value, question.threshold) }))
  return { ...question, cases: judged, verdict: verdictOf(judged) }
}

/** `≥ 0.75`, `> 2`, `≥ 0.1 and ≤ 0.4`. */
export function thresholdText({ atLeast, atMost, above, below }: Threshold): string {
  const parts: [string, number | undefined][] = [
    ['≥', atLeast],
    ['>', above],
    ['≤', atMost],
    ['<', below],
  ]
  return parts
    .flatMap(([sign, limit]) => (limit === undefined ? [] : [`${sign} ${limit}`]))
    .join(' and ')
}
