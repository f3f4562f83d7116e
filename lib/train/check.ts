import { LosscapeError } from '../errors.js'

/** Throws ERR_ARGUMENT, `SUBJECT expected WHAT, got GOT.`, unless the condition holds. */
export function checkOption(
  condition: boolean,
  subject: string,
  what: string,
  got: unknown,
): asserts condition {
  if (condition) return
  throw new LosscapeError('ERR_ARGUMENT', `${subject} expected ${what}, got ${String(got)}.`)
}

export const isCount = (value: number): boolean => Number.isSafeInteger(value) && value >= 1

export const isRate = (value: number): boolean => Number.isFinite(value) && value >= 0
