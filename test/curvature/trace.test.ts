import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { denseOperator, operatorFrom } from '../../lib/curvature/operators.js'
import { hutchinsonTrace } from '../../lib/curvature/trace.js'
import { type Device, open } from '../../lib/device/device.js'
import { normals } from '../../lib/random/index.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

describe('hutchinsonTrace', () => {
  it('is exact for a diagonal matrix with one Rademacher probe', async () => {
    const diagonal = operatorFrom((v) => v.map((x, i) => x * (i + 1)), 20)
    const { value, standardError } = await hutchinsonTrace(diagonal, { products: 1 })
    expect(value).toBe(210)
    expect(standardError).toBeNaN()
  })

  it.each(['rademacher', 'normal'] as const)(
    '%s: states errors that cover the trace',
    async (distribution) => {
      const n = 40
      const g = normals(3, 0, 0, n * n)
      const matrix = g.map((x, at) => x + g[(at % n) * n + Math.floor(at / n)])
      let exact = 0
      for (let i = 0; i < n; i++) exact += matrix[i * n + i]
      using operator = denseOperator(device, matrix)
      let covered = 0
      for (let seed = 0; seed < 50; seed++) {
        const { value, standardError } = await hutchinsonTrace(operator, {
          products: 32,
          distribution,
          seed,
        })
        if (Math.abs(value - exact) < 2.04 * standardError) covered++
      }
      // 95 % intervals of Student's t with 31 degrees of freedom; 41 or fewer has probability 0.2 %.
      expect(covered).toBeGreaterThanOrEqual(42)
    },
  )

  it('stops at a tolerance and checks its options', async () => {
    const diagonal = operatorFrom((v) => v.map((x) => 2 * x), 20)
    const { samples } = await hutchinsonTrace(diagonal, { products: 100, tol: 0.01 })
    expect(samples.length).toBeLessThan(20)
    await expect(hutchinsonTrace(diagonal, { products: 0 })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
    })
  })
})
