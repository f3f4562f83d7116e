import { newArray } from '../allocation.js'
import { LosscapeError } from '../errors.js'
import { ranges, type Slices } from '../slices.js'
import { inverseNormal } from './elementary.js'
import { multiplyHigh, type Word64, words } from './philox.js'

/** Where sampled real numbers may be written. */
export type FloatArray = Float32Array | Float64Array

const TWO_NEG_32 = 2 ** -32
const CHUNK = 4096

/**
 * Uniform numbers in (0, 1): element i is (word_i + 1/2) 2^-32 of stream `stream` under `seed`,
 * for i from `start` on. Exact in float64; written into a Float32Array the largest round to 1.
 */
export function uniforms<T extends FloatArray = Float64Array>(
  seed: Word64,
  stream: Word64,
  start: number,
  count: number,
  out: T = newArray(Float64Array, count, 'Random numbers') as FloatArray as T,
): T {
  fill(seed, stream, start, count, out, (word) => (word + 0.5) * TWO_NEG_32)
  return out
}

/**
 * Standard normal numbers, one word each: element i is the normal quantile of uniform i
 * (|z| <= 6.34). Float64, then rounded to the type of `out`.
 */
export function normals<T extends FloatArray = Float64Array>(
  seed: Word64,
  stream: Word64,
  start: number,
  count: number,
  out: T = newArray(Float64Array, count, 'Random numbers') as FloatArray as T,
): T {
  fill(seed, stream, start, count, out, (word) => inverseNormal((word + 0.5) * TWO_NEG_32))
  return out
}

/** {@link normals} or {@link uniforms} from element 0 on, in slices; the same numbers. */
export function* fillSlices<T extends FloatArray>(
  generate: typeof normals,
  seed: Word64,
  stream: Word64,
  out: T,
): Slices<T> {
  for (const [from, to] of ranges(out.length)) {
    generate(seed, stream, from, to - from, out.subarray(from, to) as FloatArray)
    yield
  }
  return out
}

/** Signs: element i is +1 where bit i mod 32 of word i div 32 is set, else -1. */
export function rademacher<T extends FloatArray = Float64Array>(
  seed: Word64,
  stream: Word64,
  start: number,
  count: number,
  out: T = newArray(Float64Array, count, 'Random numbers') as FloatArray as T,
): T {
  const first = Math.floor(start / 32)
  const last = Math.floor((start + count + 31) / 32)
  const bits = words(seed, stream, first, last - first)
  for (let i = 0; i < count; i++) {
    const position = start + i - first * 32
    out[i] = (bits[Math.floor(position / 32)] >>> (position & 31)) & 1 ? 1 : -1
  }
  return out
}

/**
 * Integers in [0, bound): element i is floor(word_i * bound / 2^32), so every value's
 * probability is 1 / bound within 2^-32. Throws ERR_ARGUMENT unless 1 <= bound <= 2^32 - 1.
 */
export function integers(
  seed: Word64,
  stream: Word64,
  start: number,
  count: number,
  bound: number,
): Uint32Array {
  if (!Number.isInteger(bound) || bound < 1 || bound > 0xffffffff) {
    throw new LosscapeError('ERR_ARGUMENT', `bound must be from 1 to 2^32 - 1; got ${bound}.`)
  }
  const out = words(seed, stream, start, count)
  for (let i = 0; i < count; i++) out[i] = multiplyHigh(out[i], bound)
  return out
}

/**
 * A random order of 0 ... n - 1 (Fisher-Yates from the end; position i swaps with
 * floor(word_i * (i + 1) / 2^32)). Same seed and stream, same order, here and natively.
 */
export function permutation(seed: Word64, stream: Word64, n: number): Uint32Array {
  if (!Number.isInteger(n) || n < 0 || n > 0xffffffff) {
    throw new LosscapeError('ERR_ARGUMENT', `n must be from 0 to 2^32 - 1; got ${n}.`)
  }
  const draws = words(seed, stream, 0, n)
  const order = newArray(Uint32Array, n, 'A permutation')
  for (let i = 0; i < n; i++) order[i] = i
  for (let i = n - 1; i > 0; i--) {
    const j = multiplyHigh(draws[i], i + 1)
    const held = order[i]
    order[i] = order[j]
    order[j] = held
  }
  return order
}

function fill(
  seed: Word64,
  stream: Word64,
  start: number,
  count: number,
  out: FloatArray,
  map: (word: number) => number,
): void {
  const buffer = new Uint32Array(Math.min(count, CHUNK))
  for (let done = 0; done < count; done += CHUNK) {
    const size = Math.min(CHUNK, count - done)
    words(seed, stream, start + done, size, buffer)
    for (let i = 0; i < size; i++) out[done + i] = map(buffer[i])
  }
}
