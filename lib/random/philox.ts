import { newArray } from '../allocation.js'
import { LosscapeError } from '../errors.js'

/**
 * A seed or stream number: a non-negative integer, exact as a `number` up to 2^53 - 1
 * or as a `bigint` up to 2^64 - 1.
 */
export type Word64 = number | bigint

/** The low and high 32 bits of a {@link Word64}. */
export type WordPair = readonly [low: number, high: number]

const M0 = 0xd2511f53
const M1 = 0xcd9e8d57
const W0 = 0x9e3779b9
const W1 = 0xbb67ae85
const TWO_32 = 4294967296

/** Splits `value` into two unsigned 32-bit words. Throws ERR_ARGUMENT outside [0, 2^64). */
export function wordPair(value: Word64, what = 'seed'): WordPair {
  if (typeof value === 'bigint') {
    if (value >= 0n && value < 1n << 64n) {
      return [Number(value & 0xffffffffn), Number(value >> 32n)]
    }
  } else if (Number.isSafeInteger(value) && value >= 0) {
    return [value >>> 0, Math.floor(value / TWO_32)]
  }
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `${what} must be an integer from 0 to 2^53 - 1, or a bigint below 2^64; got ${String(value)}.`,
  )
}

/** High 32 bits of the 64-bit product of two unsigned 32-bit words. */
export function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff
  const aHigh = a >>> 16
  const bLow = b & 0xffff
  const bHigh = b >>> 16
  const low = Math.imul(aLow, bLow) >>> 0
  // Each partial sum stays below 2^32: (2^16 - 1)^2 + 2^16 - 1 < 2^32.
  const middle = (Math.imul(aHigh, bLow) >>> 0) + (low >>> 16)
  const cross = (Math.imul(aLow, bHigh) >>> 0) + (middle & 0xffff)
  return ((Math.imul(aHigh, bHigh) >>> 0) + (middle >>> 16) + (cross >>> 16)) >>> 0
}

/**
 * One block of Philox 4x32-10: four uniform 32-bit words that depend on nothing but
 * `key` (2 words) and `counter` (4 words), so any element of any stream can be had
 * without the ones before it. `out` may be `counter`.
 *
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 */
export function philoxBlock(
  key: ArrayLike<number>,
  counter: ArrayLike<number>,
  out: Uint32Array,
): void {
  let k0 = key[0]
  let k1 = key[1]
  let c0 = counter[0]
  let c1 = counter[1]
  let c2 = counter[2]
  let c3 = counter[3]
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(M0, c0)
    const high1 = multiplyHigh(M1, c2)
    const low0 = Math.imul(M0, c0)
    const low1 = Math.imul(M1, c2)
    c0 = high1 ^ c1 ^ k0
    c1 = low1
    c2 = high0 ^ c3 ^ k1
    c3 = low0
    k0 = (k0 + W0) | 0
    k1 = (k1 + W1) | 0
  }
  out[0] = c0
  out[1] = c1
  out[2] = c2
  out[3] = c3
}

/**
 * Elements `start` ... `start + count - 1` of a stream of uniform 32-bit words. Element i
 * is word i mod 4 of the block with counter (i div 4 as u64, stream as u64) under the key
 * `seed`. The C++ twin is `native/runtime/random.h`; both give the same bits.
 */
export function words(
  seed: Word64,
  stream: Word64,
  start: number,
  count: number,
  out: Uint32Array = newArray(Uint32Array, count, 'Random words'),
): Uint32Array {
  checkRange(start, count)
  const key = wordPair(seed, 'seed')
  const [streamLow, streamHigh] = wordPair(stream, 'stream')
  const counter = new Uint32Array([0, 0, streamLow, streamHigh])
  const block = new Uint32Array(4)
  const end = start + count
  for (let i = start; i < end; ) {
    const index = Math.floor(i / 4)
    counter[0] = index >>> 0
    counter[1] = Math.floor(index / TWO_32)
    philoxBlock(key, counter, block)
    const stop = Math.min(end, index * 4 + 4)
    for (; i < stop; i++) out[i - start] = block[i - index * 4]
  }
  return out
}

function checkRange(start: number, count: number): void {
  if (Number.isSafeInteger(start) && start >= 0 && Number.isSafeInteger(count) && count >= 0) return
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `start and count must be non-negative integers; got start ${start}, count ${count}.`,
  )
}
