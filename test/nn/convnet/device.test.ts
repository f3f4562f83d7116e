import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fromArrays } from '../../../lib/data/arrays.js'
import { shapes } from '../../../lib/data/synthetic/shapes.js'
import { type Device, open } from '../../../lib/device/device.js'
import { compile } from '../../../lib/device/executable.js'
import { cifarResnet, lenet, resnet, segmentation } from '../../../lib/nn/index.js'
import type { Model } from '../../../lib/nn/model.js'
import { train } from '../../../lib/train/train.js'
import { gaussian, relative, split } from '../support.js'
import { Curvature, passProgram, views, type Way } from './support.js'

let device: Device
beforeAll(async () => {
  device = await open({ threads: 2 })
})
afterAll(() => device.dispose())

const TINY = { input: [3, 8, 8], classes: 3, depth: 8, width: 1 / 4, zeroInit: false } as const

const NETS: readonly [string, Model, Way][] = [
  ['bn, in training', cifarResnet({ ...TINY, norm: 'bn' }), { training: true }],
  ['gn, ws', cifarResnet({ ...TINY, norm: { kind: 'gn', groups: 2 }, ws: true }), {}],
  [
    'bcn, ws, in training',
    cifarResnet({ ...TINY, norm: { kind: 'bcn', groups: 2 }, ws: true }),
    { training: true },
  ],
  [
    'bcn-micro, in training',
    cifarResnet({ ...TINY, norm: { kind: 'bcn-micro', groups: 2 }, preactivation: true }),
    { training: true },
  ],
  ['bottlenecks, ln', resnet({ ...TINY, depth: 50, width: 1 / 32, stem: 'cifar', norm: 'ln' }), {}],
  ['lenet', lenet({ input: [1, 16, 16], classes: 3, norm: 'bn' }), {}],
  [
    'segmentation, gn',
    segmentation({
      ...{ ...TINY, depth: 18, width: 1 / 16, stem: 'cifar', channels: 64, rates: [1, 2] },
      norm: { kind: 'gn', groups: 2 },
    }),
    {},
  ],
]

/** Parameters, estimates as training leaves them, and two images. */
function point(model: Model) {
  const x = gaussian(11, 2 * model.input.reduce((n, d) => n * d, 1))
  const theta = model.init(4)
  const state = model.initState().map((v, i) => v + 0.2 * ((i * 7) % 3))
  return { x, theta, state, inputs: [...split(model, theta), ...views(model, state), x] }
}

describe.each(NETS)('%s', (_, model, way) => {
  const { x, inputs } = point(model)

  it.each(['f32', 'f64'] as const)('gives the reference on the device, %s', async (precision) => {
    const { program, run } = passProgram(model, x, way)
    using executable = compile(device, program, { precision })
    const actual = await executable.run(inputs)
    const expected = run(inputs)
    const tolerance = precision === 'f64' ? 1e-10 : 2e-4
    for (const [i, y] of expected.entries()) expect(relative(actual[i], y)).toBeLessThan(tolerance)
  })
})

// The other norms and blocks have tests of their own; these hold all kinds of operations.
describe.each(NETS.filter(([name]) => /^(bn|bcn,|segmentation)/.test(name)))(
  '%s',
  (_, model, way) => {
    it('gives the same gradient and Hessian product on the device', async () => {
      const { x, theta, state, inputs } = point(model)
      const curvature = new Curvature(model, state, x, way.training ? { statistics: 'batch' } : {})
      const u = gaussian(6, model.size)
      for (const [program, more, expected] of [
        [curvature.gradient, [], curvature.grad(theta)],
        [curvature.product, split(model, u), curvature.hvp(theta, u)],
      ] as const) {
        using executable = compile(device, program, { precision: 'f64' })
        const results = await executable.run([...inputs, ...more])
        const joined = Float64Array.from(results.flatMap((part) => Array.from(part)))
        expect(relative(joined, expected)).toBeLessThan(1e-9)
      }
    })
  },
)

describe('training', () => {
  it.each(['bn', 'bcn', 'bcn-micro'] as const)(
    'learns with %s and ws, two images at a time',
    async (kind) => {
      const norm = kind === 'bn' ? kind : { kind, groups: 2 }
      const model = cifarResnet({ ...TINY, norm, ws: true })
      const n = 24
      const x = Float32Array.from(gaussian(3, n * 192))
      const y = Int32Array.from({ length: n }, (_, i) => i % 3)
      for (let i = 0; i < n; i++) for (let k = 0; k < 64; k++) x[i * 192 + y[i] * 64 + k] += 1
      const set = fromArrays(x, y, { shape: [3, 8, 8], classes: 3 })
      const { params, state, metrics, status } = await train(device, model, set, {
        optimizer: { kind: 'sgd', lr: 0.02, momentum: 0.9 },
        epochs: 4,
        batch: 2,
        seed: 1,
      })
      expect(status).toBe('completed')
      expect(metrics[metrics.length - 1].loss).toBeLessThan(metrics[0].loss)
      expect([...params].every(Number.isFinite)).toBe(true)
      expect(model.stateLayout.view(state, 'num_batches_tracked')[0]).toBe(48)
    },
  )

  it('of a segmentation model takes a label for every pixel, and ignores one', async () => {
    const model = NETS[NETS.length - 1][1]
    const set = await shapes({ n: 4, size: 8, most: 1 })
    const wide = segmentation({
      ...{
        ...TINY,
        classes: 4,
        depth: 18,
        width: 1 / 16,
        stem: 'cifar',
        channels: 32,
        aspp: false,
      },
      norm: 'ln',
    })
    const run = (net: Model, ignoreLabel?: number) =>
      train(device, net, set, {
        optimizer: { kind: 'sgd', lr: 0.05 },
        loss: { kind: 'cross-entropy', ignoreLabel },
        epochs: 4,
        batch: 2,
        seed: 1,
      })
    const { metrics, params } = await run(wide)
    expect(metrics[metrics.length - 1].loss).toBeLessThan(metrics[0].loss)
    // At most all places of all samples are right.
    expect(metrics[0].accuracy).toBeGreaterThan(0)
    expect(metrics[0].accuracy).toBeLessThanOrEqual(1)
    const other = await run(wide, 0)
    expect([...other.params]).not.toEqual([...params])
    await expect(run(model)).rejects.toMatchObject({ code: 'ERR_RANGE' })
    const plain = fromArrays(Float32Array.from(gaussian(3, 192)), Int32Array.of(1), {
      ...{ shape: [3, 8, 8], classes: 3 },
    })
    await expect(
      train(device, model, plain, { optimizer: { kind: 'sgd', lr: 0.1 }, epochs: 1 }),
    ).rejects.toMatchObject({ code: 'ERR_SHAPE' })
  })
})
