import type { Device } from '../device/device.js'
import { LosscapeError } from '../errors.js'
import type { NativeBuffer } from '../native.js'
import { elements } from '../program/shape.js'
import { normals, stream, uniforms, type Word64 } from '../random/index.js'
import { allocate, type Precision } from './operator.js'
import { noisePerDraw, requireLikelihood } from './scores.js'
import type { CurvatureSetting } from './setting.js'

/** Of {@link fisherMonteCarlo}. */
export interface DrawOptions {
  /** S, targets drawn per sample. Default 1. */
  readonly draws?: number
  /** Default 0. */
  readonly seed?: Word64
}

/** @throws ERR_ARGUMENT unless S is a positive integer */
export function requireDraws(draws: number): number {
  if (Number.isInteger(draws) && draws >= 1 && draws <= 2 ** 20) return draws
  throw new LosscapeError('ERR_ARGUMENT', `draws must be a positive integer, got ${draws}.`)
}

/**
 * The numbers that choose the drawn targets, in device storage: rows of S draws, padded to whole
 * chunks. Number k of draw s of a sample is element index * per + k of stream s, with the sample's
 * index in the whole data set: the draws depend on nothing else.
 */
export function uploadNoise(
  device: Device,
  setting: CurvatureSetting,
  indexOf: (i: number) => number,
  seed: Word64,
  precision: Precision,
): { buffer: NativeBuffer; rowBytes: number } {
  const { model, loss, set, batch, draws = 1 } = setting
  const likelihood = requireLikelihood(loss, 'The Monte-Carlo Fisher')
  const per = noisePerDraw(likelihood, elements(model.output))
  const fill = likelihood.family === 'gaussian' ? normals : uniforms
  const width = draws * per
  const rows = Math.ceil(set.size / batch) * batch
  const noise = allocate(precision, rows * width)
  for (let i = 0; i < set.size; i++) {
    for (let s = 0; s < draws; s++) {
      const at = i * width + s * per
      fill(seed, stream('fisher', s), indexOf(i) * per, per, noise.subarray(at, at + per))
    }
  }
  const buffer = device.binding.createBuffer(noise.byteLength)
  // The queue keeps order: whatever runs later sees the numbers.
  buffer.write(0, noise).catch(() => {})
  return { buffer, rowBytes: width * noise.BYTES_PER_ELEMENT }
}
