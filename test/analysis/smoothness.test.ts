import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type Device,
  data,
  evaluate,
  gradientSmoothness,
  hessian,
  models,
  open,
  ops,
  spreadAffine,
} from '../../lib/index.js'

let device: Device
beforeAll(async () => {
  device = await open()
})
afterAll(() => device.dispose())

const precision = 'f64'

describe('gradientSmoothness()', () => {
  it('finds the curvature of a quadratic along its gradient', async () => {
    // L = ½ Σ_i c_i θ_i²: g = c θ, so ‖g(θ - η g) - g‖ = η ‖c² θ‖ and β = ‖c² θ‖ / ‖c θ‖.
    const curvature = [1, 4]
    const quadratic = models.define({
      name: 'quadratic',
      input: [2],
      output: [2],
      parameters: [{ name: 'theta', shape: [2], init: { kind: 'ones' } }],
      apply: ({ theta }, x) => ops.mul(x, ops.reshape(theta, [1, 2])),
    })
    const set = data.fromArrays([curvature.map(Math.sqrt)], [[0, 0]], { targetShape: [2] })
    const theta = [3, -1]
    const [found] = await gradientSmoothness(device, quadratic, [{ params: theta }], set, {
      steps: [0.01, 0.1, 1],
      loss: 'half-squared-error',
      precision,
    })
    const g = theta.map((t, i) => curvature[i] * t)
    const square = g.map((x, i) => curvature[i] * x)
    const at = (eta: number) =>
      theta.reduce((sum, t, i) => sum + 0.5 * curvature[i] * (t - eta * g[i]) ** 2, 0)
    expect(found.loss).toBeCloseTo(at(0), 12)
    expect(found.gradientNorm).toBeCloseTo(Math.hypot(...g), 12)
    expect(found.beta).toBeCloseTo(Math.hypot(...square) / Math.hypot(...g), 10)
    for (const [k, eta] of [0.01, 0.1, 1].entries()) {
      expect(found.losses[k]).toBeCloseTo(at(eta), 12)
      expect(found.predictiveness[k]).toBeCloseTo(eta * Math.hypot(...square), 10)
    }
    expect(found.variation).toBeCloseTo(Math.max(at(0), at(1)) - at(0.1), 10)
  })

  it('is the Hessian along the gradient for small steps, whatever the chunks', async () => {
    const set = data.blobs({ n: 30, classes: 3, dim: 4, seed: 1 })
    const model = models.mlp({ input: 4, hidden: [5], classes: 3, activation: 'tanh' })
    const points = [{ params: model.init(1) }, { params: model.init(2) }]
    const steps = [1e-6]
    const numericGradient = async (theta: Float64Array): Promise<Float64Array> => {
      const g = new Float64Array(theta.length)
      for (let i = 0; i < g.length; i++) {
        const at = async (h: number) => {
          const moved = theta.map((x, k) => (k === i ? x + h : x))
          return (await evaluate(device, model, moved, set, { precision })).loss
        }
        g[i] = ((await at(1e-5)) - (await at(-1e-5))) / 2e-5
      }
      return g
    }
    const found = await gradientSmoothness(device, model, points, set, { steps, precision })
    const cut = await gradientSmoothness(device, model, points, set, { steps, precision, batch: 7 })
    for (const [p, { params }] of points.entries()) {
      expect(cut[p].loss).toBeCloseTo(found[p].loss, 12)
      expect(cut[p].beta).toBeCloseTo(found[p].beta, 5)
      using H = hessian(device, model, params, set, { precision })
      const g = await numericGradient(params)
      expect(found[p].gradientNorm).toBeCloseTo(Math.hypot(...g), 6)
      expect(found[p].beta).toBeCloseTo(Math.hypot(...(await H.matvec(g))) / Math.hypot(...g), 4)
    }
  })

  it('refuses steps and points that are none, and stops', async () => {
    const set = data.blobs({ n: 6, classes: 3, dim: 4 })
    const model = models.mlp({ input: 4, hidden: [], classes: 3 })
    const point = { params: model.init(1) }
    const code = (options: object, points: unknown = [point]) =>
      expect(gradientSmoothness(device, model, points as never, set, options as never)).rejects
    await code({ steps: [] }).toMatchObject({ code: 'ERR_ARGUMENT' })
    await code({}).toMatchObject({ code: 'ERR_ARGUMENT' })
    await code({ steps: [0.1, 0.1] }).toMatchObject({ code: 'ERR_ARGUMENT' })
    await code({ steps: [-1] }).toMatchObject({ code: 'ERR_ARGUMENT' })
    await code({ steps: [1], batsh: 2 }).toMatchObject({ code: 'ERR_ARGUMENT' })
    await code({ steps: [1] }, []).toMatchObject({ code: 'ERR_ARGUMENT' })
    await code({ steps: [1] }, [{ params: [1] }]).toMatchObject({ code: 'ERR_SHAPE' })
    await code({ steps: [1], signal: AbortSignal.abort() }).toMatchObject({ code: 'ERR_ABORTED' })
    const lost = { params: model.init(1).fill(Number.NaN) }
    await code({ steps: [1], precision }, [lost]).toMatchObject({ code: 'ERR_NOT_FINITE' })
  })
})

describe('spreadAffine()', () => {
  const model = models.mlp({ input: 4, hidden: [64, 64], classes: 3, layerNorm: true })
  const start = model.init(3)

  it('spreads scales and shifts of the norms by the deviations asked for, and nothing else', () => {
    const spread = spreadAffine(model, start, { scale: 0.1, shift: 2, seed: 1 })
    const change = (name: string) =>
      model.layout.view(spread, name).map((x, i) => x - model.layout.view(start, name)[i])
    for (const name of model.layout.names) {
      const deviation = Math.sqrt(change(name).reduce((s, x) => s + x * x, 0) / 64)
      if (!name.startsWith('norms.')) expect(change(name).every((x) => x === 0)).toBe(true)
      else expect(deviation / (name.endsWith('weight') ? 0.1 : 2)).toBeCloseTo(1, 0)
    }
    expect(spreadAffine(model, start)).toEqual(start)
  })

  it('takes a choice of norms, whose numbers do not depend on it', () => {
    const all = spreadAffine(model, start, { shift: 1 })
    const some = spreadAffine(model, start, { shift: 1, params: 'norms.1.*' })
    expect(model.layout.view(some, 'norms.1.bias')).toEqual(model.layout.view(all, 'norms.1.bias'))
    expect(model.layout.view(some, 'norms.0.bias')).toEqual(
      model.layout.view(start, 'norms.0.bias'),
    )
  })

  it('refuses models without norms, negative deviations and other vectors', () => {
    const plain = models.mlp({ input: 4, hidden: [5], classes: 3 })
    expect(() => spreadAffine(plain, plain.init(), { scale: 1 })).toThrow(/found no norm/)
    expect(() => spreadAffine(model, start, { scale: -1 })).toThrow(/deviation/)
    expect(() => spreadAffine(model, start, { params: 'layers.*' })).toThrow(/among/)
    expect(() => spreadAffine(model, [1], {})).toThrow(/elements/)
    expect(() => spreadAffine(model, start, { std: 1 } as never)).toThrow(/no option 'std'/)
  })
})
