import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { lowRankSingularValues, singularValues } from '../../lib/analysis/singular-values.js'
import { normals } from '../../lib/random/index.js'

const matrix = (rows: number, columns: number, seed: number) => ({
  rows,
  columns,
  data: normals(seed, 0, 0, rows * columns),
})

function timesTransposed(z: ReturnType<typeof matrix>, w: ReturnType<typeof matrix>) {
  const data = new Float64Array(z.rows * w.rows)
  for (let i = 0; i < z.rows; i++) {
    for (let j = 0; j < w.rows; j++) {
      for (let k = 0; k < z.columns; k++) {
        data[i * w.rows + j] += z.data[i * z.columns + k] * w.data[j * w.columns + k]
      }
    }
  }
  return { rows: z.rows, columns: w.rows, data }
}

describe('singularValues()', () => {
  it('is exact for a diagonal down to ε of the largest', async () => {
    const data = new Float64Array(16)
    for (const [i, x] of [3, -1e-14, 0, 2].entries()) data[i * 5] = x
    const values = await singularValues({ rows: 4, columns: 4, data })
    expect(values[0]).toBeCloseTo(3, 14)
    expect(values[1]).toBeCloseTo(2, 14)
    // A Gram matrix would have lost it at 1e-8.
    expect(Math.abs(values[2] - 1e-14)).toBeLessThan(5e-15)
    expect(values[3]).toBeLessThan(5e-15)
  })

  it('keeps the Frobenius norm and does not change with the transpose', async () => {
    const size = fc.integer({ min: 1, max: 9 })
    await fc.assert(
      fc.asyncProperty(size, size, fc.nat(1000), async (rows, columns, seed) => {
        const a = matrix(rows, columns, seed)
        const values = await singularValues(a)
        expect(values).toHaveLength(Math.min(rows, columns))
        const squares = (list: ArrayLike<number>) =>
          Array.from(list).reduce((sum, x) => sum + x * x, 0)
        expect(squares(values)).toBeCloseTo(squares(a.data), 9)
        const t = Float64Array.from(
          a.data,
          (_, k) => a.data[(k % rows) * columns + ((k / rows) | 0)],
        )
        const other = await singularValues({ rows: columns, columns: rows, data: t })
        for (const [i, x] of values.entries()) expect(other[i]).toBeCloseTo(x, 10)
      }),
      { numRuns: 25 },
    )
  })

  it('refuses what is no matrix', async () => {
    const refused = (m: unknown, code: string) =>
      expect(singularValues(m as never)).rejects.toEqual(expect.objectContaining({ code }))
    await refused(null, 'ERR_ARGUMENT')
    await refused({ rows: 0, columns: 2, data: [] }, 'ERR_ARGUMENT')
    await refused({ rows: 2, columns: 2, data: 3 }, 'ERR_ARGUMENT')
    await refused({ rows: 2, columns: 2, data: [1] }, 'ERR_SHAPE')
    await refused({ rows: 1, columns: 1, data: [Number.NaN] }, 'ERR_NOT_FINITE')
    await refused({ rows: 9000, columns: 1, data: new Float32Array(9000) }, 'ERR_ARGUMENT')
  })
})

describe('lowRankSingularValues()', () => {
  it('are those of the product, without forming it', async () => {
    const size = fc.integer({ min: 1, max: 12 })
    await fc.assert(
      fc.asyncProperty(size, size, size, fc.nat(1000), async (n, m, r, seed) => {
        const [z, w] = [matrix(n, r, seed), matrix(m, r, seed + 1)]
        const cheap = await lowRankSingularValues(z, w)
        const full = await singularValues(timesTransposed(z, w))
        expect(cheap).toHaveLength(Math.min(n, m, r))
        for (const [i, x] of cheap.entries()) expect(x).toBeCloseTo(full[i], 10)
        for (const rest of full.slice(cheap.length)) expect(rest).toBeLessThan(1e-11)
      }),
      { numRuns: 25 },
    )
  })

  it('handles columns of zeros and refuses different widths', async () => {
    const z = { rows: 3, columns: 2, data: [0, 1, 0, 2, 0, 2] }
    const w = { rows: 2, columns: 2, data: [1, 0, 0, 1] }
    const values = await lowRankSingularValues(z, w)
    expect(values[0]).toBeCloseTo(3, 13)
    expect(values[1]).toBeCloseTo(0, 13)
    await expect(lowRankSingularValues(z, matrix(2, 3, 1))).rejects.toEqual(
      expect.objectContaining({ code: 'ERR_SHAPE' }),
    )
  })
})
