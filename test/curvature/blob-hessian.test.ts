import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exactSpectrum } from '../../lib/curvature/dense.js'
import { type SpectralMeasure, wasserstein1 } from '../../lib/curvature/measure.js'
import type { DeviceOperator } from '../../lib/curvature/native-operator.js'
import { hessian } from '../../lib/curvature/network.js'
import { operatorTrace } from '../../lib/curvature/operator-trace.js'
import { slq } from '../../lib/curvature/slq.js'
import { wassersteinBound } from '../../lib/curvature/spectral-error.js'
import { blobs } from '../../lib/data/index.js'
import { type Device, open } from '../../lib/device/device.js'
import { mlp } from '../../lib/nn/mlp.js'
import { normals } from '../../lib/random/index.js'
import { train } from '../../lib/train/index.js'
import { sum } from './known-matrices.js'

/**
 * The Hessian on which the figures for estimators were measured: a relu network 20-20-20-10, 300
 * steps of gradient descent on ten blobs. Its numbers are not those of the original, its size
 * (n = 1050) and kind are.
 */
describe('estimates on a trained network', () => {
  let device: Device
  let operator: DeviceOperator
  let values: Float64Array
  let exact: SpectralMeasure

  beforeAll(async () => {
    device = await open({ device: 'cpu' })
    const set = blobs({ classes: 10, dim: 20, std: 4, n: 400 })
    const model = mlp({ input: 20, hidden: [20, 20], classes: 10, activation: 'relu' })
    const start = normals(1, 0, 0, model.size, new Float64Array(model.size)).map((x) => 0.1 * x)
    const { params } = await train(device, model, set, {
      ...{ optimizer: { kind: 'gd', lr: 0.1 }, params: start, steps: 300 },
    })
    operator = hessian(device, model, params, set, { precision: 'f64' })
    values = (await exactSpectrum(operator)).values
    exact = { nodes: [values], weights: [values.map(() => 1 / values.length)] }
  }, 300_000)
  afterAll(() => {
    operator.dispose()
    device.dispose()
  })

  it('XTrace errs by less than 1 % at 60 products, and knows it', async () => {
    expect(values.length).toBe(1050)
    const trace = sum(values)
    let error = 0
    for (let seed = 0; seed < 10; seed++) {
      const result = await operatorTrace(operator, { method: 'xtrace', products: 60, seed })
      expect(result.products).toBe(60)
      error += Math.abs(result.value / trace - 1) / 10
      expect(Math.abs(result.value - trace)).toBeLessThan(5 * result.standardError)
    }
    // The mean over 40 seeds is 5.9e-3.
    expect(error).toBeLessThan(1e-2)
  }, 120_000)

  it.each([
    [10, 1, 5.1e-3],
    [20, 10, 1.9e-3],
    [40, 1, 2.8e-3],
  ])(
    'the distribution from %d steps and %d probes is as near as measured',
    async (steps, probes, wanted) => {
      const range = values[values.length - 1] - values[0]
      const repeats = probes === 1 ? 5 : 1
      let distance = 0
      for (let seed = 0; seed < repeats; seed++) {
        const measure = await slq(operator, { steps, probes, seed, check: false })
        const near = wasserstein1(measure, exact)
        distance += near / range / repeats
        const ends: [number, number] = [2 * values[0], 2 * values[values.length - 1]]
        expect(near).toBeLessThan(wassersteinBound(measure, 1050, { ends }).total)
      }
      expect(distance).toBeLessThan(2 * wanted)
    },
    120_000,
  )

  it('partial reorthogonalisation gives the quadrature of full, none a near one', async () => {
    const options = { steps: 120, probes: 1, check: false } as const
    const full = await slq(operator, { ...options, reorthogonalize: 'cgs2' })
    const partial = await slq(operator, options)
    const largest = values[values.length - 1]
    for (const [l, node] of full.nodes[0].entries()) {
      expect(Math.abs(partial.nodes[0][l] - node)).toBeLessThan(1e-10 * largest)
      expect(Math.abs(partial.weights[0][l] - full.weights[0][l])).toBeLessThan(1e-10)
    }
    const none = await slq(operator, { ...options, reorthogonalize: 'none' })
    expect(wasserstein1(none, full)).toBeLessThan(1e-3 * largest)
    // Copies of the outliers: nodes without orthogonality are not to be counted.
    const above = (measure: SpectralMeasure) =>
      Array.from(measure.nodes[0]).filter((t) => t > largest * (1 - 1e-6)).length
    expect(above(full)).toBe(1)
    expect(above(none)).toBeGreaterThan(1)
  }, 120_000)
})
