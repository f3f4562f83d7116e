import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exactSpectrum } from '../../lib/curvature/dense.js'
import { exactDiagonal } from '../../lib/curvature/exact-diagonal.js'
import { gaussNewton, hessian } from '../../lib/curvature/network.js'
import { type OperatorTraceOptions, operatorTrace } from '../../lib/curvature/operator-trace.js'
import { denseOperator, operatorFrom } from '../../lib/curvature/operators.js'
import { blobs } from '../../lib/data/index.js'
import { type Device, open } from '../../lib/device/device.js'
import { mlp } from '../../lib/nn/mlp.js'
import { MODEL_CASES } from './cases.js'
import { denseSamples, pull, softmax } from './dense.js'
import { fewestCovered, rotated, sum } from './known-matrices.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

/** Eigenvalues ± 1 / i: a slow decay, so that no sketch is nearly exact. */
const slow = Float64Array.from({ length: 120 }, (_, i) => (i % 3 === 1 ? -1 : 1) / (i + 1))
const fast = Float64Array.from({ length: 120 }, (_, i) => 50 * Math.exp(-i / 4) + 1e-3)

describe('operatorTrace', () => {
  it.each(['hutchinson', 'hutch++', 'xtrace'] as const)(
    '%s: two standard errors cover the trace',
    async (method) => {
      using operator = denseOperator(device, rotated(slow))
      const exact = sum(slow)
      let covered = 0
      let squaredError = 0
      let squaredClaim = 0
      const seeds = 50
      for (let seed = 0; seed < seeds; seed++) {
        const { value, standardError } = await operatorTrace(operator, {
          ...{ method, products: 60, seed },
        })
        if (Math.abs(value - exact) <= 2 * standardError) covered++
        squaredError += (value - exact) ** 2 / seeds
        squaredClaim += standardError ** 2 / seeds
      }
      // Student's t with 19 degrees of freedom or more: 2 errors cover 94 %.
      expect(covered).toBeGreaterThanOrEqual(fewestCovered(seeds, 0.94))
      // Neither are the errors claimed far above or below those made.
      expect(Math.sqrt(squaredError / squaredClaim)).toBeGreaterThan(0.6)
      expect(Math.sqrt(squaredError / squaredClaim)).toBeLessThan(1.5)
    },
  )

  it.each(['f32', 'f64'] as const)(
    'is exact when the rank is below the sketch, %s',
    async (dtype) => {
      const low = Float64Array.from({ length: 80 }, (_, i) => (i < 9 ? (i - 3) * 1.7 : 0))
      using operator = denseOperator(device, rotated(low, 4), { dtype })
      for (const method of ['hutch++', 'xtrace'] as const) {
        const result = await operatorTrace(operator, { method, products: 48 })
        const tolerance = dtype === 'f64' ? 1e-8 : 1e-4
        expect(Math.abs(result.value / sum(low) - 1)).toBeLessThan(tolerance)
        expect(result.standardError).toBeLessThan(tolerance * sum(low))
        if (dtype === 'f64') expect(result.exact).toBe(true)
        expect(result.products).toBeLessThanOrEqual(48)
      }
    },
  )

  it('errs less by a sketch than by probes alone when few eigenvalues carry the trace', async () => {
    using operator = denseOperator(device, rotated(fast))
    const error = async (method: OperatorTraceOptions['method']) => {
      let squares = 0
      for (let seed = 0; seed < 3; seed++) {
        const { value } = await operatorTrace(operator, { method, products: 60, seed })
        squares += (value / sum(fast) - 1) ** 2
      }
      return Math.sqrt(squares / 3)
    }
    const hutchinson = await error('hutchinson')
    expect(await error('hutch++')).toBeLessThan(0.1 * hutchinson)
    expect(await error('xtrace')).toBeLessThan(0.03 * hutchinson)
  })

  it('errs less by probes alone when no eigenvalues stand out', async () => {
    const flat = Float64Array.from({ length: 200 }, (_, i) => 1 + 0.1 * Math.sin(i))
    using operator = denseOperator(device, rotated(flat, 1, 20))
    const error = async (method: OperatorTraceOptions['method']): Promise<number> => {
      let square = 0
      for (let seed = 0; seed < 10; seed++) {
        const { value } = await operatorTrace(operator, { method, products: 100, seed })
        square += (value - sum(flat)) ** 2
      }
      return Math.sqrt(square)
    }
    // The documentation says 10 and 16 times, over 40 seeds.
    const hutchinson = await error('hutchinson')
    expect(await error('xtrace')).toBeGreaterThan(4 * hutchinson)
    expect(await error('hutch++')).toBeGreaterThan(3 * hutchinson)
  })

  it('doubles the sketch until the tolerance holds, with the products that it has', async () => {
    using operator = denseOperator(device, rotated(fast))
    const options = { method: 'xtrace', products: 160, seed: 2 } as const
    const rough = await operatorTrace(operator, { ...options, tol: 0.1 })
    const fine = await operatorTrace(operator, { ...options, tol: 1e-4 })
    expect(rough.products).toBeLessThan(fine.products)
    expect(fine.products).toBeLessThan(160)
    expect(fine.standardError).toBeLessThanOrEqual(1e-4 * fine.value)
    expect(Math.abs(fine.value / sum(fast) - 1)).toBeLessThan(5e-4)
    // A sketch that grew in stages gives what one of the same size gives.
    const once = await operatorTrace(operator, { ...options, products: fine.products })
    expect(fine.value).toBeCloseTo(once.value, 10)
    expect(fine.standardError / once.standardError).toBeCloseTo(1, 6)
    for (const method of ['hutchinson', 'hutch++'] as const) {
      const { products, standardError, value } = await operatorTrace(operator, {
        ...{ method, products: 3000, tol: 0.05 },
      })
      if (method === 'hutchinson') expect(products).toBeLessThan(3000)
      expect(standardError).toBeLessThanOrEqual(0.05 * value)
    }
  })

  it('has zero variance on a diagonal matrix, and knows the zero operator', async () => {
    const diagonal = operatorFrom((v) => v.map((x, i) => x * (i + 1)), 30)
    const one = await operatorTrace(diagonal, { method: 'hutchinson', products: 1 })
    expect(one.value).toBe(465)
    const zero = operatorFrom((v) => v.map(() => 0), 30)
    for (const method of ['hutchinson', 'hutch++', 'xtrace', 'exact'] as const) {
      const { value, standardError } = await operatorTrace(zero, { method, products: 12 })
      expect([value, standardError]).toEqual([0, 0])
    }
    // A sketch of all n directions leaves nothing to estimate.
    const full = await operatorTrace(diagonal, { method: 'xtrace', products: 200 })
    expect(full.exact).toBe(true)
    expect(full.value).toBeCloseTo(465, 9)
  })

  it('chooses by size, products and memory', async () => {
    const operator = operatorFrom((v) => v.map((x) => x), 500)
    const method = async (options: OperatorTraceOptions) =>
      (await operatorTrace(operator, options)).method
    expect(await method({ products: 500 })).toBe('exact')
    expect(await method({ products: 20 })).toBe('xtrace')
    expect(await method({ products: 20, memory: 20 * 500 * 8 })).toBe('hutchinson')
    expect(await method({ products: 2 })).toBe('hutchinson')
  })

  it('is the same on host and device, and reports progress', async () => {
    const matrix = rotated(slow)
    using native = denseOperator(device, matrix)
    const host = operatorFrom((v) => {
      const n = slow.length
      return v.map((_, i) => {
        let total = 0
        for (let j = 0; j < n; j++) total += matrix[i * n + j] * v[j]
        return total
      })
    }, slow.length)
    for (const method of ['xtrace', 'hutch++'] as const) {
      const seen: number[] = []
      const onProgress = (done: number) => seen.push(done)
      const a = await operatorTrace(native, { method, products: 40, seed: 5, onProgress })
      const b = await operatorTrace(host, { method, products: 40, seed: 5 })
      expect(a.value).toBeCloseTo(b.value, 9)
      expect(a.standardError / b.standardError).toBeCloseTo(1, 7)
      expect(seen).toEqual([...seen].sort((x, y) => x - y))
      expect(seen.at(-1)).toBe(a.products)
    }
  })

  it('refuses what it cannot do', async () => {
    const operator = operatorFrom((v) => v.map((x) => x), 50)
    const bad: OperatorTraceOptions[] = [
      { products: 0 },
      { method: 'hutch++', products: 2 },
      { method: 'xtrace', products: 1 },
      { method: 'xtrace', products: 40, memory: 1000 },
      { method: 'xtrace', memory: 0 },
      { tol: -1 },
      { method: 'hutch+' as 'hutch++' },
      { distribution: 'uniform' as 'normal' },
    ]
    for (const options of bad) {
      await expect(operatorTrace(operator, options)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    }
    const signal = AbortSignal.abort()
    for (const method of ['hutchinson', 'hutch++', 'xtrace', 'exact'] as const) {
      await expect(operatorTrace(operator, { method, signal })).rejects.toMatchObject({
        code: 'ERR_ABORTED',
      })
    }
    for (const method of ['hutchinson', 'hutch++', 'xtrace', 'exact'] as const) {
      const onProgress = () => {
        throw new RangeError('no')
      }
      await expect(operatorTrace(operator, { method, onProgress })).rejects.toThrow(RangeError)
    }
    const broken = operatorFrom((v) => v.map(() => Number.NaN), 50)
    await expect(operatorTrace(broken, { method: 'xtrace', products: 20 })).rejects.toMatchObject({
      code: 'ERR_OPERATOR',
    })
  })
})

describe('trace of network curvature', () => {
  it('tr H = tr G for relu networks: no output depends on a single weight but linearly', async () => {
    const { set } = MODEL_CASES[0]
    const model = mlp({ input: 6, hidden: [7, 5], classes: 4, activation: 'relu' })
    const params = model.init(3)
    using h = hessian(device, model, params, set, { precision: 'f64' })
    using g = gaussNewton(device, model, params, set, { precision: 'f64' })
    const [diagonalH, diagonalG] = await Promise.all([exactDiagonal(h), exactDiagonal(g)])
    const largest = Math.max(...diagonalG)
    for (const [i, x] of diagonalG.entries()) {
      expect(Math.abs(x - diagonalH[i])).toBeLessThan(1e-13 * largest)
    }
    const exact = await operatorTrace(g, { method: 'exact' })
    expect(exact.value).toBeCloseTo(sum(diagonalH), 12)
    // rank G <= N (C - 1) = 39 of n parameters.
    expect(g.size).toBeGreaterThan(100)
    const sketched = await operatorTrace(g, { method: 'xtrace', products: 90 })
    expect(sketched.exact).toBe(true)
    expect(Math.abs(sketched.value / exact.value - 1)).toBeLessThan(1e-8)
  })

  it('tr G is the mean over samples and labels of p ||Jᵀ(e - p)||²', async () => {
    const test = MODEL_CASES[1]
    using g = gaussNewton(device, test.model, test.params, test.set, { precision: 'f64' })
    const samples = denseSamples(test)
    let expected = 0
    for (const sample of samples) {
      const p = softmax(sample.z)
      p.forEach((weight, c) => {
        const direction = p.map((x, k) => (k === c ? 1 : 0) - x)
        expected += weight * sum(pull(sample, direction).map((x) => x * x))
      })
    }
    const { value } = await operatorTrace(g, { method: 'exact' })
    expect(value).toBeCloseTo(expected / samples.length, 12)
  })

  it('rank G is N (C - 1): a sketch of that many rows and one more is exact', async () => {
    const full = blobs({ classes: 3, dim: 8, n: 20 })
    const model = mlp({ input: 8, hidden: [12, 9], classes: 3, activation: 'tanh' })
    using g = gaussNewton(device, model, model.init(1), full, { precision: 'f64' })
    const { values } = await exactSpectrum(g)
    const rank = values.filter((t) => t > 1e-11 * values[values.length - 1]).length
    expect(rank).toBe(40)
    const { exact, products } = await operatorTrace(g, { method: 'xtrace', products: 2 * 41 })
    expect(exact).toBe(true)
    expect(products).toBe(41 + 40)
  })
})
