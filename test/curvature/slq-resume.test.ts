import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LinearOperator } from '../../lib/curvature/operator.js'
import { denseOperator } from '../../lib/curvature/operators.js'
import { slq } from '../../lib/curvature/slq.js'
import { type Device, open } from '../../lib/device/device.js'
import { normals } from '../../lib/random/index.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

/** A symmetric Gaussian matrix plus `shift` times the identity. */
function shifted(n: number, seed: number, shift: number, dtype: 'f32' | 'f64' = 'f64') {
  const g = normals(seed, 0, 0, n * n)
  const matrix = g.map((x, at) => {
    const [i, j] = [Math.floor(at / n), at % n]
    return (x + g[j * n + i]) / Math.sqrt(2 * n) + (i === j ? shift : 0)
  })
  return denseOperator(device, matrix, { dtype })
}

const argument = expect.objectContaining({ code: 'ERR_ARGUMENT' })

describe('resuming slq', () => {
  it.each(['f32', 'f64'] as const)('comes to the same bits (%s)', async (dtype) => {
    using operator = shifted(200, 3, 0, dtype)
    const options = { steps: 12, seed: 4, probes: 5 } as const
    const whole = await slq(operator, options)
    const half = await slq(operator, { ...options, probes: 2 })
    expect(await slq(operator, { ...options, resume: half })).toEqual(whole)
    const { nodes, weights } = half
    expect(await slq(operator, { ...options, resume: { nodes, weights } })).toEqual(whole)
    expect(await slq(operator, { ...options, resume: { nodes: [], weights: [] } })).toEqual(whole)
  })

  it('refuses the probes of another seed, size or operator', async () => {
    using operator = shifted(300, 3, 0, 'f32')
    using other = shifted(300, 5, 0, 'f32')
    using small = shifted(60, 3, 0, 'f32')
    const options = { steps: 12, seed: 4, probes: 3 } as const
    const resume = await slq(operator, { ...options, probes: 2 })
    await expect(slq(operator, { ...options, seed: 5, resume })).rejects.toEqual(argument)
    await expect(slq(small, { ...options, resume })).rejects.toEqual(argument)
    // Found out by a product, where the seed is not written down.
    const { nodes, weights } = resume
    for (const [op, seed] of [
      [operator, 5],
      [other, 4],
    ] as [LinearOperator, number][]) {
      const run = slq(op, { ...options, seed, resume: { nodes, weights } })
      await expect(run).rejects.toThrow('another seed or operator')
      const trusted = { ...options, seed, resume: { nodes, weights }, check: false }
      await expect(slq(op, trusted)).resolves.toBeDefined()
    }
  })

  it.each([
    ['nodes that do not ascend', [[2, 1]], [[0.5, 0.5]]],
    ['nodes that are not finite', [[1, Number.NaN]], [[0.5, 0.5]]],
    ['negative weights', [[1, 2]], [[1.5, -0.5]]],
    ['weights that do not sum to 1', [[1, 2]], [[0.5, 0.4]]],
    ['weights that are not numbers', [[1, 2]], [[Number.NaN, 0.5]]],
    ['missing weights', [[1, 2]], []],
    ['weights of another length', [[1, 2]], [[1]]],
    ['an empty probe', [[]], [[]]],
    ['more nodes than steps', [[1, 2, 3, 4]], [[0.25, 0.25, 0.25, 0.25]]],
  ])('refuses %s', async (_, nodes, weights) => {
    using operator = shifted(30, 3, 0)
    const run = slq(operator, { probes: 2, steps: 3, resume: { nodes, weights }, check: false })
    await expect(run).rejects.toEqual(argument)
  })
})

describe('slq with a tolerance', () => {
  it('stops when the trace is known well enough, and not before 4 probes', async () => {
    using operator = shifted(400, 7, 2)
    const options = { probes: 60, steps: 10 } as const
    const loose = await slq(operator, { ...options, tol: 0.5 })
    expect(loose.nodes.length).toBe(4)
    const close = await slq(operator, { ...options, tol: 0.005 })
    const { value, standardError } = close.trace
    expect(close.nodes.length).toBeGreaterThan(4)
    expect(close.nodes.length).toBeLessThan(60)
    expect(standardError).toBeLessThan(0.005 * Math.abs(value))
    // It stopped at the first probe that was enough.
    const before = await slq(operator, { ...options, probes: close.nodes.length - 1 })
    expect(before.trace.standardError).toBeGreaterThanOrEqual(0.005 * before.trace.value)
    const every = await slq(operator, { probes: 6, steps: 10, tol: 1e-9 })
    expect(every.nodes.length).toBe(6)
    const more = await slq(operator, { ...options, probes: 30 })
    expect(await slq(operator, { ...options, tol: 0.005, resume: more })).toEqual(close)
    for (const tol of [-1, Number.NaN]) {
      await expect(slq(operator, { tol })).rejects.toEqual(argument)
    }
  })

  it('has the same density with partial and selective reorthogonalisation', async () => {
    using operator = shifted(300, 9, 0.5, 'f32')
    const full = await slq(operator, { probes: 3, steps: 40 })
    for (const reorthogonalize of ['partial', 'selective'] as const) {
      const semi = await slq(operator, { probes: 3, steps: 40, reorthogonalize })
      for (const [p, row] of semi.nodes.entries()) {
        for (let l = 0; l < row.length; l++) {
          expect(Math.abs(row[l] - full.nodes[p][l])).toBeLessThan(1e-5)
          expect(Math.abs(semi.weights[p][l] - full.weights[p][l])).toBeLessThan(1e-4)
        }
      }
    }
  })
})
