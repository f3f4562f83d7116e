import { LosscapeError } from '../errors.js'

const PURPOSES = {
  user: 0,
  data: 1,
  split: 2,
  labels: 3,
  init: 4,
  shuffle: 5,
  dropout: 6,
  probe: 7,
  augment: 8,
  fisher: 9,
  mixing: 10,
} as const

/** What a stream of random numbers is for; equal seeds never share numbers across purposes. */
export type StreamPurpose = keyof typeof PURPOSES

/**
 * The stream number of the `index`-th stream of a purpose: 2^31 + purpose in the high 32 bits,
 * index in the low ones. `stream('shuffle', 3)` is the order of epoch 3. Random operations of
 * programs keep the step in the high word, below 2^31, so the two never share a stream.
 * Throws ERR_ARGUMENT when `index` is not an unsigned 32-bit integer.
 */
export function stream(purpose: StreamPurpose, index = 0): bigint {
  if (!Number.isInteger(index) || index < 0 || index > 0xffffffff) {
    throw new LosscapeError('ERR_ARGUMENT', `stream index must be in [0, 2^32); got ${index}.`)
  }
  return (BigInt(2 ** 31 + PURPOSES[purpose]) << 32n) | BigInt(index)
}
