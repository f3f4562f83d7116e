import { LosscapeError } from '../../errors.js'
import type { Word64 } from '../../random/index.js'

/** What every procedural set takes. */
export interface SyntheticOptions {
  /** Number of training samples. */
  n?: number
  /** Number of test samples; streams of their own, so neither set depends on the other's size. */
  test?: number
  /** Default 0. Same seed, same bytes. */
  seed?: Word64
  /** Default 'train'. */
  split?: 'train' | 'test'
  /** Checked where the set is made in slices (`data.load()`, glyphs). */
  signal?: AbortSignal
}

/** The names of {@link SyntheticOptions}. */
export const SYNTHETIC = ['n', 'test', 'seed', 'split', 'signal'] as const

/** Throws ERR_ARGUMENT unless `value` is an integer of at least `least`. */
export function integerOption(what: string, value: number, least = 1): number {
  if (Number.isSafeInteger(value) && value >= least) return value
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `${what} must be an integer of at least ${least}; got ${value}.`,
  )
}

/** Throws ERR_ARGUMENT unless `value` is finite and not negative. */
export function amountOption(what: string, value: number): number {
  if (Number.isFinite(value) && value >= 0) return value
  throw new LosscapeError('ERR_ARGUMENT', `${what} must be finite and not negative; got ${value}.`)
}
