import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  eliminationMeasures,
  gaussianActivity,
  squaredWasserstein2,
  standardNormalDivergence,
  symmetricDivergence,
} from '../../lib/analysis/elimination.js'

const gaussian = (x: number, m: number, s: number) =>
  Math.exp(-0.5 * ((x - m) / s) ** 2) / (s * Math.sqrt(2 * Math.PI))

/** ∫ f over the line by the trapezium rule, exact to rounding for Gaussians. */
function integral(f: (x: number) => number): number {
  let sum = 0
  for (let x = -40; x <= 40; x += 0.01) sum += f(x)
  return 0.01 * sum
}

const kl = (m: number, s: number, n: number, t: number) =>
  integral((x) => {
    const p = gaussian(x, m, s)
    return p === 0 ? 0 : p * (Math.log(t / s) + 0.5 * ((x - n) / t) ** 2 - 0.5 * ((x - m) / s) ** 2)
  })

describe('distances of Gaussian channels', () => {
  it.each([
    [0.3, 0.8, -0.5, 1.5],
    [2, 0.5, 2, 0.6],
    [0, 1, 0, 1],
  ])('are the integrals that define them: N(%d, %d²), N(%d, %d²)', (m, s, n, t) => {
    expect(standardNormalDivergence(m, s)).toBeCloseTo(kl(m, s, 0, 1), 8)
    expect(symmetricDivergence(m, s, n, t)).toBeCloseTo(kl(m, s, n, t) + kl(n, t, m, s), 8)
    expect(gaussianActivity(m, s)).toBeCloseTo(
      integral((x) => (x > 0 ? gaussian(x, m, s) : 0)),
      2,
    )
    expect(squaredWasserstein2(m, s, n, t)).toBeCloseTo((m - n) ** 2 + (s - t) ** 2, 14)
  })

  it('are symmetric, and 0 for equal channels only', () => {
    const mean = fc.double({ min: -5, max: 5, noNaN: true })
    const std = fc.double({ min: 0.1, max: 5, noNaN: true })
    fc.assert(
      fc.property(mean, std, mean, std, (m, s, n, t) => {
        expect(symmetricDivergence(m, s, n, t)).toBeCloseTo(symmetricDivergence(n, t, m, s), 9)
        expect(symmetricDivergence(m, s, n, t)).toBeGreaterThanOrEqual(-1e-12)
        expect(standardNormalDivergence(m, s)).toBeGreaterThanOrEqual(0)
        expect(Math.abs(symmetricDivergence(m, s, m, s))).toBeLessThan(1e-12)
        expect(gaussianActivity(m, s) + gaussianActivity(-m, s)).toBeCloseTo(1, 14)
      }),
    )
    expect(standardNormalDivergence(0, 1)).toBe(0)
    expect(standardNormalDivergence(0, 0)).toBe(Number.POSITIVE_INFINITY)
    expect([gaussianActivity(1, 0), gaussianActivity(-1, 0)]).toEqual([1, 0])
  })
})

describe('eliminationMeasures()', () => {
  // Two groups of two channels; the first channel is dead, the last is linear.
  const layer = { mean: [-3, 0, 0.5, 4], std: [1, 1, 2, 1], positive: [0.001, 0.5, 0.6, 0.999] }

  it('agree with a case by hand', () => {
    const found = eliminationMeasures(layer, { groups: 2 })
    const divergences = [4.5, 0, 0.5 * (4 + 0.25 - 1 - 2 * Math.log(2)), 8]
    expect(found.channels).toBe(4)
    expect(found.divergence.mean).toBeCloseTo(divergences.reduce((a, b) => a + b) / 4, 12)
    expect(found.divergence.median).toBeCloseTo((divergences[2] + 4.5) / 2, 12)
    expect(found.divergence.max).toBe(8)
    expect(found.wasserstein).toBeCloseTo((9 + (3.5 ** 2 + 1)) / 2, 12)
    const apart = symmetricDivergence(0.5, 2, 4, 1)
    expect(found.symmetric).toBeCloseTo((9 + apart) / 2, 12)
    expect([found.dead, found.linear]).toEqual([0.25, 0.25])
    expect([found.predictedDead, found.predictedLinear]).toEqual([0.25, 0.25])
    expect(found.margin).toBe(3)
  })

  it('take τ, and pairs of the whole layer without groups', () => {
    const strict = eliminationMeasures(layer, { tau: 1e-4 })
    expect([strict.dead, strict.linear]).toEqual([0, 0])
    expect(strict.wasserstein).toBeGreaterThan(
      eliminationMeasures(layer, { groups: 2 }).wasserstein,
    )
    expect(eliminationMeasures(layer, { groups: 4 }).symmetric).toBeNaN()
  })

  it('refuse lists that do not fit', () => {
    expect(() => eliminationMeasures({ ...layer, std: [1] })).toThrow(/as many/)
    expect(() => eliminationMeasures({ mean: [], std: [], positive: [] })).toThrow(/as many/)
    expect(() => eliminationMeasures(layer, { groups: 3 })).toThrow(/divisor of 4/)
    expect(() => eliminationMeasures(layer, { tau: 0.5 })).toThrow(/tau/)
    expect(() => eliminationMeasures(undefined as never)).toThrow(/mean/)
    expect(() => eliminationMeasures(layer, { group: 2 } as never)).toThrow(/no option 'group'/)
  })
})
