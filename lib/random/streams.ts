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
} as const

/** What a stream of random numbers is for; equal seeds never share numbers across purposes. */
export type StreamPurpose = keyof typeof PURPOSES

/**
 * The stream number of the `index`-th stream of a purpose: purpose in the high 32 bits,
 * index in the low ones. `stream('shuffle', 3)` is the order of epoch 3.
 * Throws ERR_ARGUMENT when `index` is not an unsigned 32-bit integer.
 */
export function stream(purpose: StreamPurpose, index = 0): bigint {
  if (!Number.isInteger(index) || index < 0 || index > 0xffffffff) {
    throw new LosscapeError('ERR_ARGUMENT', `stream index must be in [0, 2^32); got ${index}.`)
  }
  return (BigInt(PURPOSES[purpose]) << 32n) | BigInt(index)
}
