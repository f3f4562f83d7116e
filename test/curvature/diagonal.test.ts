import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type DiagonalOptions, diagonal } from '../../lib/curvature/diagonal.js'
import { denseOperator, operatorFrom } from '../../lib/curvature/operators.js'
import { type Device, open } from '../../lib/device/device.js'
import { diagonalOf, rotated } from './known-matrices.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

const n = 100
const slow = Float64Array.from({ length: n }, (_, i) => (i % 3 === 1 ? -1 : 1) / (i + 1))
const SAMPLED = ['hutchinson', 'xdiag', 'diag++'] as const

describe('diagonal', () => {
  it.each(SAMPLED)('%s: two standard errors cover the elements', async (method) => {
    const matrix = rotated(slow)
    using operator = denseOperator(device, matrix)
    const exact = diagonalOf(matrix)
    let covered = 0
    let squaredError = 0
    let squaredClaim = 0
    for (let seed = 0; seed < 50; seed++) {
      const { values, standardErrors } = await diagonal(operator, { method, products: 60, seed })
      exact.forEach((x, i) => {
        if (Math.abs(values[i] - x) <= 2 * standardErrors[i]) covered++
        squaredError += (values[i] - x) ** 2
        squaredClaim += standardErrors[i] ** 2
      })
    }
    // 95 % of 5000 elements, which depend on each other; heavy tails cover a little less.
    expect(covered / (50 * n)).toBeGreaterThan(0.91)
    expect(Math.sqrt(squaredError / squaredClaim)).toBeGreaterThan(0.7)
    expect(Math.sqrt(squaredError / squaredClaim)).toBeLessThan(1.3)
  })

  it.each(['xdiag', 'diag++'] as const)(
    '%s: exact when the rank is below the sketch',
    async (method) => {
      const matrix = rotated(Float64Array.from({ length: n }, (_, i) => (i < 7 ? i - 2.5 : 0)))
      using operator = denseOperator(device, matrix)
      const { values, exact, standardErrors } = await diagonal(operator, { method, products: 40 })
      expect(exact).toBe(true)
      diagonalOf(matrix).forEach((x, i) => {
        expect(Math.abs(values[i] - x)).toBeLessThan(1e-8)
      })
      expect(Math.max(...standardErrors)).toBeLessThan(1e-6)
    },
  )

  it('errs less by a sketch when few eigenvectors carry the rest', async () => {
    const matrix = rotated(Float64Array.from({ length: n }, (_, i) => 20 * Math.exp(-i / 3) + 0.1))
    using operator = denseOperator(device, matrix)
    const exact = diagonalOf(matrix)
    const error = async (method: DiagonalOptions['method']) => {
      const { values } = await diagonal(operator, { method, products: 60, seed: 1 })
      return Math.hypot(...values.map((x, i) => x - exact[i]))
    }
    const hutchinson = await error('hutchinson')
    expect(await error('xdiag')).toBeLessThan(0.2 * hutchinson)
    expect(await error('diag++')).toBeLessThan(0.15 * hutchinson)
  })

  it('is exact for diagonal matrices, by columns, and for zero', async () => {
    const operator = operatorFrom((v) => v.map((x, i) => x * (i + 1)), 40)
    for (const method of ['hutchinson', 'exact'] as const) {
      const { values } = await diagonal(operator, { method, products: 30 })
      values.forEach((x, i) => {
        expect(x).toBeCloseTo(i + 1, 9)
      })
    }
    const one = await diagonal(operator, { method: 'hutchinson', products: 1 })
    expect(one.standardErrors[0]).toBeNaN()
    const zero = operatorFrom((v) => v.map(() => 0), 40)
    for (const method of SAMPLED) {
      const { values } = await diagonal(zero, { method, products: 12 })
      expect(values.every((x) => x === 0)).toBe(true)
    }
  })

  it.each([
    ['f32', 1e-24],
    ['f32', 1e-36],
    ['f32', 1e20],
    ['f32', 1e35],
    ['f64', 1e-160],
    ['f64', 1e-200],
    ['f64', 1e160],
    ['f64', 1e200],
    ['f64', 1e300],
  ] as const)('%s: elements of size %d have the errors of those of size 1', async (dtype, size) => {
    const matrix = rotated(slow)
    using plain = denseOperator(device, matrix, { dtype })
    using tiny = denseOperator(
      device,
      matrix.map((x) => size * x),
      { dtype },
    )
    for (const method of SAMPLED) {
      const expected = await diagonal(plain, { method, products: 60 })
      const got = await diagonal(tiny, { method, products: 60 })
      expect(got.exact).toBe(expected.exact)
      const tol = dtype === 'f32' ? 1e-2 : 1e-9
      for (let i = 0; i < n; i++) {
        const error = expected.standardErrors[i]
        expect(error).toBeGreaterThan(0)
        expect(Math.abs(got.standardErrors[i] / size / error - 1)).toBeLessThan(tol)
        expect(Math.abs(got.values[i] / size - expected.values[i])).toBeLessThan(tol * error)
      }
    }
  })

  it('has errors for elements of all sizes in one operator', async () => {
    const coupling = (i: number) => 10 ** (i - 20)
    // Pairs (2i, 2i + 1) of zeros on the diagonal, coupled by 1e-20 to 1e19.
    const swap = (v: ArrayLike<number>) =>
      Float32Array.from(v, (_, i) => coupling(i >> 1) * v[i ^ 1])
    const operator = operatorFrom(swap, 80, { dtype: 'f32' })
    const { standardErrors } = await diagonal(operator, { method: 'hutchinson', products: 60 })
    standardErrors.forEach((error, i) => {
      const expected = coupling(i >> 1) / Math.sqrt(60)
      expect(error / expected).toBeGreaterThan(0.8)
      expect(error / expected).toBeLessThan(1.05)
    })
  })

  it('chooses, reports and refuses', async () => {
    const operator = operatorFrom((v) => v.map((x) => 2 * x), 200)
    expect((await diagonal(operator, { products: 200 })).method).toBe('exact')
    expect((await diagonal(operator, { products: 20 })).method).toBe('xdiag')
    expect((await diagonal(operator, { products: 20, memory: 100 })).method).toBe('hutchinson')
    for (const method of SAMPLED) {
      let last = 0
      const { products } = await diagonal(operator, {
        ...{ method, products: 36 },
        onProgress: (done) => {
          expect(done).toBeGreaterThan(last)
          last = done
        },
      })
      expect(last).toBe(products)
    }
    for (const bad of [{ products: 0 }, { method: 'xdiag', memory: 1 }] as DiagonalOptions[]) {
      await expect(diagonal(operator, bad)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    }
  })
})
