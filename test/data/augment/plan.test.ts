import { describe, expect, it } from 'vitest'
import { fromArrays } from '../../../lib/data/arrays.js'
import { augmentImage } from '../../../lib/data/augment/augment.js'
import { Draws } from '../../../lib/data/augment/draws.js'
import { OPERATIONS, type OperationName } from '../../../lib/data/augment/operations.js'
import { type AugmentOptions, resolveAugment } from '../../../lib/data/augment/options.js'
import {
  parseRandAugment,
  RAND_AUGMENT,
  randAugment,
} from '../../../lib/data/augment/rand-augment.js'
import { withSize } from '../../../lib/data/resize.js'
import { stream, words } from '../../../lib/random/index.js'
import { noise } from './images.js'

const source = noise(3, 8, 8)
const set = fromArrays(source.data, Int32Array.of(0), {
  shape: [3, 8, 8],
  normalization: { mean: [0.2, 0.4, 0.6], std: [1, 1, 1] },
})

describe('draws', () => {
  it('are the words of the stream, from the index on', () => {
    const draws = new Draws(7, stream('augment', 3), 5)
    const expected = words(7, stream('augment', 3), 5 * 2 ** 16, 9)
    expect(Array.from({ length: 9 }, () => draws.word())).toEqual([...expected])
  })

  it.each([0.3, 0.8, 1, 3])('of Beta(%d, same) have its moments', (a) => {
    const count = 4000
    const values = Array.from({ length: count }, (_, i) => new Draws(2, 9, i).symmetricBeta(a))
    const mean = values.reduce((s, v) => s + v, 0) / count
    const variance = values.reduce((s, v) => s + (v - mean) ** 2, 0) / count
    const expected = 1 / (4 * (2 * a + 1))
    expect(values.every((v) => v >= 0 && v <= 1)).toBe(true)
    // Five standard errors of the mean; the fourth moment of a Beta is at most its variance / 4.
    expect(Math.abs(mean - 0.5)).toBeLessThan(5 * Math.sqrt(expected / count))
    expect(Math.abs(variance - expected)).toBeLessThan(5 * Math.sqrt(expected / 4 / count))
  })
})

describe('RandAugment', () => {
  it('reads the usual text', () => {
    expect(parseRandAugment('rand-m15-n2-mstd1.0-inc1')).toEqual({
      ...RAND_AUGMENT,
      magnitude: 15,
      count: 2,
      deviation: 1,
    })
    expect(parseRandAugment('m5-mmax7-p1')).toMatchObject({ magnitude: 5, most: 7, probability: 1 })
    for (const text of ['', 'm', 'm9-x3', 'm9-inc0', 'm-9']) {
      expect(() => parseRandAugment(text)).toThrow(
        expect.objectContaining({ code: 'ERR_ARGUMENT' }),
      )
    }
  })

  it('applies each operation half of the time, a pure function of the draws', () => {
    const plan = { ...RAND_AUGMENT, count: 1, operations: ['invert'] as OperationName[] }
    let changed = 0
    for (let i = 0; i < 1000; i++) {
      const out = randAugment(source, plan, new Draws(1, 0, i), [0])
      changed += out.data[0] === source.data[0] ? 0 : 1
    }
    // Standard error 16.
    expect(Math.abs(changed - 500)).toBeLessThan(80)
  })

  it.each(Object.keys(OPERATIONS) as OperationName[])('%s keeps shape and source', (name) => {
    const before = [...source.data]
    const levels = [0, 5, 10].map((level) =>
      OPERATIONS[name](source, level, new Draws(4, 0, level), [1, 2, 3]),
    )
    for (const out of levels) expect(out).toMatchObject({ channels: 3, height: 8, width: 8 })
    expect([...source.data]).toEqual(before)
    const repeated = OPERATIONS[name](source, 10, new Draws(4, 0, 10), [1, 2, 3])
    expect([...repeated.data]).toEqual([...levels[2].data])
    const still = ['autoContrast', 'equalize'].includes(name)
    if (!still) expect([...levels[2].data]).not.toEqual(before)
  })

  it('of level 0 leaves the image as it is where it scales', () => {
    for (const name of ['rotate', 'shearX', 'translateY', 'color', 'sharpness'] as const) {
      const out = OPERATIONS[name](source, 0, new Draws(1, 0, 0), [0])
      expect([...out.data]).toEqual([...source.data])
    }
  })
})

describe('plans', () => {
  const everything: AugmentOptions = {
    size: 12,
    resizedCrop: true,
    flip: true,
    randAugment: 'm9-n2-mstd0.5-inc1',
    colourJitter: 0.4,
  }

  it('fill in the defaults', () => {
    expect(resolveAugment({}, set)).toEqual({
      size: [8, 8],
      interpolation: 'bilinear',
      resizedCrop: null,
      paddedCrop: null,
      flip: 0,
      randAugment: null,
      colourJitter: null,
      fill: [51, 102, 153],
    })
    expect(resolveAugment({}, withSize(set, [6, 4], { interpolation: 'bicubic' }))).toMatchObject({
      size: [6, 4],
      interpolation: 'bicubic',
    })
    expect(resolveAugment(everything, set)).toMatchObject({
      size: [12, 12],
      resizedCrop: { scale: [0.08, 1], ratio: [3 / 4, 4 / 3] },
      flip: 0.5,
      randAugment: { magnitude: 9, count: 2, deviation: 0.5 },
      colourJitter: { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0 },
    })
  })

  it('give the same image for the same draws, another for others, and keep the source', () => {
    const plan = resolveAugment(everything, set)
    const before = [...source.data]
    const make = (index: number) => [...augmentImage(source, plan, new Draws(1, 0, index)).data]
    expect(make(3)).toEqual(make(3))
    expect(make(3)).not.toEqual(make(4))
    expect(make(3)).toHaveLength(3 * 144)
    const flips = resolveAugment({ flip: 1 }, set)
    expect([...augmentImage(source, flips, new Draws(1, 0, 0)).data.subarray(0, 8)]).toEqual(
      before.slice(0, 8).reverse(),
    )
    expect([...source.data]).toEqual(before)
  })

  it.each<[string, string, unknown]>([
    ['no option', 'ERR_ARGUMENT', { crop: 4 }],
    ['size', 'ERR_ARGUMENT', { size: 0 }],
    ['size', 'ERR_ARGUMENT', { size: [3] }],
    ['interpolation', 'ERR_ARGUMENT', { interpolation: 'nearest' }],
    ['flip', 'ERR_ARGUMENT', { flip: 2 }],
    ['scale', 'ERR_ARGUMENT', { resizedCrop: { scale: [0, 1] } }],
    ['scale', 'ERR_ARGUMENT', { resizedCrop: { scale: [0.5, 2] } }],
    ['ratio', 'ERR_ARGUMENT', { resizedCrop: { ratio: [2, 1] } }],
    ['paddedCrop', 'ERR_ARGUMENT', { paddedCrop: -1 }],
    ['border', 'ERR_ARGUMENT', { paddedCrop: { border: 'wrap' } }],
    ['paddedCrop', 'ERR_ARGUMENT', { paddedCrop: 2, resizedCrop: true }],
    ['RandAugment', 'ERR_ARGUMENT', { randAugment: 'strong' }],
    ['magnitude', 'ERR_ARGUMENT', { randAugment: { magnitude: -1 } }],
    ['operations', 'ERR_ARGUMENT', { randAugment: { operations: ['blur'] } }],
    ['count', 'ERR_ARGUMENT', { randAugment: { count: 0 } }],
    ['colourJitter', 'ERR_ARGUMENT', { colourJitter: -1 }],
    ['hue', 'ERR_ARGUMENT', { colourJitter: { hue: 1 } }],
  ])('refuse a bad %s', (what, code, options) => {
    expect(() => resolveAugment(options as AugmentOptions, set)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(what) }),
    )
  })

  it('refuse what is no image, and colours of numbers that are no pixels', () => {
    const vectors = fromArrays(new Uint8Array(4), Int32Array.of(0), { shape: [4] })
    expect(() => resolveAugment({ flip: true }, vectors)).toThrow(
      expect.objectContaining({ code: 'ERR_SHAPE' }),
    )
    const real = fromArrays(new Float32Array(16), Int32Array.of(0), { shape: [4, 4] })
    expect(() => resolveAugment({ colourJitter: 0.4 }, real)).toThrow(
      expect.objectContaining({ code: 'ERR_DTYPE' }),
    )
    expect(resolveAugment({ paddedCrop: 1, flip: true }, real)).toMatchObject({ flip: 0.5 })
  })
})
