import { LosscapeError } from '../../errors.js'
import type { Draws } from './draws.js'
import type { Image } from './image.js'
import { OPERATIONS, type OperationName } from './operations.js'

/** RandAugment (Cubuk et al. 2020), with magnitudes that vary as in the DeiT recipe. */
export interface RandAugmentPlan {
  /** m: mean level. Default 9. */
  readonly magnitude: number
  /** n: operations per image, drawn with replacement. Default 2. */
  readonly count: number
  /** Standard deviation of the level. Default 0. */
  readonly deviation: number
  /** Levels are cut off here; 10 is what the ranges of the operations are given for. Default 10. */
  readonly most: number
  /** With which a drawn operation is applied. Default 0.5. */
  readonly probability: number
  /** Default: all fifteen. */
  readonly operations: readonly OperationName[]
}

export const RAND_AUGMENT: RandAugmentPlan = {
  magnitude: 9,
  count: 2,
  deviation: 0,
  most: 10,
  probability: 0.5,
  operations: Object.keys(OPERATIONS) as OperationName[],
}

const FORM = 'm9-n2-mstd0.5-inc1'

/**
 * A plan from the usual text: `m` magnitude, `n` operations, `mstd` deviation, `mmax` highest level,
 * `p` probability, `inc1` (the only levels there are; may be left out), in front of it perhaps `rand`.
 *
 * @throws ERR_ARGUMENT
 */
export function parseRandAugment(text: string): RandAugmentPlan {
  const plan: { -readonly [K in keyof RandAugmentPlan]: RandAugmentPlan[K] } = { ...RAND_AUGMENT }
  const parts = text.split('-')
  if (parts[0] === 'rand') parts.shift()
  for (const part of parts) {
    const match = /^(mstd|mmax|inc|m|n|p)(\d+(?:\.\d+)?)$/.exec(part)
    const value = Number(match?.[2])
    if (!match || (match[1] === 'inc' && value !== 1)) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `RandAugment expected a text such as ${FORM}, got '${part}' in '${text}'.`,
      )
    }
    if (match[1] === 'm') plan.magnitude = value
    if (match[1] === 'n') plan.count = value
    if (match[1] === 'mstd') plan.deviation = value
    if (match[1] === 'mmax') plan.most = value
    if (match[1] === 'p') plan.probability = value
  }
  return plan
}

/** Draws `count` operations; each is applied with its probability, at a level of its own. */
export function randAugment(
  source: Image,
  plan: RandAugmentPlan,
  draws: Draws,
  fill: readonly number[],
): Image {
  const { operations, count, probability, magnitude, deviation, most } = plan
  const names = Array.from({ length: count }, () => operations[draws.integer(operations.length)])
  return names.reduce((held, name) => {
    if (!draws.chance(probability)) return held
    const level = deviation > 0 ? magnitude + deviation * draws.normal() : magnitude
    return OPERATIONS[name](held, Math.max(0, Math.min(most, level)), draws, fill)
  }, source)
}
