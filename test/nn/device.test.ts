import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { glyphs } from '../../lib/data/synthetic/glyphs.js'
import { type Device, open } from '../../lib/device/device.js'
import { compile } from '../../lib/device/executable.js'
import { karatAttention } from '../../lib/nn/attention/karat.js'
import type { KaratOptions } from '../../lib/nn/attention/options.js'
import { karatParameters } from '../../lib/nn/attention/parameters.js'
import { convit } from '../../lib/nn/convit.js'
import type { Model } from '../../lib/nn/model.js'
import { swin } from '../../lib/nn/swin.js'
import { vit } from '../../lib/nn/vit.js'
import type { VitOptions } from '../../lib/nn/vit-config.js'
import { trace } from '../../lib/program/index.js'
import { train } from '../../lib/train/train.js'
import { applyProgram, axpy, Curvature, gaussian, logits, relative, split } from './support.js'

let device: Device
beforeAll(async () => {
  device = await open({ threads: 2 })
})
afterAll(() => device.dispose())

/** 17 tokens, so that no tile of a kernel is full. */
const SMALL: VitOptions = {
  input: [2, 16, 16],
  patch: 4,
  width: 24,
  depth: 2,
  heads: 3,
  mlpRatio: 2,
  classes: 5,
}

const MODELS: readonly [string, Model][] = [
  ...(
    [
      'softmax',
      'karat:G3B',
      'karat:G2U,r5,silu,edge-scales,latent-bias',
      'karat:G2B,r5,phi-w',
      'karat:G1B,r5,phi-phi',
      'karat:G1B,full',
      'karat:G3B,project-latent',
      'karat:G3B,project-output',
      'karat:G3B,heads=softmax/G1r2/G3',
      'karat:B,r4,basis=dog',
    ] as const
  ).map((attention): [string, Model] => [`vit, ${attention}`, vit({ ...SMALL, attention })]),
  ['convit, softmax', convit({ ...SMALL, heads: 4, depth: 3, gated: 2 })],
  [
    'swin, softmax',
    swin({ input: [2, 16, 16], patch: 2, width: 12, depths: [2, 1], heads: [2, 3], window: 4 }),
  ],
  [
    'swin, karat:G2B,r3',
    swin({
      ...{ input: [2, 16, 16], patch: 2, width: 12, depths: [2, 1], heads: [2, 3], window: 4 },
      ...{ classes: 5, attention: 'karat:G2B,r3' },
    }),
  ],
]

describe.each(MODELS)('%s', (_, model) => {
  const x = gaussian(11, 2 * model.input.reduce((n, d) => n * d, 1))
  const theta = axpy(model.init(4), 0.05, gaussian(5, model.size))
  const inputs = [...split(model, theta), x]

  it.each(['f32', 'f64'] as const)('gives the same logits on the device, %s', async (precision) => {
    using executable = compile(device, applyProgram(model, x), { precision })
    const [actual] = await executable.run(inputs)
    const tolerance = precision === 'f64' ? 1e-11 : 1e-4
    expect(relative(actual, logits(model, theta, x))).toBeLessThan(tolerance)
  })

  it('gives the same gradient and Hessian product on the device', async () => {
    const curvature = new Curvature(model, x)
    const u = gaussian(6, model.size)
    for (const [program, more, expected] of [
      [curvature.gradient, [], curvature.grad(theta)],
      [curvature.product, split(model, u), curvature.hvp(theta, u)],
    ] as const) {
      using executable = compile(device, program, { precision: 'f64' })
      const parts = await executable.run([...inputs, ...more])
      const actual = Float64Array.from(parts.flatMap((part) => [...part]))
      expect(relative(actual, expected)).toBeLessThan(1e-10)
    }
  })
})

describe('training', () => {
  it.each(['softmax', 'karat:G3B,r4', 'karat:G1U,r4,heads=softmax/G2/G1'])(
    'learns with %s and stochastic depth, the same twice',
    async (attention) => {
      const set = await glyphs({ n: 320, seed: 1, noise: 8, inverted: 0 })
      const model = vit({
        ...{ input: [1, 16, 16], patch: 4, width: 24, depth: 2, heads: 3, classes: 10 },
        ...{ dropPath: 0.1, attention },
      })
      const options = { optimizer: { kind: 'adam', lr: 5e-3 }, epochs: 12, batch: 32 } as const
      const [first, again] = [
        await train(device, model, set, options),
        await train(device, model, set, options),
      ]
      const losses = first.metrics.map(({ loss }) => loss)
      expect(losses[losses.length - 1]).toBeLessThan(0.8 * losses[0])
      expect(again.params).toEqual(first.params)
    },
  )
})

describe('working memory of learnable attention', () => {
  const arena = (options: Omit<KaratOptions, 'heads'>, batch: number): number => {
    const [heads, tokens] = [3, 197]
    const shape = [batch, tokens, heads, 64]
    const list = karatParameters(options, { heads, tokens })
    const program = trace(
      (q, k, v, ...p) =>
        karatAttention(q, k, v, Object.fromEntries(list.map(({ name }, i) => [name, p[i]])), {
          ...options,
          layout: 'bnhd',
        }),
      [shape, shape, shape, ...list.map(({ shape }) => shape)],
    )
    using executable = compile(device, program)
    return executable.inspect().arenaBytes
  }
  const values = 197 * 3 * 64 * 4

  it('does not grow with the square of the tokens, or with G but for the coefficients', () => {
    const [less, more] = [1, 2].map((G) => arena({ G, r: 12 }, 8))
    // v with heads first, the result so and Z; coefficients in the order of the kernel twice.
    expect(less).toBeLessThan(8 * 2.3 * values + 2 * 2 * 197 * 36 * 4 + 1e4)
    expect(more - less).toBeLessThanOrEqual(2 * 2 * 197 * 36 * 4 + 1e4)
  })

  it('of full rank is that of the mixed values', () => {
    // Written out, the edges of one image are 3 x 197² x 20 numbers for each of 197 rows: 1.8 GB.
    expect(arena({ G: 10, order: 'full' }, 1)).toBeLessThan(8e6)
  })
})
