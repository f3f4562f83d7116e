import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  channelStatistics,
  type DataSet,
  type Device,
  data,
  eliminationMeasures,
  flatDirections,
  hessian,
  layerRatios,
  models,
  open,
  operatorFrom,
  ops,
  spreadAffine,
  standardizationRatios,
  standardizedFilters,
  train,
} from '../../lib/index.js'
import { normals, stream } from '../../lib/random/index.js'

let device: Device
let set: DataSet
beforeAll(async () => {
  device = await open({ threads: 1 })
  set = await data.shapes({ n: 6, size: 8 })
  // One label an image: the foremost shape's.
  set = {
    ...set,
    targets: Int32Array.from({ length: 6 }, (_, i) => i % 3),
    targetShape: [],
    classes: 3,
    classNames: undefined,
  }
})
afterAll(() => device.dispose())

const precision = 'f64'
const network = (norm: 'bn' | 'gn' | 'bcn' | 'none', ws = false) =>
  models.cifarResnet({
    ...{ depth: 8, width: 0.25, input: [3, 8, 8], classes: 3, ws },
    norm: norm === 'gn' || norm === 'bcn' ? { kind: norm, groups: 2 } : norm,
  })

describe('channelStatistics()', () => {
  it('gives the moments of what a ReLU sees, in chunks of any size, in both layouts', async () => {
    // y = w x per channel: moments of the samples themselves, scaled.
    const weights = [1, -2]
    const define = (layout: 'nchw' | 'nhwc') =>
      models.define({
        name: `scaled-${layout}`,
        input: layout === 'nchw' ? [2, 3] : [3, 2],
        output: [1],
        parameters: [{ name: 'w', shape: [2], init: { kind: 'ones' } }],
        apply: ({ w }, x) => {
          const shape = layout === 'nchw' ? [1, 2, 1] : [1, 1, 2]
          const y = ops.relu(ops.mul(x, ops.reshape(w, shape)))
          return ops.reshape(ops.sum(y, [1, 2]), [x.shape[0], 1])
        },
      })
    const values = normals(1, stream('user'), 0, 5 * 6)
    for (const layout of ['nchw', 'nhwc'] as const) {
      const model = define(layout)
      const samples = data.fromArrays(
        Array.from({ length: 5 }, (_, i) => [...values.subarray(6 * i, 6 * i + 6)]),
        Array.from({ length: 5 }, () => [0]),
        { shape: model.input, targetShape: [1] },
      )
      const channel = (c: number) =>
        [...values].filter((_, i) => (layout === 'nchw' ? Math.floor((i % 6) / 3) : i % 2) === c)
      for (const batch of [2, 5]) {
        const [layer, ...more] = await channelStatistics(device, model, weights, samples, {
          ...{ at: 'relu', layout, batch, precision },
        })
        expect(more).toEqual([])
        expect(layer).toMatchObject({ name: 'relu.0', relu: true, residual: false, groups: 0 })
        for (const c of [0, 1]) {
          const list = channel(c).map((x) => weights[c] * x)
          const mean = list.reduce((a, b) => a + b) / list.length
          const variance = list.reduce((a, b) => a + (b - mean) ** 2, 0) / list.length
          expect(layer.mean[c]).toBeCloseTo(mean, 6)
          expect(layer.std[c]).toBeCloseTo(Math.sqrt(variance), 6)
          expect(layer.positive[c]).toBeCloseTo(list.filter((x) => x > 0).length / list.length, 6)
        }
      }
    }
  })

  it('looks behind fused norms: batch norm is N(β, γ²) with the statistics of its batch', async () => {
    const model = network('bn')
    const start = spreadAffine(model, model.init(1), { scale: 0.3, shift: 1 })
    const layers = await channelStatistics(device, model, start, set, {
      ...{ statistics: 'batch', precision },
    })
    const norms = ['bn1', ...[1, 2, 3].flatMap((s) => [1, 2].map((i) => `layer${s}.0.bn${i}`))]
    expect(layers.map(({ name }) => name)).toEqual(norms)
    expect(layers.map(({ residual }) => residual)).toEqual([
      false,
      ...[1, 2, 3].flatMap(() => [false, true]),
    ])
    for (const { name, mean, std } of layers) {
      const scale = model.layout.view(start, `${name}.weight`)
      const shift = model.layout.view(start, `${name}.bias`)
      for (let c = 0; c < mean.length; c++) {
        expect(mean[c]).toBeCloseTo(shift[c], 6)
        // Epsilon makes a channel of small variance a little narrower.
        expect(std[c] / Math.abs(scale[c])).toBeLessThanOrEqual(1 + 1e-9)
        expect(std[c] / Math.abs(scale[c])).toBeGreaterThan(0.98)
      }
    }
  })

  it('takes the sum with the shortcut for what the ReLU sees, and group norms with their groups', async () => {
    const model = network('gn')
    const start = model.init(1)
    const norms = await channelStatistics(device, model, start, set, { precision })
    const seen = await channelStatistics(device, model, start, set, { at: 'relu', precision })
    expect(seen.map(({ name }) => name)).toEqual(norms.map(({ name }) => name))
    for (const [i, layer] of norms.entries()) {
      expect(layer.groups).toBe(2)
      const same = layer.mean.every((m, c) => Math.abs(m - seen[i].mean[c]) < 1e-12)
      expect(same).toBe(!layer.residual)
      // Pooled over a group, means are 0 and mean squares at most 1; zero scales end a branch.
      const D = layer.mean.length / 2
      const pooled = layer.mean.subarray(0, D).reduce((a, b) => a + b, 0) / D
      expect(Math.abs(pooled)).toBeLessThan(1e-6)
    }
    const measures = eliminationMeasures(norms[0], { groups: 2 })
    expect(measures.divergence.mean).toBeGreaterThan(0)
  })

  it('says what it cannot look at', async () => {
    const plain = models.mlp({ input: [3, 8, 8], hidden: [4], classes: 3, activation: 'tanh' })
    const call = (model: typeof plain, options: object) =>
      expect(channelStatistics(device, model, model.init(), set, options)).rejects
    await call(plain, {}).toThrow(/no norms over channels.*at: 'relu'/)
    await call(plain, { at: 'relu' }).toThrow(/no ReLUs/)
    await call(network('bn'), {}).toThrow(/Choose statistics/)
    await call(plain, { at: 'norms' }).toThrow(/'norm' or 'relu'/)
    await call(plain, { att: 'norm' }).toThrow(/no option 'att'/)
    await call(network('gn'), { signal: AbortSignal.abort() }).toThrow(/abort/i)
    const short = channelStatistics(device, plain, [1], set)
    await expect(short).rejects.toMatchObject({ code: 'ERR_SHAPE' })
  })
})

describe('flat directions of weight standardization', () => {
  it('are exact null vectors of the Hessian, trained or not, and only with standardization', async () => {
    const model = network('gn', true)
    const run = await train(device, model, set, {
      ...{ optimizer: { kind: 'sgd', lr: 0.1 }, steps: 3, batch: 6 },
    })
    const filters = standardizedFilters(model)
    const count = filters.reduce((sum, name) => sum + model.layout.entry(name).shape[0], 0)
    for (const params of [model.init(1), run.params]) {
      using H = hessian(device, model, params, set, { precision })
      const found = await flatDirections(H, model, { probes: 2, iterations: 6 })
      expect(found.count).toBe(count)
      expect(found.share).toBeCloseTo(count / model.size, 12)
      // Rounding of float64 over some hundred summands.
      for (const residual of found.residuals) expect(residual).toBeLessThan(1e-10)
      expect(found.control).toBeGreaterThan(1e-4)
    }
    const plain = network('gn')
    using H = hessian(device, plain, plain.init(1), set, { precision })
    const other = await flatDirections(H, plain, { filters, probes: 1, iterations: 6 })
    expect(other.residuals[0]).toBeGreaterThan(1e-5)
    await expect(flatDirections(H, plain)).rejects.toThrow(/standardises no filters/)
  })

  it('refuse operators of another size and counts that are none', async () => {
    const model = network('gn', true)
    const small = operatorFrom((v) => v, 3)
    const code = (options: object, operator = operatorFrom((v) => v, model.size)) =>
      expect(flatDirections(operator, model, options)).rejects
    await code({}, small).toMatchObject({ code: 'ERR_SHAPE' })
    await code({ probes: 0 }).toMatchObject({ code: 'ERR_ARGUMENT' })
    await code({ filters: 'nothing.*' }).toMatchObject({ code: 'ERR_ARGUMENT' })
    await code({ filters: 3 }).toMatchObject({ code: 'ERR_ARGUMENT' })
    const { residuals } = await flatDirections(
      operatorFrom((v) => v, model.size),
      model,
    )
    for (const residual of residuals) expect(residual).toBeCloseTo(1, 12)
  })
})

describe('what standardization takes from the gradient', () => {
  it('is what is missing of ‖dW‖² in the Lipschitz identity', () => {
    const W = normals(1, stream('user'), 0, 12)
    const P = normals(2, stream('user'), 0, 12)
    const { centering, scaling } = standardizationRatios(W, P, 3)
    let [kept, total] = [0, 0]
    for (let o = 0; o < 3; o++) {
      const row = (v: Float64Array) => [...v.subarray(4 * o, 4 * o + 4)]
      const centred = (v: number[]) => v.map((x) => x - v.reduce((a, b) => a + b) / 4)
      const dot = (a: number[], b: number[]) => a.reduce((s, x, i) => s + x * b[i], 0)
      const [U, C] = [centred(row(W)), centred(row(P))]
      // dW / r = P - mean(P) - <P, U> U / ‖U‖²
      const dW = C.map((x, i) => x - (dot(C, U) / dot(U, U)) * U[i])
      kept += dot(dW, dW)
      total += dot(row(P), row(P))
    }
    expect(kept / total).toBeCloseTo(1 - centering - scaling, 12)
    expect(
      standardizationRatios(
        W,
        W.map(() => 0),
        3,
      ).centering,
    ).toBeNaN()
    expect(() => standardizationRatios(W, P.subarray(1), 3)).toThrow(/3 filters/)
    expect(() => standardizationRatios(W, P, 5)).toThrow(/5 filters/)
    expect(() => standardizationRatios(W, P, 12)).toThrow(/two weights/)
    expect(() => standardizationRatios(W, P, 0)).toThrow(/positive integer/)
  })

  it('is between 0 and 1 for every layer of a network', async () => {
    const model = network('bcn', true)
    // Branches begin with scale 0, where no gradient reaches their filters.
    const point = { params: spreadAffine(model, model.init(1), { scale: 0.5 }) }
    const options = { statistics: 'batch', batch: 6, precision } as const
    const layers = await layerRatios(device, model, point, set, options)
    expect(layers.map(({ name }) => name)).toEqual(standardizedFilters(model))
    for (const { centering, scaling } of layers) {
      expect(centering).toBeGreaterThanOrEqual(0)
      expect(scaling).toBeGreaterThanOrEqual(0)
      expect(centering + scaling).toBeLessThanOrEqual(1 + 1e-12)
    }
    const plain = network('bcn')
    await expect(
      layerRatios(device, plain, { params: plain.init() }, set, options),
    ).rejects.toThrow(/no weight standardisation/)
  })
})
