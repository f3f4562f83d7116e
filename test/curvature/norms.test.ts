import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { frobenius, spectralNorm } from '../../lib/curvature/norms.js'
import { denseOperator, operatorFrom } from '../../lib/curvature/operators.js'
import { type Device, open } from '../../lib/device/device.js'
import { fewestCovered, rotated } from './known-matrices.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

const values = Float64Array.from({ length: 100 }, (_, i) => (i % 2 === 0 ? 1 : -1.2) / (i + 1))

describe('frobenius', () => {
  it('two standard errors cover the norm', async () => {
    using operator = denseOperator(device, rotated(values))
    const exact = Math.hypot(...values)
    let covered = 0
    for (let seed = 0; seed < 50; seed++) {
      const { value, standardError, squared } = await frobenius(operator, { products: 40, seed })
      expect(value ** 2).toBeCloseTo(squared.value, 12)
      if (Math.abs(value - exact) <= 2 * standardError) covered++
    }
    expect(covered).toBeGreaterThanOrEqual(fewestCovered(50, 0.94))
  })

  it('stops at a tolerance; is exact for a multiple of the identity', async () => {
    using operator = denseOperator(device, rotated(values))
    const { products, value, standardError } = await frobenius(operator, {
      products: 5000,
      tol: 0.1,
    })
    expect(products).toBeLessThan(5000)
    expect(standardError).toBeLessThanOrEqual(0.1 * value)
    const scaled = operatorFrom((v) => v.map((x) => -3 * x), 64)
    expect((await frobenius(scaled, { products: 2 })).value).toBeCloseTo(24, 12)
    const zero = operatorFrom((v) => v.map(() => 0), 64)
    expect((await frobenius(zero, { products: 2 })).standardError).toBe(0)
    await expect(frobenius(scaled, { products: 0 })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
  })
})

describe('spectralNorm', () => {
  it('is the larger end, with a residual', async () => {
    const shifted = values.map((x) => 0.3 * x - 2)
    using operator = denseOperator(device, rotated(shifted))
    const norm = await spectralNorm(operator)
    expect(norm.converged).toBe(true)
    expect(norm.value).toBeCloseTo(Math.max(...shifted.map(Math.abs)), 8)
    expect(norm.smallest).toBe(-norm.value)
    expect(norm.largest).toBeCloseTo(Math.max(...shifted), 6)
    expect(norm.residual).toBeLessThan(1e-7)
  })

  it('is a lower bound when stopped early', async () => {
    using operator = denseOperator(device, rotated(values))
    const norm = await spectralNorm(operator, { maxSteps: 3 })
    expect(norm.converged).toBe(false)
    expect(norm.value).toBeLessThanOrEqual(1)
    const near = values.map((x) => Math.abs(Math.abs(x) - norm.value))
    expect(Math.min(...near)).toBeLessThanOrEqual(norm.residual)
  })

  it('reports its steps, and stops with a callback that throws', async () => {
    using operator = denseOperator(device, rotated(values))
    const seen: number[] = []
    const { steps } = await spectralNorm(operator, {
      onProgress: ({ step, wanted }) => {
        expect(wanted).toBe(2)
        seen.push(step)
      },
    })
    expect(seen.length).toBeGreaterThan(1)
    expect(seen).toEqual([...seen].sort((a, b) => a - b))
    expect(seen.at(-1)).toBe(steps)
    const stop = new Error('stop')
    const throwing = () => {
      throw stop
    }
    await expect(spectralNorm(operator, { onProgress: throwing })).rejects.toBe(stop)
  })

  it('takes one parameter and zero', async () => {
    const one = operatorFrom((v) => v.map((x) => -4 * x), 1)
    expect((await spectralNorm(one)).value).toBeCloseTo(4, 12)
    const zero = operatorFrom((v) => v.map(() => 0), 5)
    expect((await spectralNorm(zero)).value).toBe(0)
  })
})
