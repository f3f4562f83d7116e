import { describe, expect, it } from 'vitest'
import { type SwinOptions, swin } from '../../lib/nn/swin.js'
import {
  partition,
  regions,
  relativePositions,
  roll,
  unpartition,
} from '../../lib/nn/swin-windows.js'
import { evaluate, trace } from '../../lib/program/index.js'
import { axpy, Curvature, difference, dot, gaussian, largest, logits, relative } from './support.js'

/** 4 x 4 tokens in shifted windows of 2 x 2, then one window. */
const SMALL: SwinOptions = {
  input: [1, 8, 8],
  patch: 2,
  width: 4,
  depths: [2, 1],
  heads: [1, 2],
  window: 2,
  mlpRatio: 1,
  classes: 3,
}

describe('swin', () => {
  it('has the published number of parameters', () => {
    expect(swin().size).toBe(28_288_354)
  })

  it('has learnable attention in every window', () => {
    const model = swin({ attention: 'karat:G3B' })
    // N = 49 in every block, heads by stage.
    const heads = 2 * 3 + 2 * 6 + 6 * 12 + 2 * 24
    expect(model.size - swin().size).toBe(7 * 49 * 12 * heads)
    expect(model.layout.entry('layers.3.blocks.1.attn.karat.a').shape).toEqual([24, 12, 49, 3])
  })

  it.each(['softmax', 'karat:G2B,r3', 'karat:G1B,phi-w', 'karat:G1B,full'])(
    'lets neighbours meet in windows and shifted windows, and no others, with %s',
    (attention) => {
      const model = swin({ ...SMALL, depths: [2], heads: [1], attention })
      const theta = axpy(model.init(1), 0.3, gaussian(2, model.size))
      const mute = (block: number): Float64Array => {
        const silent = theta.slice()
        model.layout.view(silent, `layers.0.blocks.${block}.attn.proj.weight`).fill(0)
        return silent
      }
      // Tokens that do not meet add to the logits (means over tokens) each for itself.
      const meeting = (point: Float64Array, a: number, b: number): number => {
        const x = gaussian(3, 64)
        const at = (...tokens: number[]): Float64Array => {
          const image = x.slice()
          for (const token of tokens) image[2 * Math.floor(token / 4) * 8 + 2 * (token % 4)] += 1
          return logits(model, point, image)
        }
        const [none, first, second, both] = [at(), at(a), at(b), at(a, b)]
        return largest(both.map((value, i) => value - first[i] - second[i] + none[i]))
      }
      const [windows, shifted] = [mute(1), mute(0)]
      expect(meeting(windows, 0, 5)).toBeGreaterThan(1e-6)
      expect(meeting(windows, 5, 10)).toBeLessThan(1e-13)
      expect(meeting(shifted, 5, 10)).toBeGreaterThan(1e-6)
      // Corners of the image share a window after the roll, but are no neighbours.
      expect(meeting(shifted, 0, 15)).toBeLessThan(1e-13)
      expect(meeting(shifted, 0, 3)).toBeLessThan(1e-13)
    },
  )

  it.each(['softmax', 'karat:G2B,r3', 'karat:G1B,r2,phi-w,silu', 'karat:G1B,full'])(
    'has exact derivatives with %s',
    (attention) => {
      const model = swin({ ...SMALL, attention })
      const curvature = new Curvature(model, gaussian(11, 2 * 64))
      const theta = axpy(model.init(4), 0.2, gaussian(5, model.size))
      const [u, v] = [gaussian(6, model.size), gaussian(7, model.size)]
      const slope = difference((t) => Float64Array.of(curvature.loss(t)), theta, u)[0]
      expect(Math.abs(dot(curvature.grad(theta), u) - slope)).toBeLessThan(1e-7 * Math.abs(slope))
      const expected = difference((t) => curvature.grad(t), theta, u)
      expect(relative(curvature.hvp(theta, u), expected)).toBeLessThan(1e-7)
      const [uHv, vHu] = [dot(u, curvature.hvp(theta, v)), dot(v, curvature.hvp(theta, u))]
      expect(Math.abs(uHv - vHu)).toBeLessThan(1e-10 * Math.abs(uHv))
      const gradient = curvature.grad(theta)
      for (const { name } of model.layout.entries) {
        expect(largest(model.layout.view(gradient, name)), name).toBeGreaterThan(0)
      }
    },
  )

  it('masks softmax heads beside learnable ones as it does without them', () => {
    const options: SwinOptions = { ...SMALL, width: 6, depths: [2], heads: [2] }
    const mixed = swin({ ...options, attention: { r: 2, heads: ['softmax', { G: 1 }] } })
    const plain = swin(options)
    const theta = axpy(mixed.init(1), 0.3, gaussian(2, mixed.size))
    const same = new Float64Array(plain.size)
    for (const { name } of mixed.layout.entries) {
      // The second head gives nothing: W = 0 in one model, v = 0 in the other.
      if (name.endsWith('karat.weight')) mixed.layout.view(theta, name).fill(0)
      if (!name.includes('karat')) {
        plain.layout.view(same, name).set(mixed.layout.view(theta, name))
      }
    }
    for (const i of [0, 1]) {
      plain.layout.view(same, `layers.0.blocks.${i}.attn.qkv.weight`).fill(0, 15 * 6)
      plain.layout.view(same, `layers.0.blocks.${i}.attn.qkv.bias`).fill(0, 15)
    }
    const x = gaussian(3, 128)
    expect(relative(logits(mixed, theta, x), logits(plain, same, x))).toBeLessThan(1e-12)
  })

  it.each([
    ['ERR_ARGUMENT', { attention: 'karat:G3U' }, /universal/],
    ['ERR_SHAPE', { input: [3, 32, 64] }, /square/],
    ['ERR_SHAPE', { input: [3, 48, 48] }, /12 x 12 tokens, which are not whole windows of 7 x 7/],
    ['ERR_ARGUMENT', { heads: [3, 6] }, /one positive integer a stage of 4, got \[3, 6\]/],
    ['ERR_ARGUMENT', { depths: [] }, /one positive integer a stage, got \[\]/],
    ['ERR_ARGUMENT', { depths: [2, 0] }, /got \[2, 0\]/],
    ['ERR_ARGUMENT', { depths: 3 }, /one positive integer a stage/],
    ['ERR_ARGUMENT', { width: 97 }, /no multiple of 3 heads/],
    ['ERR_ARGUMENT', { window: 0 }, /window to be a positive integer/],
    ['ERR_ARGUMENT', { attention: { heads: ['softmax'] } }, /each of 3 heads/],
  ] as const)('%s for %j', (code, options, message) => {
    expect(() => swin(options as never)).toThrowError(expect.objectContaining({ code }))
    expect(() => swin(options as never)).toThrowError(message)
  })
})

describe('windows', () => {
  const image = Float64Array.from({ length: 16 }, (_, i) => i)

  it('are cut and put together', () => {
    const program = trace(
      (x) => [partition(x, 2), unpartition(partition(x, 2), 4, 2)],
      [[1, 4, 4, 1]],
    )
    const [cut, back] = evaluate(program, [image])
    expect([...cut.slice(0, 8)]).toEqual([0, 1, 4, 5, 2, 3, 6, 7])
    expect(back).toEqual(image)
  })

  it('are rolled there and back', () => {
    const program = trace((x) => [roll(x, 1), roll(roll(x, 1), -1)], [[1, 4, 4, 1]])
    const [moved, back] = evaluate(program, [image])
    expect([...moved]).toEqual([5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12, 1, 2, 3, 0])
    expect(back).toEqual(image)
  })

  it('know which tokens are neighbours', () => {
    const [first, second, third, last] = regions({ edge: 4, window: 2, shift: 1 })
    expect(first).toEqual([0, 0, 0, 0])
    expect(second).toEqual([1, 2, 1, 2])
    expect(third).toEqual([3, 3, 6, 6])
    expect(last).toEqual([4, 5, 7, 8])
  })

  it('number relative positions', () => {
    // Rows -1, 0, 1 times columns -1, 0, 1; a token to itself is in the middle.
    expect(relativePositions(2)).toEqual([4, 3, 1, 0, 5, 4, 2, 1, 7, 6, 4, 3, 8, 7, 5, 4])
  })
})
