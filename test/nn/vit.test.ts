import { describe, expect, it } from 'vitest'
import { vit } from '../../lib/nn/vit.js'
import type { VitOptions } from '../../lib/nn/vit-config.js'
import * as ops from '../../lib/ops/index.js'
import { evaluate, gradProgram, tapNames, trace, verify } from '../../lib/program/index.js'
import {
  applyProgram,
  axpy,
  Curvature,
  difference,
  dot,
  gaussian,
  largest,
  logits,
  relative,
  split,
} from './support.js'

const SMALL: VitOptions = {
  input: [2, 6, 6],
  patch: 3,
  width: 8,
  depth: 2,
  heads: 2,
  mlpRatio: 1,
  classes: 3,
}

/** Every attention that a model can have: orders, projections, sharing, mixtures, bases. */
const ATTENTIONS: readonly [string, VitOptions['attention']][] = [
  ['softmax', 'softmax'],
  ['w-phi', 'karat:G2B,r3'],
  ['universal', 'karat:G2U,r3'],
  ['scales and bias', 'karat:G2B,r3,silu,edge-scales,latent-bias'],
  ['phi-w', 'karat:G2B,r3,phi-w'],
  ['phi-phi', 'karat:G1U,r3,phi-phi,gelu,latent-bias'],
  ['full', 'karat:G2B,full,edge-scales,latent-bias'],
  ['latent projection', 'karat:G2B,r3,project-latent'],
  ['output projection', 'karat:G2B,r3,project-output'],
  ['mixture', 'karat:G2B,r3,heads=softmax/G1r2'],
  ['splines', 'karat:G2B,r3,basis=bspline,silu'],
  ['Chebyshev polynomials, phi-w', 'karat:G3U,r3,phi-w,basis=chebyshev'],
  ['Gaussians, full', 'karat:G4B,full,basis=rbf'],
  ['wavelets', 'karat:B,r3,basis=dog'],
  ['rational functions, phi-w', 'karat:B,r3,phi-w,basis=rational'],
  ['heads of their own', 'karat:G2U,heads=G1r2/G3r4'],
]

describe('vit', () => {
  it.each([
    ['tiny', 5_717_416, 5_526_346],
    ['small', 22_050_664, 21_669_514],
    ['base', 86_567_656, 85_806_346],
  ] as const)('%s has the published number of parameters', (size, thousand, ten) => {
    expect(vit({ size }).size).toBe(thousand)
    expect(vit({ size, classes: 10 }).size).toBe(ten)
  })

  it.each([
    ['tiny', 3, 765_936, 63_828],
    ['small', 3, 1_531_872, 127_656],
    ['base', 1, 1_702_080, 141_840],
  ] as const)(
    '%s with learnable attention follows the law of its cost table',
    (size, G, own, one) => {
      const extra = (share: 'block' | 'universal', edgeScales: boolean): number =>
        vit({ size, attention: { G, share, edgeScales } }).size - vit({ size }).size
      expect(extra('block', true)).toBe(own)
      expect(extra('universal', true)).toBe(one)
      // Formulas of the paper: 2 G + 1 an edge, rather than the 2 G + 3 of its table.
      expect(extra('block', false) * (2 * G + 3)).toBe(own * (2 * G + 1))
    },
  )

  it('names its tensors as timm does', () => {
    const { names } = vit(SMALL).layout
    expect(names.slice(0, 4)).toEqual([
      'cls_token',
      'pos_embed',
      'patch_embed.proj.weight',
      'patch_embed.proj.bias',
    ])
    expect(names).toContain('blocks.1.attn.qkv.weight')
    expect(names.slice(-4)).toEqual(['norm.weight', 'norm.bias', 'head.weight', 'head.bias'])
    expect(vit(SMALL).layout.entry('patch_embed.proj.weight').shape).toEqual([8, 2, 3, 3])
  })

  it('embeds patches as a convolution does', () => {
    // One patch of ones in the top right corner meets one filter at one place.
    const model = vit({ ...SMALL, pooling: 'mean', depth: 1 })
    const theta = new Float64Array(model.size)
    const image = new Float64Array(2 * 36)
    for (const channel of [0, 1]) {
      for (const y of [0, 1, 2]) for (const x of [3, 4, 5]) image[channel * 36 + y * 6 + x] = 1
    }
    model.layout.view(theta, 'patch_embed.proj.weight').fill(1, 0, 18)
    model.layout.view(theta, 'norm.bias').fill(0)
    model.layout.view(theta, 'norm.weight').fill(1)
    model.layout.view(theta, 'head.weight')[0] = 1
    // Token 1 is (18, 0, ..), normalised (√7, -1/√7, ..) but for ε; the other three tokens are 0.
    const [first, second] = logits(model, theta, image)
    expect(first).toBeCloseTo(Math.sqrt(7) / 4, 6)
    expect(second).toBe(0)
  })

  it('pools the mean without a class token, and places patches by sines without parameters', () => {
    const mean = vit({ ...SMALL, pooling: 'mean', positions: 'sinusoidal' })
    expect(mean.layout.names).not.toContain('cls_token')
    expect(mean.layout.names).not.toContain('pos_embed')
    const theta = mean.init(3).map((t) => 20 * t)
    const x = gaussian(1, 72)
    const moved = Float64Array.from(x, (_, i) => x[i - (i % 6) + ((i + 3) % 6)])
    const pattern = vit({ ...SMALL, pooling: 'mean' })
    const unplaced = pattern.init(3)
    pattern.layout.view(unplaced, 'pos_embed').fill(0)
    // Without places the order of patches is invisible; with sines it is not.
    expect(relative(logits(pattern, unplaced, moved), logits(pattern, unplaced, x))).toBeLessThan(
      1e-12,
    )
    expect(relative(logits(mean, theta, moved), logits(mean, theta, x))).toBeGreaterThan(1e-3)
  })

  it('taps queries, keys, values and blocks', () => {
    const names = tapNames(applyProgram(vit(SMALL), new Float64Array(72)))
    expect(names).toEqual([
      ...['blocks.0.attn.q', 'blocks.0.attn.k', 'blocks.0.attn.v', 'blocks.0'],
      ...['blocks.1.attn.q', 'blocks.1.attn.k', 'blocks.1.attn.v', 'blocks.1'],
    ])
  })

  it('treats the samples of a batch apart', () => {
    const model = vit({ ...SMALL, attention: 'karat:G2B,r3' })
    const theta = model.init(1).map((t) => 5 * t)
    const x = gaussian(2, 3 * 72)
    const together = logits(model, theta, x)
    for (const i of [0, 1, 2]) {
      const alone = logits(model, theta, x.slice(72 * i, 72 * (i + 1)))
      expect(relative(together.slice(3 * i, 3 * i + 3), alone)).toBeLessThan(1e-12)
    }
  })

  it('begins with branches of the size of their input', () => {
    const model = vit({ ...SMALL, width: 64, heads: 4, attention: 'karat:G3B' })
    expect(model.init(1)).toEqual(model.init(1))
    const a = model.layout.view(model.init(1), 'blocks.0.attn.karat.a')
    const N = 5
    expect(dot(a, a) / a.length).toBeCloseTo(1 / (N * 3), 1)
    expect(dot(a, a)).toBeGreaterThan(0)
  })
})

describe.each(ATTENTIONS)('a small vit with %s', (_, attention) => {
  const model = vit({ ...SMALL, attention })
  const x = gaussian(11, 2 * 72)
  // Weights large enough that scores are of order one and no part is idle.
  const theta = axpy(model.init(4), 0.2, gaussian(5, model.size))
  const curvature = new Curvature(model, x)
  const u = gaussian(6, model.size)
  const v = gaussian(7, model.size)

  it('has the gradient and the Hessian product of finite differences', () => {
    const slope = difference((t) => Float64Array.of(curvature.loss(t)), theta, u)[0]
    const gradient = curvature.grad(theta)
    expect(Math.abs(dot(gradient, u) - slope)).toBeLessThan(1e-8 * Math.max(1, Math.abs(slope)))
    expect(Math.abs(slope)).toBeGreaterThan(1e-3)
    const expected = difference((t) => curvature.grad(t), theta, u)
    expect(relative(curvature.hvp(theta, u), expected)).toBeLessThan(1e-7)
  })

  it('has a symmetric Hessian', () => {
    const [uHv, vHu] = [dot(u, curvature.hvp(theta, v)), dot(v, curvature.hvp(theta, u))]
    expect(Math.abs(uHv - vHu)).toBeLessThan(1e-10 * Math.max(1, Math.abs(uHv)))
    expect(Math.abs(uHv)).toBeGreaterThan(1e-3)
  })

  it('depends on every tensor', () => {
    const gradient = curvature.grad(theta)
    for (const { name } of model.layout.entries) {
      // With base 'zero' the scale of the base function is counted but idle.
      if (name.endsWith('.wb') && String(attention).includes('full')) continue
      expect(largest(model.layout.view(gradient, name)), name).toBeGreaterThan(0)
    }
  })
})

describe('shared functions', () => {
  it('are those of tied blocks, and their gradient is the sum over the blocks', () => {
    const one = vit({ ...SMALL, attention: 'karat:G2U,r3,latent-bias' })
    const own = vit({ ...SMALL, attention: 'karat:G2B,r3,latent-bias' })
    const theta = axpy(one.init(4), 0.3, gaussian(5, one.size))
    const tied = new Float64Array(own.size)
    const source = (name: string): string => name.replace(/^blocks\.\d\.attn\.karat/, 'karat')
    for (const { name } of own.layout.entries) {
      own.layout.view(tied, name).set(one.layout.view(theta, source(name)))
    }
    const x = gaussian(11, 72)
    const [a, b] = [new Curvature(one, x), new Curvature(own, x)]
    expect(b.loss(tied)).toBeCloseTo(a.loss(theta), 12)
    const summed = new Float64Array(one.size)
    const gradient = b.grad(tied)
    for (const { name } of own.layout.entries) {
      const target = one.layout.view(summed, source(name))
      for (const [i, g] of own.layout.view(gradient, name).entries()) target[i] += g
    }
    expect(relative(a.grad(theta), summed)).toBeLessThan(1e-12)
  })
})

describe('training draws', () => {
  const options: VitOptions = { ...SMALL, dropPath: 0.5 }
  const run = (model: ReturnType<typeof vit>, step: number, seed = 9): Float64Array => {
    const shapes = model.layout.entries.map(({ shape }) => shape)
    const program = trace(
      (...args) =>
        model.apply(args.slice(0, -2), args[args.length - 2], {
          training: true,
          key: args[args.length - 1],
        }),
      [...shapes, [6, ...model.input], { dtype: 'i32', shape: [4] }],
    )
    verify(program)
    const theta = axpy(model.init(4), 0.3, gaussian(5, model.size))
    const images = Float64Array.from(Array.from({ length: 6 }, () => [...gaussian(3, 72)]).flat())
    return evaluate(program, [...split(model, theta), images, [seed, 0, step, 0]])[0]
  }

  it('of stochastic depth are a function of the key, one a sample', () => {
    const model = vit(options)
    expect(model.random).toBe(true)
    expect(run(model, 1)).toEqual(run(model, 1))
    const rows = Array.from({ length: 6 }, (_, i) =>
      run(model, 1)
        .slice(3 * i, 3 * i + 3)
        .join(),
    )
    // Six equal images: the second block's two branches leave at most four outcomes.
    expect(new Set(rows).size).toBeGreaterThan(1)
    expect(new Set(rows).size).toBeLessThanOrEqual(4)
    expect(run(model, 1)).not.toEqual(run(model, 2))
    expect(run(model, 1)).not.toEqual(run(model, 1, 10))
  })

  it('of dropout are active in training only', () => {
    const model = vit({ ...SMALL, dropout: 0.3 })
    expect(run(model, 1)).toEqual(run(model, 1))
    expect(run(model, 1)).not.toEqual(run(model, 2))
    const plain = vit(SMALL)
    const theta = plain.init(1)
    const x = gaussian(3, 72)
    expect(logits(model, theta, x)).toEqual(logits(plain, theta, x))
    expect(plain.random).toBe(false)
  })

  it('leave gradients that exist', () => {
    const model = vit({ ...options, dropout: 0.1 })
    const shapes = model.layout.entries.map(({ shape }) => shape)
    const program = trace(
      (...args) =>
        ops.sum(
          model.apply(args.slice(0, -2), args[args.length - 2], {
            training: true,
            key: args[args.length - 1],
          }),
        ),
      [...shapes, [2, ...model.input], { dtype: 'i32', shape: [4] }],
    )
    verify(gradProgram(program, [...shapes.map(() => true), false, false]))
  })
})

describe('options that do not go together', () => {
  it.each([
    ['ERR_ARGUMENT', { width: 10, heads: 3 }, /no multiple of 3 heads/],
    ['ERR_SHAPE', { input: [3, 30, 32] }, /patches of 16 x 16 do not fill/],
    ['ERR_SHAPE', { input: [32, 32] }, /\[C, H, W\]/],
    ['ERR_ARGUMENT', { depth: 0 }, /depth to be a positive integer/],
    ['ERR_ARGUMENT', { patch: 1.5 }, /patch to be a positive integer/],
    ['ERR_ARGUMENT', { dropPath: 1 }, /dropPath/],
    ['ERR_ARGUMENT', { pooling: 'max' }, /token, mean/],
    ['ERR_ARGUMENT', { positions: 'none' }, /learned, sinusoidal/],
    ['ERR_ARGUMENT', { size: 'huge' }, /tiny, small, base/],
    ['ERR_ARGUMENT', { widht: 3 }, /no option 'widht'/],
    ['ERR_ARGUMENT', { epsilon: 0 }, /epsilon/],
    ['ERR_ARGUMENT', { qkvBias: 1 }, /true or false/],
    ['ERR_ARGUMENT', { mlpRatio: -1 }, /mlpRatio/],
    ['ERR_ARGUMENT', { mlpRatio: 0.001 }, /hidden units \(round\(192 mlpRatio\).*got 0\.001/],
    ['ERR_ARGUMENT', { attention: [] }, /attention expected the choice .*got \[\]/],
    ['ERR_ARGUMENT', { positions: 'sinusoidal', width: 6, heads: 1 }, /multiple of 4/],
    ['ERR_ARGUMENT', { attention: 'linear' }, /Unknown attention/],
    ['ERR_ARGUMENT', { attention: { heads: ['softmax'] } }, /each of 3 heads, got 1/],
  ] as const)('%s for %j', (code, options, message) => {
    try {
      vit(options as never)
    } catch (error) {
      expect(error).toMatchObject({ code })
      expect((error as Error).message).toMatch(message)
      return
    }
    expect.unreachable('vit() took it')
  })
})
