import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { affine, rotate } from '../../../lib/data/augment/affine.js'
import { flip, paddedCrop, randomPart } from '../../../lib/data/augment/crop.js'
import { Draws } from '../../../lib/data/augment/draws.js'
import { fromInterleaved, image } from '../../../lib/data/augment/image.js'
import {
  axisWeights,
  centreCrop,
  denseWeights,
  part,
  resized,
  resizedPart,
} from '../../../lib/data/augment/resample.js'
import { grey, noise, rowsOf } from './images.js'

describe('resizing', () => {
  it('by the triangle filter, with cut-off weights at the border', () => {
    // Centres of the four outputs in input pixels: -1/4, 1/4, 3/4, 5/4 from the first centre.
    expect(rowsOf(resized(grey([0, 100], [0, 100]), [2, 4]))).toEqual([
      [0, 25, 75, 100],
      [0, 25, 75, 100],
    ])
  })

  it('averages when it shrinks', () => {
    const wide = grey([10, 20, 30, 40, 50, 60, 70, 80])
    // Triangle of half-width 4: weights (1, 3, 5, 7, 7, ..) / 8, cut off at the left end.
    const weights = [1, 3, 5, 7, 7, 5, 3, 1]
    const at = (centre: number) => {
      const used = weights.map((w, i) => [w, centre - 4 + i]).filter(([, i]) => i >= 0 && i < 8)
      const sum = used.reduce((total, [w]) => total + w, 0)
      return Math.round(used.reduce((total, [w, i]) => total + w * 10 * (i + 1), 0) / sum)
    }
    expect(rowsOf(resized(wide, [1, 2]))).toEqual([[at(2), at(6)]])
  })

  it.each(['bilinear', 'bicubic'] as const)('%s weights sum to 1 and keep constants', (filter) => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 40 }), (from, to) => {
        const matrix = denseWeights(axisWeights(0, from, to, filter), from)
        for (let i = 0; i < to; i++) {
          const sum = matrix.subarray(i * from, (i + 1) * from).reduce((s, w) => s + w, 0)
          expect(sum).toBeCloseTo(1, 12)
        }
      }),
    )
  })

  it('keeps a line straight away from the border, with the cubic filter too', () => {
    const line = Float64Array.from({ length: 12 }, (_, i) => 3 * i + 1)
    const { data } = resized(image(line, 1, 1, 12), [1, 48], 'bicubic')
    for (let i = 8; i < 40; i++) expect(data[i]).toBeCloseTo(3 * ((i + 0.5) / 4 - 0.5) + 1, 10)
  })

  it('overshoots with the cubic filter and stays within bytes', () => {
    const rows = rowsOf(resized(grey([0, 0, 255, 255]), [1, 16], 'bicubic'))
    expect(Math.min(...rows[0])).toBe(0)
    expect(Math.max(...rows[0])).toBe(255)
  })

  it('of a part sees nothing outside it', () => {
    const source = grey([9, 9, 9, 9], [9, 1, 3, 9], [9, 5, 7, 9], [9, 9, 9, 9])
    const box = { top: 1, left: 1, height: 2, width: 2 }
    expect(rowsOf(part(source, box))).toEqual([
      [1, 3],
      [5, 7],
    ])
    const large = resizedPart(source, box, [6, 6], 'bilinear')
    expect(Math.max(...large.data)).toBe(7)
    expect([...large.data]).toEqual([...resized(part(source, box), [6, 6]).data])
  })

  it('for evaluation cuts the centre out of the larger image', () => {
    const source = noise(3, 10, 14)
    expect([...centreCrop(source, [10, 10]).data]).toEqual([
      ...part(source, { top: 0, left: 2, height: 10, width: 10 }).data,
    ])
    const zoomed = resized(source, [20, 28], 'bicubic')
    expect([...centreCrop(source, [16, 16], 0.8, 'bicubic').data]).toEqual([
      ...part(zoomed, { top: 2, left: 6, height: 16, width: 16 }).data,
    ])
  })
})

describe('crops and flips', () => {
  it('move the image within its border', () => {
    const source = grey([1, 2], [3, 4])
    expect(rowsOf(paddedCrop(source, 1, 1, 1))).toEqual(rowsOf(source))
    expect(rowsOf(paddedCrop(source, 1, 0, 2))).toEqual([
      [0, 0],
      [2, 0],
    ])
    expect(rowsOf(paddedCrop(source, 1, 2, 0, 'fill', [9]))).toEqual([
      [9, 3],
      [9, 9],
    ])
    expect(rowsOf(paddedCrop(source, 1, 0, 0, 'reflect'))).toEqual([
      [4, 3],
      [2, 1],
    ])
  })

  it('mirror every row of every channel', () => {
    const source = image(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), 2, 2, 2)
    expect([...flip(source).data]).toEqual([2, 1, 4, 3, 6, 5, 8, 7])
  })

  it('of random size have the area and shape asked for, and fit', () => {
    const ratios: number[] = []
    let area = 0
    const count = 4000
    for (let i = 0; i < count; i++) {
      const box = randomPart(new Draws(3, 0, i), 100, 100, [0.25, 0.5], [0.5, 2])
      expect(box.top + box.height <= 100 && box.left + box.width <= 100).toBe(true)
      expect(box.top >= 0 && box.left >= 0).toBe(true)
      ratios.push(Math.log(box.width / box.height))
      area += (box.width * box.height) / 1e4 / count
    }
    // Share uniform in [1/4, 1/2], log ratio uniform in ±log 2: means 0.375 and 0, standard errors
    // 0.0012 and 0.0063; nothing is rejected, since √(1/2 · 2) = 1.
    expect(Math.abs(area - 0.375)).toBeLessThan(0.006)
    const mean = ratios.reduce((sum, r) => sum + r, 0) / count
    expect(Math.abs(mean)).toBeLessThan(0.03)
    expect(Math.max(...ratios)).toBeLessThan(Math.log(2) + 0.03)
  })

  it('fall back to the centre where nothing fits', () => {
    const box = randomPart(new Draws(1, 0, 0), 10, 100, [1, 1], [0.5, 2])
    expect(box).toEqual({ top: 0, left: 40, height: 10, width: 20 })
  })
})

describe('affine maps', () => {
  it('shift by whole pixels and fill the rest', () => {
    expect(rowsOf(affine(grey([1, 2, 3]), [1, 0, 1, 0, 1, 0], [7]))).toEqual([[2, 3, 7]])
  })

  it('turn counter-clockwise', () => {
    expect(rowsOf(rotate(grey([1, 2], [3, 4]), 90, [0]))).toEqual([
      [2, 4],
      [1, 3],
    ])
  })

  it('interpolate between pixels', () => {
    expect(rowsOf(affine(grey([0, 100, 200]), [1, 0, 0.25, 0, 1, 0], [0]))).toEqual([
      [25, 125, 200],
    ])
  })

  it('fill each channel with its own value', () => {
    const source = noise(3, 4, 4)
    const out = affine(source, [1, 0, 100, 0, 1, 0], [1, 2, 3])
    expect([...out.data]).toEqual([
      ...Array(16).fill(1),
      ...Array(16).fill(2),
      ...Array(16).fill(3),
    ])
  })
})

it('interleaved rows become planes', () => {
  const made = fromInterleaved(Uint8Array.of(1, 2, 3, 4, 5, 6), 3, 1, 2)
  expect([...made.data]).toEqual([1, 4, 2, 5, 3, 6])
  expect(() => image(new Uint8Array(5), 1, 2, 3)).toThrow(
    expect.objectContaining({ code: 'ERR_SHAPE' }),
  )
})
