import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type DataSet, type Device, data, hessian, models, open, train } from '../../lib/index.js'
import { gaussian } from '../nn/support.js'

let device: Device
let set: DataSet
beforeAll(async () => {
  device = await open({ device: 'cpu', threads: 1 })
  set = await data.glyphs({ n: 24 })
})
afterAll(() => device.dispose())

const image = { input: [1, 16, 16], patch: 4, classes: 10 } as const
const MODELS = [
  ...['karat:G3B,r4', 'karat:G2U,r3,silu,edge-scales,latent-bias', 'karat:phi-phi,r3'],
  ...['karat:full,G1', 'karat:r3,basis=rational', 'karat:heads=softmax/G2r3/G1'],
].map((attention) => models.vit({ ...image, width: 12, depth: 2, heads: 3, attention }))
const WINDOWED = [
  models.convit({ ...image, width: 12, depth: 3, heads: 3, gated: 1, attention: 'karat:G2U,r3' }),
  models.swin({
    ...{ ...image, patch: 2, width: 6, depths: [2, 1], heads: [1, 2], window: 4 },
    attention: 'karat:G2B,r3',
  }),
]

const norm = (x: ArrayLike<number>): number => Math.hypot(...Array.from(x))
const minus = (x: ArrayLike<number>, y: ArrayLike<number>): number[] =>
  Array.from(x, (a, i) => a - y[i])

describe('Hessian products of learnable attention', () => {
  it.each(
    [...MODELS, ...WINDOWED].map((model) => [String(model.config.attention), model] as const),
  )('%s in f32 are those of f64, and symmetric', async (_, model) => {
    const theta = model.init(1).map((x, i) => x + 0.05 * Math.sin(i))
    const [u, v] = [gaussian(2, model.size), gaussian(3, model.size)]
    using single = hessian(device, model, theta, set)
    using double = hessian(device, model, theta, set, { precision: 'f64' })
    const [hu, hv] = [await single.matvec(u), await single.matvec(v)]
    const expected = await double.matvec(v)
    expect(norm(expected)).toBeGreaterThan(0)
    expect(norm(minus(hv, expected))).toBeLessThan(1e-4 * norm(expected))
    const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
      Array.from(a).reduce((sum, x, i) => sum + x * b[i], 0)
    const scale = norm(u) * norm(hv)
    expect(Math.abs(dot(u, hv) - dot(v, hu))).toBeLessThan(1e-4 * scale)
  })
})

describe('training with learnable attention', () => {
  it.each(WINDOWED.map((model) => [model.name, model] as const))('%s', async (_, model) => {
    const run = await train(device, model, set, {
      optimizer: { kind: 'adamw', lr: 5e-3 },
      epochs: 25,
      batch: 12,
      seed: 1,
    })
    const losses = run.metrics.filter(({ split }) => split === 'train').map(({ loss }) => loss)
    expect(run.status).toBe('completed')
    expect(losses[losses.length - 1]).toBeLessThan(0.6 * losses[0])
    // The learnable functions themselves have moved.
    const start = model.init(1)
    for (const { name, offset, size } of model.layout.entries) {
      if (!/karat\.(a|weight)$/.test(name)) continue
      const [own, begun] = [run.params, start].map((x) => x.slice(offset, offset + size))
      expect(norm(minus(own, begun)), name).toBeGreaterThan(0)
    }
  })
})
