import { describe, expect, it } from 'vitest'
import { type ConvitOptions, convit } from '../../lib/nn/convit.js'
import { axpy, Curvature, difference, dot, gaussian, largest, logits, relative } from './support.js'

const SMALL: ConvitOptions = {
  input: [2, 6, 6],
  patch: 3,
  width: 8,
  depth: 3,
  heads: 4,
  gated: 1,
  mlpRatio: 1,
  classes: 3,
}

describe('convit', () => {
  it('has the published number of parameters', () => {
    // Patches, positions and token; 10 gated and 2 plain blocks; norm and head.
    const gated = 768 + 73_728 + 36_864 + 37_056 + 16 + 4 + 295_872
    const plain = 768 + 110_592 + 37_056 + 295_872
    const rest = 147_648 + 37_632 + 192 + 384 + 193_000
    expect(convit().size).toBe(10 * gated + 2 * plain + rest)
    expect(convit().size).toBe(5_710_512)
  })

  it('has learnable attention in its last two blocks only', () => {
    const model = convit({ attention: 'karat:G3B' })
    const learnable = model.layout.names.filter((name) => name.includes('karat'))
    expect(learnable).toEqual(
      [10, 11].flatMap((i) => ['a', 'b', 'weight'].map((name) => `blocks.${i}.attn.karat.${name}`)),
    )
    expect(model.size - convit().size).toBe(2 * 7 * 197 * 12 * 4)
    const shared = convit({ attention: 'karat:G3U' })
    expect(shared.size - convit().size).toBe(7 * 197 * 12 * 4)
  })

  it('begins with heads that look at neighbours', () => {
    const model = convit({ ...SMALL, locality: 3 })
    const theta = model.init(1)
    const weight = model.layout.view(theta, 'blocks.0.attn.pos_proj.weight')
    // Offsets (0, 0) to (-1, -1) of a square of four heads: -|Δ - offset|² = -|Δ|² + 2 Δ·offset.
    expect([...weight]).toEqual([-6, -6, -3, -6, 0, -3, 0, -6, -3, 0, 0, -3])
    const value = model.layout.view(theta, 'blocks.0.attn.v.weight')
    expect([...value]).toEqual(Array.from({ length: 64 }, (_, i) => (i % 9 === 0 ? 1 : 0)))
    expect([...model.layout.view(theta, 'blocks.0.attn.gating_param')]).toEqual([1, 1, 1, 1])
  })

  it('mixes by its gates: all content without positions, all positions without content', () => {
    const model = convit(SMALL)
    const theta = axpy(model.init(4), 0.3, gaussian(5, model.size))
    const x = gaussian(11, 72)
    const y = logits(model, theta, x)
    const changed = (gate: number, name: string): Float64Array => {
      const moved = theta.slice()
      model.layout.view(moved, 'blocks.0.attn.gating_param').fill(gate)
      const before = logits(model, moved, x)
      const part = model.layout.view(moved, name)
      part.set(part.map((value) => value + 1))
      return before.map((value, i) => value - logits(model, moved, x)[i])
    }
    expect(largest(changed(-800, 'blocks.0.attn.pos_proj.weight'))).toBe(0)
    expect(largest(changed(800, 'blocks.0.attn.qk.weight'))).toBe(0)
    expect(largest(changed(0, 'blocks.0.attn.pos_proj.weight'))).toBeGreaterThan(1e-6)
    expect(largest(changed(0, 'blocks.0.attn.qk.weight'))).toBeGreaterThan(1e-6)
    expect(largest(y)).toBeGreaterThan(0)
  })

  it.each(['softmax', 'karat:G2U,r3', 'karat:G2B,r3,heads=softmax/G1/G1/G2r2'])(
    'has exact derivatives with %s',
    (attention) => {
      const model = convit({ ...SMALL, attention })
      const curvature = new Curvature(model, gaussian(11, 2 * 72))
      const theta = axpy(model.init(4), 0.2, gaussian(5, model.size))
      const [u, v] = [gaussian(6, model.size), gaussian(7, model.size)]
      const slope = difference((t) => Float64Array.of(curvature.loss(t)), theta, u)[0]
      expect(Math.abs(dot(curvature.grad(theta), u) - slope)).toBeLessThan(1e-7 * Math.abs(slope))
      const expected = difference((t) => curvature.grad(t), theta, u)
      expect(relative(curvature.hvp(theta, u), expected)).toBeLessThan(1e-7)
      const [uHv, vHu] = [dot(u, curvature.hvp(theta, v)), dot(v, curvature.hvp(theta, u))]
      expect(Math.abs(uHv - vHu)).toBeLessThan(1e-10 * Math.abs(uHv))
    },
  )

  it.each([
    ['ERR_SHAPE', { input: [3, 32, 16] }, /square/],
    ['ERR_ARGUMENT', { gated: 12 }, /at least one block after/],
    ['ERR_ARGUMENT', { gated: 0 }, /gated to be a positive integer/],
    ['ERR_ARGUMENT', { locality: Number.NaN }, /locality to be a finite number, got NaN/],
    ['ERR_ARGUMENT', { pooling: 'mean' }, /no option 'pooling'/],
  ] as const)('%s for %j', (code, options, message) => {
    expect(() => convit(options as never)).toThrowError(expect.objectContaining({ code }))
    expect(() => convit(options as never)).toThrowError(message)
  })
})
