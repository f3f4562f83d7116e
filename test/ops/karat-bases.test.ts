import { describe, expect, it } from 'vitest'
import { type KaratBasis, karatFeatureCount, karatLatent } from '../../lib/ops/index.js'
import { evaluate, trace } from '../../lib/program/index.js'

/** Features at x: one query of width 1, one key k = 1, the identity as coefficients. */
function features(basis: KaratBasis, x: number): number[] {
  const J = karatFeatureCount(basis)
  const program = trace(
    (q, k, c) => karatLatent(q, k, c, { basis, scale: 1 }),
    [1, 1, 1].map((d, i) => ({ dtype: 'f32', shape: i < 2 ? [1, 1, 1, d] : [1, 1, J, 1, J] })),
  )
  const identity = new Float64Array(J * J).map((_, i) => Number(i % (J + 1) === 0))
  return Array.from(evaluate(program, [Float64Array.of(x), Float64Array.of(1), identity])[0])
}

function expectClose(actual: readonly number[], expected: readonly number[]): void {
  expect(actual.length).toBe(expected.length)
  for (const [i, v] of expected.entries()) expect(Math.abs(actual[i] - v)).toBeLessThan(1e-12)
}

describe('bases of features', () => {
  it('has Chebyshev polynomials of tanh x, without the constant', () => {
    for (const x of [-2, 0, 0.3, 1.7]) {
      const angle = Math.acos(Math.tanh(x))
      expectClose(
        features({ kind: 'chebyshev', degree: 6 }, x),
        [1, 2, 3, 4, 5, 6].map((j) => Math.cos(j * angle)),
      )
    }
  })

  it('has Gaussians as wide as their centers are apart', () => {
    const basis: KaratBasis = { kind: 'rbf', centers: 4, low: -1, high: 2 }
    expectClose(
      features(basis, 0),
      [1, 0, 1, 2].map((u) => Math.exp(-u * u)),
    )
  })

  it('has B-splines that sum to 1 on the range and vanish behind the last knot', () => {
    for (const order of [1, 2, 3, 4]) {
      const basis: KaratBasis = { kind: 'bspline', order, intervals: 5, range: 2 }
      const sum = (x: number): number => features(basis, x).reduce((s, f) => s + f, 0)
      expect(features(basis, 0).length).toBe(5 + order)
      for (const x of [-2, -1.3, 0, 0.77, 1.99]) expect(sum(x)).toBeCloseTo(1, 13)
      expect(sum(2 + 0.4 * order)).toBeGreaterThan(0)
      expect(sum(2 + 0.8 * order + 1e-9)).toBe(0)
      expect(sum(-2 - 0.8 * order - 1e-9)).toBe(0)
    }
  })

  it('has the cubic B-spline in the middle of its support', () => {
    // Knots 1 apart: feature 3 is centered at 0.
    const basis: KaratBasis = { kind: 'bspline', order: 3, intervals: 4, range: 2 }
    expectClose(features(basis, 0), [0, 0, 1 / 6, 2 / 3, 1 / 6, 0, 0])
  })

  it('propagates NaN', () => {
    for (const basis of [
      { kind: 'chebyshev', degree: 2 },
      { kind: 'rbf', centers: 3, low: 0, high: 1 },
      { kind: 'bspline', order: 3, intervals: 2, range: 1 },
    ] as const) {
      expect(features(basis, Number.NaN).every(Number.isNaN)).toBe(true)
    }
  })

  it.each([
    [{ kind: 'chebyshev', degree: 0 }, /degree of 1/],
    [{ kind: 'chebyshev', degree: 2.5 }, /degree of 1/],
    [{ kind: 'rbf', centers: 1, low: 0, high: 1 }, /2 centers/],
    [{ kind: 'rbf', centers: 3, low: 1, high: 1 }, /low < high/],
    [{ kind: 'rbf', centers: 3, low: 0, high: Infinity }, /low < high/],
    [{ kind: 'rbf', centers: 3 }, /low < high/],
    [{ kind: 'bspline', order: 0, intervals: 3, range: 1 }, /order from 1 to 15/],
    [{ kind: 'bspline', order: 16, intervals: 3, range: 1 }, /order from 1 to 15/],
    [{ kind: 'bspline', order: 3, intervals: 0, range: 1 }, /1 interval/],
    [{ kind: 'bspline', order: 3, intervals: 3, range: -1 }, /range above 0/],
    [{ kind: 'dog' }, /fourier, chebyshev, rbf, bspline/],
  ])('refuses %o', (basis, message) => {
    let caught: unknown
    try {
      karatFeatureCount(basis as KaratBasis)
    } catch (error) {
      caught = error
    }
    expect(caught).toMatchObject({ code: 'ERR_ARGUMENT', message: expect.stringMatching(message) })
  })
})
