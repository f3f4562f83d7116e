import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { tridiagonalEigen } from '../../lib/curvature/tridiagonal.js'
import type { LosscapeError } from '../../lib/errors.js'

/** Eigenvalues of a dense symmetric matrix by cyclic Jacobi rotations: slow and independent. */
function jacobiEigenvalues(a: number[][]): number[] {
  const m = a.length
  const w = a.map((row) => [...row])
  for (let sweep = 0; sweep < 60; sweep++) {
    let off = 0
    for (let p = 0; p < m; p++) for (let q = p + 1; q < m; q++) off += w[p][q] ** 2
    if (off === 0) break
    for (let p = 0; p < m; p++) {
      for (let q = p + 1; q < m; q++) {
        if (w[p][q] === 0) continue
        const theta = (w[q][q] - w[p][p]) / (2 * w[p][q])
        const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1))
        const c = 1 / Math.hypot(t, 1)
        const s = t * c
        for (let k = 0; k < m; k++) {
          const kp = w[k][p]
          const kq = w[k][q]
          w[k][p] = c * kp - s * kq
          w[k][q] = s * kp + c * kq
        }
        for (let k = 0; k < m; k++) {
          const pk = w[p][k]
          const qk = w[q][k]
          w[p][k] = c * pk - s * qk
          w[q][k] = s * pk + c * qk
        }
        w[p][q] = 0
        w[q][p] = 0
      }
    }
  }
  return w.map((row, i) => row[i]).sort((x, y) => x - y)
}

function dense(alpha: Float64Array, beta: Float64Array): number[][] {
  return Array.from(alpha, (_, i) =>
    Array.from(alpha, (_, j) =>
      i === j ? alpha[i] : Math.abs(i - j) === 1 ? beta[Math.min(i, j)] : 0,
    ),
  )
}

function expectClose(actual: Float64Array, expected: ArrayLike<number>, tolerance: number): void {
  expect(actual.length).toBe(expected.length)
  for (let i = 0; i < actual.length; i++) {
    expect(Math.abs(actual[i] - expected[i])).toBeLessThanOrEqual(tolerance)
  }
}

/** max |S Sᵀ - I| and max |T S - S D| for the full solve. */
function defects(alpha: Float64Array, beta: Float64Array) {
  const m = alpha.length
  const { values, vectors } = tridiagonalEigen(alpha, beta, { vectors: 'full' })
  const v = vectors as Float64Array
  let gram = 0
  let residual = 0
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < m; j++) {
      let dot = 0
      for (let k = 0; k < m; k++) dot += v[i * m + k] * v[j * m + k]
      gram = Math.max(gram, Math.abs(dot - (i === j ? 1 : 0)))
    }
    for (let k = 0; k < m; k++) {
      let tv = alpha[k] * v[i * m + k]
      if (k > 0) tv += beta[k - 1] * v[i * m + k - 1]
      if (k + 1 < m) tv += beta[k] * v[i * m + k + 1]
      residual = Math.max(residual, Math.abs(tv - values[i] * v[i * m + k]))
    }
  }
  return { gram, residual }
}

describe('closed forms', () => {
  it('solves the Toeplitz matrix (1, 2, 1): 2 - 2 cos(k pi / (m + 1))', () => {
    const m = 64
    const { values, first, last } = tridiagonalEigen(
      new Float64Array(m).fill(2),
      new Float64Array(m - 1).fill(1),
    )
    const angle = (k: number) => ((k + 1) * Math.PI) / (m + 1)
    expectClose(
      values,
      Array.from({ length: m }, (_, k) => 2 - 2 * Math.cos(angle(k))),
      1e-14 * m,
    )
    const weights = Array.from({ length: m }, (_, k) => (2 / (m + 1)) * Math.sin(angle(k)) ** 2)
    expectClose(
      first.map((x) => x * x),
      weights,
      1e-13,
    )
    expectClose(
      last.map((x) => x * x),
      weights,
      1e-13,
    )
  })

  it('solves the Clement-Kac matrix: -(m - 1), ..., m - 1 in steps of 2', () => {
    for (const m of [2, 3, 10, 51]) {
      const beta = Float64Array.from({ length: m - 1 }, (_, j) => Math.sqrt((j + 1) * (m - 1 - j)))
      const { values } = tridiagonalEigen(new Float64Array(m), beta)
      expectClose(
        values,
        Array.from({ length: m }, (_, k) => 2 * k - (m - 1)),
        1e-13 * m,
      )
    }
  })

  it('finds the close pairs of Wilkinson W21+', () => {
    const alpha = Float64Array.from({ length: 21 }, (_, i) => Math.abs(10 - i))
    const { values } = tridiagonalEigen(alpha, new Float64Array(20).fill(1))
    // Published value of the largest pair (Wilkinson 1965).
    expect(Math.abs(values[20] - 10.746194182903393)).toBeLessThan(1e-13)
    expect(Math.abs(values[20] - values[19])).toBeLessThan(1e-13)
    expect(Math.abs(values[0] + 1.125441522119985)).toBeLessThan(1e-13)
    expect(values[16] - values[15]).toBeLessThan(1e-5)
    expect(defects(alpha, new Float64Array(20).fill(1)).gram).toBeLessThan(1e-13)
  })

  it('gives the Gauss-Legendre rule of 5 points', () => {
    const beta = Float64Array.from(
      { length: 4 },
      (_, j) => (j + 1) / Math.sqrt(4 * (j + 1) ** 2 - 1),
    )
    const { values, first } = tridiagonalEigen(new Float64Array(5), beta)
    const outer = Math.sqrt(5 + 2 * Math.sqrt(10 / 7)) / 3
    const inner = Math.sqrt(5 - 2 * Math.sqrt(10 / 7)) / 3
    const outerWeight = (322 - 13 * Math.sqrt(70)) / 900
    const innerWeight = (322 + 13 * Math.sqrt(70)) / 900
    expectClose(values, [-outer, -inner, 0, inner, outer], 1e-14)
    expectClose(
      first.map((x) => 2 * x * x),
      [outerWeight, innerWeight, 128 / 225, innerWeight, outerWeight],
      1e-14,
    )
  })
})

describe('robustness', () => {
  it('handles m = 0, 1, 2', () => {
    const none = tridiagonalEigen(new Float64Array(0), new Float64Array(0), { vectors: 'full' })
    expect([none.values.length, none.first.length, none.vectors?.length]).toEqual([0, 0, 0])
    const one = tridiagonalEigen(Float64Array.of(-3), new Float64Array(1))
    expect([...one.values, ...one.first, ...one.last]).toEqual([-3, 1, 1])
    const two = tridiagonalEigen(Float64Array.of(2, 2), Float64Array.of(1, 99))
    expectClose(two.values, [1, 3], 1e-15)
    expectClose(
      two.first.map((x) => x * x),
      [0.5, 0.5],
      1e-15,
    )
  })

  it('leaves zero and split matrices exact', () => {
    const zero = tridiagonalEigen(new Float64Array(5), new Float64Array(4))
    expect([...zero.values]).toEqual([0, 0, 0, 0, 0])
    const split = tridiagonalEigen(Float64Array.of(1, 1, 7), Float64Array.of(1, 0))
    expectClose(split.values, [0, 2, 7], 1e-15)
    expect(split.first[2]).toBe(0)
    expect(Math.abs(split.last[2])).toBe(1)
  })

  it('is invariant under scales at which squares overflow or underflow', () => {
    const alpha = Float64Array.of(1, -2, 0.5, 3)
    const beta = Float64Array.of(0.3, 2, 1)
    const unit = tridiagonalEigen(alpha, beta)
    for (const scale of [1e-300, 1e-200, 1e200, 1e300]) {
      const scaled = tridiagonalEigen(
        alpha.map((x) => x * scale),
        beta.map((x) => x * scale),
      )
      expectClose(
        scaled.values.map((x) => x / scale),
        unit.values,
        1e-14,
      )
      expectClose(scaled.first, unit.first, 1e-14)
    }
  })

  it('deflates small couplings inside a zero block', () => {
    const alpha = new Float64Array(14)
    alpha[6] = 4.459966025249654e-109
    const beta = new Float64Array(14)
    beta.set([6.34228696835438e-10, 1e-300, -1e-300], 6)
    const { values } = tridiagonalEigen(alpha, beta)
    expect(values[13]).toBeCloseTo(6.34228696835438e-10, 24)
    expect(values[0]).toBeCloseTo(-6.34228696835438e-10, 24)
  })

  it('rejects short off-diagonals and entries that are not finite', () => {
    const code = (run: () => unknown) => {
      try {
        run()
      } catch (error) {
        return (error as LosscapeError).code
      }
      return undefined
    }
    expect(code(() => tridiagonalEigen(new Float64Array(3), new Float64Array(1)))).toBe('ERR_SHAPE')
    expect(code(() => tridiagonalEigen(Float64Array.of(1, Number.NaN), Float64Array.of(1)))).toBe(
      'ERR_NOT_FINITE',
    )
    expect(code(() => tridiagonalEigen(Float64Array.of(1, 2), Float64Array.of(Infinity)))).toBe(
      'ERR_NOT_FINITE',
    )
  })
})

describe('random matrices', () => {
  const entry = fc.double({ min: -1, max: 1, noNaN: true })
  const matrix = fc
    .integer({ min: 1, max: 14 })
    .chain((m) =>
      fc.tuple(
        fc.array(entry, { minLength: m, maxLength: m }),
        fc.array(entry, { minLength: m, maxLength: m }),
      ),
    )

  it('agrees with Jacobi rotations, with orthonormal vectors', () => {
    fc.assert(
      fc.property(matrix, ([a, b]) => {
        const alpha = Float64Array.from(a)
        const beta = Float64Array.from(b)
        const { values, first, last } = tridiagonalEigen(alpha, beta)
        expectClose(values, jacobiEigenvalues(dense(alpha, beta)), 1e-13)
        const { gram, residual } = defects(alpha, beta)
        expect(gram).toBeLessThan(1e-13)
        expect(residual).toBeLessThan(1e-13)
        const norm = (row: Float64Array) => row.reduce((sum, x) => sum + x * x, 0)
        expect(Math.abs(norm(first) - 1)).toBeLessThan(1e-13)
        expect(Math.abs(norm(last) - 1)).toBeLessThan(1e-13)
      }),
      { numRuns: 200 },
    )
  })

  it('gives the same rows whichever vectors are asked for', () => {
    fc.assert(
      fc.property(matrix, ([a, b]) => {
        const alpha = Float64Array.from(a)
        const beta = Float64Array.from(b)
        const ends = tridiagonalEigen(alpha, beta)
        const full = tridiagonalEigen(alpha, beta, { vectors: 'full' })
        const none = tridiagonalEigen(alpha, beta, { vectors: 'none' })
        expect(none.values).toEqual(ends.values)
        expect(full.first).toEqual(ends.first)
        expect(full.last).toEqual(ends.last)
      }),
      { numRuns: 100 },
    )
  })
})
