import { describe, expect, it } from 'vitest'
import type { NormOption } from '../../../lib/nn/convnet/norm-options.js'
import { cifarResnet } from '../../../lib/nn/index.js'
import type { Model } from '../../../lib/nn/model.js'
import { gaussian } from '../support.js'
import { pass } from './support.js'

const model = (norm: NormOption): Model =>
  cifarResnet({ input: [3, 8, 8], classes: 3, depth: 8, width: 1 / 4, norm, ws: true })

const COUNT = 3 * 64
/** Far from mean 0 and variance 1. */
const images = (seed: number, samples: number): Float64Array =>
  gaussian(seed, samples * COUNT).map((x) => 2 * x + 1)

interface Moments {
  readonly mean: number
  /** Biased, and about a given point. */
  readonly variance: number
  readonly about: (point: number) => number
  readonly count: number
}

/** Of channel c of the first convolution's outputs, by hand. */
function moments(net: Model, theta: Float64Array, x: Float64Array, c: number): Moments {
  const raw = net.layout.view(theta, 'conv1.weight').subarray(c * 27, (c + 1) * 27)
  const mean = raw.reduce((s, w) => s + w, 0) / 27
  const q = raw.reduce((s, w) => s + (w - mean) ** 2, 0) / 26
  const w = raw.map((v) => (v - mean) / Math.sqrt(q + 1e-5))
  const values: number[] = []
  for (let n = 0; n < x.length / COUNT; n++) {
    for (let i = 0; i < 64; i++) {
      let y = 0
      for (let k = 0; k < 27; k++) {
        const [row, column] = [
          Math.floor(i / 8) + Math.floor((k % 9) / 3) - 1,
          (i % 8) + (k % 3) - 1,
        ]
        const inside = row >= 0 && row < 8 && column >= 0 && column < 8
        if (inside) y += w[k] * x[n * COUNT + Math.floor(k / 9) * 64 + row * 8 + column]
      }
      values.push(y)
    }
  }
  const average = (f: (y: number) => number): number =>
    values.reduce((s, y) => s + f(y), 0) / values.length
  const centre = average((y) => y)
  const about = (point: number): number => average((y) => (y - point) ** 2)
  return { mean: centre, variance: about(centre), about, count: values.length }
}

describe('running statistics', () => {
  it.each(['bn', { kind: 'bcn', groups: 2, momentum: 0.3 }] as NormOption[])(
    'of %o move as PyTorch moves them, towards unbiased variances',
    (norm) => {
      const net = model(norm)
      const theta = net.init(1)
      const momentum = typeof norm === 'string' ? 0.1 : 0.3
      const prefix = typeof norm === 'string' ? 'bn1' : 'bn1.pbn'
      let state = net.initState()
      let [mean, variance] = [0, 1]
      for (const seed of [1, 2]) {
        const x = images(seed, 2)
        state = pass(net, theta, state, x, { training: true }).state
        const batch = moments(net, theta, x, 1)
        const unbiased = (batch.variance * batch.count) / (batch.count - 1)
        mean += momentum * (batch.mean - mean)
        variance += momentum * (unbiased - variance)
        expect(net.stateLayout.view(state, `${prefix}.running_mean`)[1]).toBeCloseTo(mean, 10)
        expect(net.stateLayout.view(state, `${prefix}.running_var`)[1]).toBeCloseTo(variance, 10)
      }
      expect(net.stateLayout.view(state, 'num_batches_tracked')[0]).toBe(2)
    },
  )

  it('of bcn-micro start with the first batch, then move about the old mean, at batch 1', () => {
    const net = model({ kind: 'bcn-micro', groups: 2, rate: 0.2 })
    const theta = net.init(1)
    const view = (state: Float64Array, name: string): number =>
      net.stateLayout.view(state, `bn1.pbn.running_${name}`)[1]
    const first = images(1, 1)
    const warm = pass(net, theta, net.initState(), first, { training: true }).state
    const start = moments(net, theta, first, 1)
    expect(view(warm, 'mean')).toBeCloseTo(start.mean, 10)
    expect(view(warm, 'var')).toBeCloseTo(start.variance, 10)
    const second = images(2, 1)
    const next = pass(net, theta, warm, second, { training: true }).state
    const batch = moments(net, theta, second, 1)
    expect(view(next, 'mean')).toBeCloseTo(0.8 * start.mean + 0.2 * batch.mean, 10)
    expect(view(next, 'var')).toBeCloseTo(0.8 * start.variance + 0.2 * batch.about(start.mean), 10)
  })

  it('of bcn-micro follow the learning rate, and the start without warm start', () => {
    const net = model({ kind: 'bcn-micro', groups: 2, rate: 'lr', warmStart: false })
    const theta = net.init(1)
    const x = images(1, 1)
    const batch = moments(net, theta, x, 1)
    for (const [lr, share] of [
      [0.25, 0.25],
      [3, 1],
    ]) {
      const { state } = pass(net, theta, net.initState(), x, { training: true, lr })
      const view = net.stateLayout.view(state, 'bn1.pbn.running_mean')
      expect(view[1]).toBeCloseTo(share * batch.mean, 10)
    }
    expect(() => pass(net, theta, net.initState(), x, { statistics: 'batch' })).toThrowError(
      expect.objectContaining({ code: 'ERR_ARGUMENT' }),
    )
  })

  it('stay as they are in evaluation, and when frozen in training', () => {
    const x = images(1, 2)
    for (const norm of ['bn', { kind: 'bcn', groups: 2 }] as const) {
      const net = model(norm)
      const state = net.initState().map((v, i) => v + 0.1 * (i % 3))
      expect(pass(net, net.init(1), state, x).state).toEqual(state)
    }
    const frozen = model({ kind: 'bcn-micro', groups: 2, frozen: true })
    const state = frozen.initState().map((v, i) => v + 0.1 * (i % 3))
    const trained = pass(frozen, frozen.init(1), state, x, { training: true })
    expect(trained.state).toEqual(state)
    expect(trained.outputs).toEqual(pass(frozen, frozen.init(1), state, x).outputs)
  })

  it('of bcn-micro make training and evaluation the same function after the update', () => {
    const net = model({ kind: 'bcn-micro', groups: 2, rate: 0.2 })
    const theta = net.init(1)
    const x = images(1, 2)
    const trained = pass(net, theta, net.initState(), x, { training: true })
    const evaluated = pass(net, theta, trained.state, x)
    for (const [i, y] of evaluated.outputs.entries()) {
      expect(y).toBeCloseTo(trained.outputs[i], 10)
    }
  })

  it('couple the samples of a batch only where they are of the batch', () => {
    const net = model('bn')
    const theta = net.init(1)
    const x = images(1, 2)
    const one = (way: object, batch: Float64Array) =>
      [...pass(net, theta, net.initState(), batch, way).outputs].slice(0, 3)
    const alone = x.subarray(0, COUNT)
    expect(one({ statistics: 'frozen' }, x)).toEqual(one({ statistics: 'frozen' }, alone))
    expect(one({ statistics: 'batch' }, x)).not.toEqual(one({ statistics: 'batch' }, alone))
  })

  it('refuse a batch whose channels have one value', () => {
    const net = cifarResnet({ input: [3, 1, 1], depth: 8, width: 1 / 4, norm: 'bn' })
    const x = gaussian(1, 3)
    expect(() => pass(net, net.init(1), net.initState(), x, { training: true })).toThrowError(
      expect.objectContaining({ code: 'ERR_SHAPE' }),
    )
  })
})
