import { describe, expect, it } from 'vitest'
import {
  brightness,
  colourJitter,
  contrast,
  hue,
  luminance,
  saturation,
  sharpness,
} from '../../../lib/data/augment/colour.js'
import { Draws } from '../../../lib/data/augment/draws.js'
import { image } from '../../../lib/data/augment/image.js'
import {
  autoContrast,
  equalize,
  invert,
  posterize,
  solarize,
  solarizeAdd,
} from '../../../lib/data/augment/operations.js'
import { grey, noise, rowsOf } from './images.js'

const rgb = (...pixel: number[]) => image(Uint8Array.from(pixel), 3, 1, 1)

describe('colours', () => {
  it('are those of the definitions', () => {
    expect(rowsOf(brightness(grey([0, 100, 200]), 1.5))).toEqual([[0, 150, 255]])
    // Mean 100.
    expect(rowsOf(contrast(grey([0, 100, 200]), 0.5))).toEqual([[50, 100, 150]])
    expect([...luminance(rgb(255, 0, 0))]).toEqual([76])
    expect([...saturation(rgb(255, 0, 0), 0).data]).toEqual([76, 76, 76])
    expect([...saturation(rgb(200, 100, 50), 1).data]).toEqual([200, 100, 50])
    // The centre becomes (8 · 10 + 5 · 140) / 13 = 60; the border stays.
    const dot = grey([10, 10, 10], [10, 140, 10], [10, 10, 10])
    expect(rowsOf(sharpness(dot, 0))).toEqual([
      [10, 10, 10],
      [10, 60, 10],
      [10, 10, 10],
    ])
    expect(rowsOf(sharpness(dot, 2))[1]).toEqual([10, 220, 10])
  })

  it('go round the circle', () => {
    expect([...hue(rgb(255, 0, 0), 1 / 3).data]).toEqual([0, 255, 0])
    expect([...hue(rgb(255, 0, 0), -1 / 3).data]).toEqual([0, 0, 255])
    expect([...hue(rgb(255, 0, 0), 0.5).data]).toEqual([0, 255, 255])
    expect([...hue(rgb(90, 90, 90), 0.2).data]).toEqual([90, 90, 90])
    const source = noise(3, 5, 5)
    expect([...hue(hue(source, 0.5), 0.5).data]).toEqual([...source.data])
  })

  it('jitter within their ranges, deterministically', () => {
    const plan = { brightness: 0.4, contrast: 0, saturation: 0, hue: 0 }
    const seen = Array.from({ length: 2000 }, (_, i) => {
      return colourJitter(grey([100]), plan, new Draws(5, 1, i)).data[0]
    })
    expect(Math.min(...seen)).toBeGreaterThanOrEqual(60)
    expect(Math.max(...seen)).toBeLessThanOrEqual(140)
    // Uniform in [60, 140]: mean 100, standard error 0.52.
    expect(Math.abs(seen.reduce((s, v) => s + v, 0) / 2000 - 100)).toBeLessThan(2.6)
    const all = { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 }
    const source = noise(3, 4, 4)
    const [a, b] = [1, 1].map((i) => [...colourJitter(source, all, new Draws(1, 2, i)).data])
    expect(a).toEqual(b)
    expect(a).not.toEqual([...source.data])
  })

  it('need pixels', () => {
    const real = image(Float32Array.of(0.1, 0.2), 1, 1, 2)
    for (const apply of [autoContrast, (x: typeof real) => brightness(x, 2)]) {
      expect(() => apply(real)).toThrow(expect.objectContaining({ code: 'ERR_DTYPE' }))
    }
  })
})

describe('histogram operations', () => {
  it('are those of the definitions', () => {
    expect(rowsOf(autoContrast(grey([50, 100, 150])))).toEqual([[0, 127, 255]])
    expect(rowsOf(autoContrast(grey([7, 7])))).toEqual([[7, 7]])
    expect(rowsOf(invert(grey([0, 55, 255])))).toEqual([[255, 200, 0]])
    expect(rowsOf(solarize(grey([0, 127, 128, 255]), 128))).toEqual([[0, 127, 127, 0]])
    expect(rowsOf(solarizeAdd(grey([0, 127, 128]), 100))).toEqual([[100, 227, 128]])
    expect(rowsOf(posterize(grey([255, 200, 31]), 3))).toEqual([[224, 192, 0]])
    expect(rowsOf(posterize(grey([255, 200]), 8))).toEqual([[255, 200]])
    expect(rowsOf(posterize(grey([255, 200]), 0))).toEqual([[0, 0]])
  })

  it('equalize spreads the levels evenly', () => {
    const levels = Uint8Array.from({ length: 64 * 64 }, (_, i) => 100 + (i % 16))
    const out = equalize(image(levels, 1, 64, 64))
    const seen = [...new Set(out.data)].sort((a, b) => a - b)
    expect(seen).toHaveLength(16)
    expect([seen[0], seen[15]]).toEqual([0, 255])
    for (let i = 1; i < 16; i++) expect(Math.abs(seen[i] - seen[i - 1] - 17)).toBeLessThanOrEqual(1)
    expect(rowsOf(equalize(grey([3, 3])))).toEqual([[3, 3]])
  })
})
