import { describe, expect, it } from 'vitest'
import { Draws } from '../../lib/data/augment/draws.js'
import { resolveEma } from '../../lib/train/ema.js'
import {
  checkMixing,
  drawMix,
  type MixPlan,
  mixSamples,
  mixTargets,
} from '../../lib/train/mixup.js'

const PLAN: MixPlan = { mixup: 0.8, cutmix: 1, switchProbability: 0.5, classes: 3 }

describe('drawn mixes', () => {
  it('take CutMix half of the time, and what is on otherwise', () => {
    const kinds = Array.from(
      { length: 1000 },
      (_, i) => drawMix(PLAN, new Draws(1, 0, i), 8, 8).kind,
    )
    // Standard error 16.
    expect(Math.abs(kinds.filter((kind) => kind === 'cutmix').length - 500)).toBeLessThan(80)
    for (let i = 0; i < 50; i++) {
      expect(drawMix({ ...PLAN, cutmix: 0 }, new Draws(1, 0, i), 8, 8).kind).toBe('mixup')
      expect(drawMix({ ...PLAN, mixup: 0 }, new Draws(1, 0, i), 8, 8).kind).toBe('cutmix')
    }
  })

  it('of CutMix tell the share of the area that is left, within the image', () => {
    const shares: number[] = []
    for (let i = 0; i < 2000; i++) {
      const mix = drawMix({ ...PLAN, mixup: 0 }, new Draws(2, 0, i), 20, 30)
      if (mix.kind !== 'cutmix') throw new Error('expected CutMix')
      const { top, left, height, width } = mix.box
      expect(top >= 0 && left >= 0 && top + height <= 20 && left + width <= 30).toBe(true)
      expect(mix.lambda).toBeCloseTo(1 - (height * width) / 600, 12)
      shares.push(mix.lambda)
    }
    // Uniform λ before the boxes are cut off at the border, which leaves more.
    const mean = shares.reduce((s, v) => s + v, 0) / 2000
    expect(mean).toBeGreaterThan(0.55)
    expect(mean).toBeLessThan(0.8)
  })
})

describe('mixed batches', () => {
  it('blend each sample with its mirror in the batch, the padding left alone', () => {
    const x = Uint8Array.of(0, 100, 50, 60, 200, 10, 7, 7)
    mixSamples(x, 3, [1, 1, 2], { kind: 'mixup', lambda: 0.75 })
    expect([...x]).toEqual([50, 78, 50, 60, 150, 33, 7, 7])
    const real = Float64Array.of(0, 1)
    mixSamples(real, 2, [1, 1, 1], { kind: 'mixup', lambda: 0.9 })
    expect([...real].map((v) => Number(v.toFixed(12)))).toEqual([0.1, 0.9])
  })

  it('exchange a box of every channel', () => {
    const x = Uint8Array.from({ length: 16 }, (_, i) => i)
    const box = { top: 1, left: 0, height: 1, width: 1 }
    mixSamples(x, 2, [2, 2, 2], { kind: 'cutmix', lambda: 0.75, box })
    expect([...x]).toEqual([0, 1, 10, 3, 4, 5, 14, 7, 8, 9, 2, 11, 12, 13, 6, 15])
  })

  it('have targets that sum to 1', () => {
    const y = new Float64Array(12)
    mixTargets([0, 1, 2], 3, 3, 0.75, y)
    expect([...y]).toEqual([0.75, 0, 0.25, 0, 1, 0, 0.25, 0, 0.75, 1, 0, 0])
  })
})

it('refuse what is out of range', () => {
  const refused = expect.objectContaining({ code: 'ERR_ARGUMENT' })
  expect(() => checkMixing(-1, 0)).toThrow(refused)
  expect(() => checkMixing(0, Number.NaN)).toThrow(refused)
  for (const ema of [1, -0.1, Number.NaN, { decay: 2 }, { decay: 0.9, warmup: 1 }, { dekay: 1 }]) {
    expect(() => resolveEma(ema as never)).toThrow(refused)
  }
  expect(resolveEma(0.99)).toEqual({ decay: 0.99, warmup: false })
})
