import { type DataSet, type Device, data, type Model, models, open } from '../lib/index.js'
import type { BenchContext } from './types.js'

export const MLP784 = [784, 256, 256, 10] as const
export const MLP_SMALL = [64, 30, 30, 10] as const

/** A relu network of these widths, all but the first and last hidden. */
export function mlp(sizes: readonly number[]): Model {
  return models.mlp({
    input: sizes[0],
    hidden: sizes.slice(1, -1),
    classes: sizes[sizes.length - 1],
    activation: 'relu',
  })
}

/** Samples of unit variance with random labels: the same numbers in every run. */
export function randomSet(samples: number, width: number, classes: number): DataSet {
  const next = uniform(2)
  const scale = Math.sqrt(12)
  const x = Float32Array.from({ length: samples * width }, () => (next() - 0.5) * scale)
  const y = Int32Array.from({ length: samples }, () => Math.floor(next() * classes))
  return data.fromArrays(x, y, { shape: [width], classes })
}

/** Random images of CIFAR's shape. */
export function randomImages(count: number): DataSet {
  const x = randomVector(count * 3 * 32 * 32, 2).map((value) => value * Math.sqrt(3))
  const y = Int32Array.from({ length: count }, (_, i) => (i * 31) % 10)
  return data.fromArrays(x, y, { shape: [3, 32, 32], classes: 10 })
}

/** A vector with elements in [-1, 1). */
export function randomVector(length: number, seed: number): Float32Array {
  const next = uniform(seed)
  return Float32Array.from({ length }, () => 2 * next() - 1)
}

export function openDevice({ device, threads }: BenchContext): Promise<Device> {
  return open({ device, threads })
}

/** Weyl sequence through an integer hash: cheap, and good enough for sizes and timings. */
function uniform(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x9e3779b9) >>> 0
    let z = Math.imul(state ^ (state >>> 16), 0x85ebca6b)
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35)
    return ((z ^ (z >>> 16)) >>> 0) / 2 ** 32
  }
}
