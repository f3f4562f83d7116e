import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { denseMatrix, exactSpectrum } from '../../lib/curvature/dense.js'
import {
  empiricalFisher,
  fisher,
  fisherMonteCarlo,
  gradientCovariance,
} from '../../lib/curvature/fisher.js'
import { gaussNewton, hessian } from '../../lib/curvature/network.js'
import { curvatureProgram } from '../../lib/curvature/programs.js'
import { type Device, open } from '../../lib/device/device.js'
import { resolveLoss } from '../../lib/nn/loss.js'
import { mlp } from '../../lib/nn/mlp.js'
import { defineModel } from '../../lib/nn/model.js'
import * as ops from '../../lib/ops/index.js'
import { evaluate, jvp, lower, type Program, trace, vjp } from '../../lib/program/index.js'
import { normals } from '../../lib/random/index.js'
import { MODEL_CASES, type ModelCase } from './cases.js'
import { denseOracle, denseSamples, pull, softmax } from './dense.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

const f64 = { precision: 'f64' } as const
const tanh = MODEL_CASES[1]
const coded = (code: string) => expect.objectContaining({ code })

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return Array.from(a).reduce((m, x, i) => Math.max(m, Math.abs(x - b[i])), 0)
}

const largest = (a: ArrayLike<number>): number =>
  Array.from(a).reduce((m, x) => Math.max(m, Math.abs(x)), 0)

const times = (matrix: Float64Array, v: Float64Array): Float64Array =>
  v.map((_, i) => {
    const row = matrix.subarray(i * v.length, (i + 1) * v.length)
    return row.reduce((s, a, j) => s + a * v[j], 0)
  })

describe('exact Fisher', () => {
  it('is the sum over all labels, weighted by their probabilities', async () => {
    const { model, set, params } = tanh
    const n = model.size
    const sum = new Float64Array(n * n)
    for (const sample of denseSamples(tanh)) {
      const p = softmax(sample.z)
      for (let label = 0; label < p.length; label++) {
        const g = pull(
          sample,
          p.map((pc, c) => pc - Number(c === label)),
        )
        for (let a = 0; a < n; a++) {
          for (let b = 0; b < n; b++) sum[a * n + b] += (p[label] * g[a] * g[b]) / set.size
        }
      }
    }
    for (const make of [fisher, gaussNewton]) {
      using operator = make(device, model, params, set, f64)
      const { matrix } = await denseMatrix(operator)
      expect(largestDifference(matrix, sum)).toBeLessThan(1e-12 * largest(sum))
    }
  })

  it('refuses a loss without a distribution of targets', () => {
    const test = MODEL_CASES.find((c) => c.name === 'binary logistic, softplus') as ModelCase
    for (const make of [fisher, fisherMonteCarlo]) {
      expect(() => make(device, test.model, test.params, test.set, { loss: 'hinge' })).toThrow(
        coded('ERR_ARGUMENT'),
      )
    }
    // The empirical Fisher needs none.
    using e = empiricalFisher(device, test.model, test.params, test.set, { loss: 'hinge' })
    expect(e.size).toBe(test.model.size)
  })
})

describe('Monte-Carlo Fisher', () => {
  it('has G for a mean over seeds, within three standard errors', async () => {
    const { model, set, params } = tanh
    const v = normals(7, 0, 0, model.size)
    using g = gaussNewton(device, model, params, set, f64)
    const form = async (operator: { matvec(v: Float64Array): Promise<ArrayLike<number>> }) =>
      Array.from(await operator.matvec(v)).reduce((s, x, i) => s + x * v[i], 0)
    const expected = await form(g)
    for (const draws of [1, 3]) {
      const forms: number[] = []
      for (let seed = 0; seed < 80; seed++) {
        using m = fisherMonteCarlo(device, model, params, set, { ...f64, seed, draws, tangents: 1 })
        forms.push(await form(m))
      }
      const mean = forms.reduce((s, x) => s + x, 0) / forms.length
      const variance = forms.reduce((s, x) => s + (x - mean) ** 2, 0) / (forms.length - 1)
      expect(variance).toBeGreaterThan(0)
      expect(Math.abs(mean - expected)).toBeLessThan(3 * Math.sqrt(variance / forms.length))
    }
  })

  it.each(MODEL_CASES)('draws what is documented: $name', async (test) => {
    const { model, set, params, loss } = test
    const options = { loss, ...f64, draws: 3, seed: 5, batch: 4, tangents: 2 }
    using operator = fisherMonteCarlo(device, model, params, set, options)
    const { matrix } = await denseMatrix(operator)
    const expected = denseOracle('fisher-monte-carlo', test, { draws: 3, seed: 5 })
    expect(largestDifference(matrix, expected)).toBeLessThan(1e-12 * Math.max(1, largest(expected)))
  })

  it('gives a sample the same draws in any chunk and subset', async () => {
    const { model, set, params } = tanh
    const v = normals(8, 0, 0, model.size)
    for (const samples of [[7, 2, 9], { from: 5 }, { from: 1, to: 4 }]) {
      const indices = Array.isArray(samples)
        ? samples
        : Array.from({ length: set.size }, (_, i) => i).slice(samples.from, samples.to)
      const expected = times(
        denseOracle('fisher-monte-carlo', tanh, { seed: 3, samples: indices }),
        v,
      )
      for (const batch of [1, 2, 100]) {
        const options = { ...f64, seed: 3, samples, batch }
        using operator = fisherMonteCarlo(device, model, params, set, options)
        expect(largestDifference(await operator.matvec(v), expected)).toBeLessThan(1e-12)
      }
    }
  })

  it('gives ignored labels no weight', async () => {
    const { model, set, params } = tanh
    const kept = Array.from(set.targets).flatMap((y, i) => (y === 1 ? [] : [i]))
    expect(kept.length).toBeLessThan(set.size)
    const loss = { kind: 'cross-entropy', ignoreLabel: 1 } as const
    const options = { ...f64, reduction: 'sum', seed: 2 } as const
    const v = normals(9, 0, 0, model.size)
    using all = fisherMonteCarlo(device, model, params, set, { ...options, loss })
    using part = fisherMonteCarlo(device, model, params, set, { ...options, samples: kept })
    expect(largestDifference(await all.matvec(v), await part.matvec(v))).toBeLessThan(1e-12)
  })

  it('refuses draws that are not a positive integer', () => {
    for (const draws of [0, 1.5, Number.NaN]) {
      expect(() => fisherMonteCarlo(device, tanh.model, tanh.params, tanh.set, { draws })).toThrow(
        coded('ERR_ARGUMENT'),
      )
    }
    const unknown = { draws: 2 } as object
    expect(() => empiricalFisher(device, tanh.model, tanh.params, tanh.set, unknown)).toThrow(
      coded('ERR_ARGUMENT'),
    )
  })
})

describe('empirical Fisher and covariance', () => {
  it('tr E = mean ||g_i||²; ranks are at most N and N - 1', async () => {
    // More parameters than samples.
    const { model, set, params } = tanh
    const gradients = denseSamples(tanh).map(({ gradient }) => gradient)
    const squares = gradients.map((g) => g.reduce((s, x) => s + x * x, 0))
    const mean = squares.reduce((s, x) => s + x, 0) / set.size
    using e = empiricalFisher(device, model, params, set, f64)
    using c = gradientCovariance(device, model, params, set, f64)
    const [ve, vc] = [(await exactSpectrum(e)).values, (await exactSpectrum(c)).values]
    expect(ve.reduce((s, x) => s + x, 0)).toBeCloseTo(mean, 12)
    const rank = (values: Float64Array) => values.filter((x) => x > 1e-13 * largest(ve)).length
    expect(rank(ve)).toBe(set.size)
    expect(rank(vc)).toBe(set.size - 1)
    expect(Math.min(...ve, ...vc)).toBeGreaterThan(-1e-13 * largest(ve))
  })

  it('serves several vectors at once as one by one, with chunks that are not kept', async () => {
    const { model, set, params } = tanh
    const n = model.size
    const vs = normals(10, 0, 0, 3 * n)
    for (const make of [empiricalFisher, gradientCovariance]) {
      const options = { ...f64, batch: 5, keepBytes: 0, tangents: 2, reduction: 'sum' } as const
      using operator = make(device, model, params, set, options)
      const kind = make === empiricalFisher ? 'empirical-fisher' : 'gradient-covariance'
      const matrix = denseOracle(kind, tanh).map((x) => x * set.size)
      const together = await operator.matmat(vs, 3)
      for (let r = 0; r < 3; r++) {
        const expected = times(matrix, vs.slice(r * n, (r + 1) * n))
        const product = together.subarray(r * n, (r + 1) * n)
        expect(largestDifference(product, expected)).toBeLessThan(1e-11)
      }
    }
  })

  it('takes a block of parameters: the mean gradient of the block', async () => {
    const { model, set, params } = tanh
    const whole = denseOracle('gradient-covariance', tanh)
    const entry = model.layout.entry('layers.1.weight')
    using block = gradientCovariance(device, model, params, set, { ...f64, params: [entry.name] })
    const { matrix } = await denseMatrix(block)
    for (let i = 0; i < entry.size; i++) {
      for (let j = 0; j < entry.size; j++) {
        const expected = whole[(entry.offset + i) * model.size + entry.offset + j]
        expect(Math.abs(matrix[i * entry.size + j] - expected)).toBeLessThan(1e-13)
      }
    }
  })

  it('weight decay shifts E, not the covariance', async () => {
    const { model, set, params } = tanh
    const v = normals(11, 0, 0, model.size)
    const options = { ...f64, weightDecay: 0.5, batch: 5 }
    using e = empiricalFisher(device, model, params, set, options)
    using c = gradientCovariance(device, model, params, set, options)
    const plain = times(denseOracle('empirical-fisher', tanh), v)
    const expected = plain.map((x, i) => x + 0.5 * v[i])
    expect(largestDifference(await e.matvec(v), expected)).toBeLessThan(1e-12)
    const centred = times(denseOracle('gradient-covariance', tanh), v)
    expect(largestDifference(await c.matvec(v), centred)).toBeLessThan(1e-12)
  })

  it('fails with the code of the gradient that could not be computed', async () => {
    const targets = (tanh.set.targets as Int32Array).slice()
    targets[3] = 9
    const set = { ...tanh.set, targets, classes: null }
    const options = { loss: 'cross-entropy' } as const
    using c = gradientCovariance(device, tanh.model, tanh.params, set, options)
    await expect(c.matvec(new Float64Array(c.size).fill(1))).rejects.toMatchObject({
      code: 'ERR_RANGE',
    })
  })
})

describe('programs of outer products', () => {
  const count = (program: Program, name: string) =>
    program.operations.filter((op) => op.name === name).length
  const setting = (model: ModelCase['model'], batch: number) => ({
    model,
    loss: resolveLoss('cross-entropy'),
    set: tanh.set,
    batch,
    selected: model.layout.names.map(() => true),
  })

  it.each(['relu', 'tanh', 'gelu'] as const)('two products per weight matrix: %s', (activation) => {
    const model = mlp({ input: 4, hidden: [6, 5], classes: 3, activation, layerNorm: true })
    for (const kind of ['empirical-fisher', 'fisher-monte-carlo'] as const) {
      const { linear } = curvatureProgram(kind, setting(model, 12))
      expect(count(lower(linear), 'matmul')).toBe(2 * 3)
    }
  })

  it('stay exact where samples meet inside the network', () => {
    const model = defineModel({
      name: 'centred',
      input: [4],
      output: [3],
      parameters: [
        { name: 'a', shape: [5, 4], init: { kind: 'ones' } },
        { name: 'b', shape: [3, 5], init: { kind: 'ones' } },
      ],
      apply: ({ a, b }, x) => {
        const h = ops.tanh(ops.matmul(x, a, { transB: true }))
        return ops.matmul(ops.sub(h, ops.mean(h, [0], true)), b, { transB: true })
      },
    })
    const { linear, primal, inputs } = curvatureProgram('empirical-fisher', setting(model, 6))
    const point = [normals(1, 0, 0, 20), normals(1, 1, 0, 15)]
    const x = tanh.set.inputs.slice(0, 24) as Float64Array
    const y = tanh.set.targets.slice(0, 6)
    const w = Float64Array.of(1, 1, 0, 1, 1, 1)
    const v = [normals(2, 0, 0, 20), normals(2, 1, 0, 15)]
    const given = [...point, x, y, w]
    const kept = evaluate(primal, given)
    const product = evaluate(
      linear,
      inputs.map(({ kind, index }) =>
        kind === 'kept' ? kept[index] : kind === 'input' ? given[index] : v[index],
      ),
    )
    const direct = trace(
      (...[a, b, x1, y1, w1, va, vb]) => {
        const f = (...p: (typeof a)[]) => {
          const shifted = ops.mul(ops.sub(p[2], 0.1), 1 / 1.3)
          return model.apply(p.slice(0, 2), shifted, { training: false, key: null })
        }
        const { values, tangents } = jvp(f, [a, b, x1], [va, vb, null])
        const ones = ops.constant(1, { shape: [6] })
        const [r] = vjp((z, t) => ops.crossEntropy(z, t), [values[0], y1], [0]).pullback(ones)
        const dots = ops.mul(ops.sum(ops.mul(r, tangents[0]), [1]), w1)
        return vjp(f, [a, b, x1], [0, 1]).pullback(ops.mul(r, ops.reshape(dots, [6, 1])))
      },
      [[5, 4], [3, 5], [6, 4], { dtype: 'i32', shape: [6] }, [6], [5, 4], [3, 5]],
    )
    const expected = evaluate(direct, [...given, ...v])
    for (const [i, block] of product.entries()) {
      expect(largestDifference(block, expected[i])).toBeLessThan(1e-12)
    }
  })
})

describe('options of every operator', () => {
  const { model, set, params } = tanh
  const v = normals(12, 0, 0, model.size)

  it('two parts of a data set, weighted by their sizes, are the whole', async () => {
    for (const make of [hessian, gaussNewton, empiricalFisher]) {
      const parts = [{ from: 0, to: 5 }, Array.from({ length: set.size - 5 }, (_, i) => i + 5)]
      const sum = new Float64Array(model.size)
      for (const samples of parts) {
        using operator = make(device, model, params, set, { ...f64, samples, batch: 3 })
        const N = operator.description?.samples.count ?? 0
        const product = await operator.matvec(v)
        for (let i = 0; i < sum.length; i++) sum[i] += (N / set.size) * product[i]
      }
      using whole = make(device, model, params, set, f64)
      expect(largestDifference(await whole.matvec(v), sum)).toBeLessThan(1e-12)
    }
  })

  it('the order of the samples does not matter, drawn targets included', async () => {
    const samples = Array.from({ length: set.size }, (_, i) => (5 * i + 3) % set.size)
    expect(new Set(samples).size).toBe(set.size)
    for (const make of [gaussNewton, fisherMonteCarlo, gradientCovariance]) {
      using shuffled = make(device, model, params, set, { ...f64, samples, batch: 5 })
      using whole = make(device, model, params, set, f64)
      const [a, b] = [await shuffled.matvec(v), await whole.matvec(v)]
      expect(largestDifference(a, b)).toBeLessThan(1e-13 * Math.max(1, largest(b)))
    }
  })

  it('refuses samples that do not exist, and statistics that a model does not have', () => {
    const make = (options: object) => () => hessian(device, model, params, set, options)
    expect(make({ samples: [0, set.size] })).toThrow(coded('ERR_RANGE'))
    expect(make({ samples: [-1] })).toThrow(coded('ERR_RANGE'))
    expect(make({ samples: [] })).toThrow(coded('ERR_ARGUMENT'))
    expect(make({ samples: { from: 3, to: 3 } })).toThrow(coded('ERR_ARGUMENT'))
    expect(make({ samples: { to: 99 } })).toThrow(coded('ERR_RANGE'))
    expect(make({ statistics: 'batch' })).toThrow(coded('ERR_ARGUMENT'))
    expect(make({ statistics: 'train' })).toThrow(coded('ERR_ARGUMENT'))
  })

  it('an operator says what it is', () => {
    using operator = fisherMonteCarlo(device, model, params, set, {
      params: 'layers.0.*',
      samples: { from: 2, to: 9 },
      draws: 2,
      seed: 4,
      weightDecay: 0.1,
    })
    expect(operator.description).toEqual({
      kind: 'fisher-monte-carlo',
      model: model.name,
      loss: 'cross-entropy',
      params: ['layers.0.weight', 'layers.0.bias'],
      samples: { set: set.name, count: 7, of: set.size, from: 2, to: 9 },
      reduction: 'mean',
      weightDecay: 0.1,
      statistics: 'frozen',
      precision: 'f32',
      draws: 2,
      seed: '4',
    })
  })
})
