import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Precision } from '../../lib/curvature/operator.js'
import { operatorFrom } from '../../lib/curvature/operators.js'
import { type OrthonormalizeOptions, orthonormalize } from '../../lib/curvature/orthonormalize.js'
import { spaceOf, type VectorBlock, type VectorSpace } from '../../lib/curvature/space.js'
import { type Device, open } from '../../lib/device/device.js'
import { normals } from '../../lib/random/index.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

function makeSpace(n: number, dtype: Precision = 'f64'): VectorSpace {
  return spaceOf(operatorFrom((v) => v, n, { dtype }))
}

async function rowsOf(space: VectorSpace, x: VectorBlock): Promise<Float64Array[]> {
  const rows: Float64Array[] = []
  for (let r = 0; r < x.count; r++) rows.push(Float64Array.from(await space.read(x, r)))
  return rows
}

/** Rows written, orthonormalised, and compared with what the result claims. */
async function check(
  rows: readonly ArrayLike<number>[],
  basisCount: number,
  options: OrthonormalizeOptions & { dtype?: Precision } = {},
) {
  const { dtype = 'f64', ...rest } = options
  const n = rows[0].length
  const eps = dtype === 'f32' ? 2 ** -23 : 2 ** -52
  const space = makeSpace(n, dtype)
  const v = space.allocate(basisCount)
  await space.fill(v, 'normal', 5, 0)
  if (basisCount > 0) expect((await orthonormalize(space, v)).rank).toBe(basisCount)
  const x = space.allocate(rows.length)
  for (const [i, row] of rows.entries()) await space.write(x, i, row)
  const before = await rowsOf(space, x)
  const result = await orthonormalize(space, x, [v], rest)
  const { rank, count, r, coefficients, norms } = result
  const q = await rowsOf(space, x.rows(0, count))
  const basis = await rowsOf(space, v)
  for (const [i, a] of q.entries()) {
    for (const [j, b] of [...q, ...basis].entries()) {
      const dot = a.reduce((s, value, e) => s + value * b[e], 0)
      expect(Math.abs(dot - (i === j ? 1 : 0))).toBeLessThan(30 * eps)
    }
  }
  for (const [i, row] of before.entries()) {
    const norm = Math.hypot(...row)
    expect(Math.abs(norms[i] - norm)).toBeLessThanOrEqual(1e-10 * norm)
    const again = row.map((_, e) => {
      let sum = 0
      for (let k = 0; k < rank; k++) sum += r[i * rank + k] * q[k][e]
      for (let k = 0; k < basisCount; k++) sum += coefficients[0][i * basisCount + k] * basis[k][e]
      return sum
    })
    const error = Math.hypot(...row.map((value, e) => value - again[e]))
    expect(error).toBeLessThanOrEqual(
      ((rest.tol ?? 0) + 300 * eps) * Math.max(norm, rest.scale ?? 0),
    )
  }
  v.dispose()
  x.dispose()
  return result
}

const random = (n: number, stream: number): Float64Array => normals(6, stream, 0, n)
const sum = (a: Float64Array, factor: number, b: Float64Array): Float64Array =>
  a.map((x, i) => x + factor * b[i])

describe('orthonormalize', () => {
  it.each(['f64', 'f32'] as const)('makes random rows orthonormal in %s', async (dtype) => {
    for (const [rows, basis] of [
      [1, 0],
      [3, 0],
      [8, 40],
      [17, 1],
    ]) {
      const x = Array.from({ length: rows }, (_, i) => random(150, i))
      expect((await check(x, basis, { dtype })).rank).toBe(rows)
    }
  })

  it('takes rows of any size, and rows that nearly depend on each other or the basis', async () => {
    const n = 120
    const space = makeSpace(n)
    const v = space.allocate(4)
    await space.fill(v, 'normal', 5, 0)
    await orthonormalize(space, v)
    const [along] = await rowsOf(space, v)
    for (const [dtype, small] of [
      ['f64', [1e-3, 1e-7, 1e-12]],
      ['f32', [1e-2, 1e-4]],
    ] as const) {
      for (const delta of small) {
        const a = random(n, 0)
        const x = [
          a.map((value) => value * 1e-20),
          sum(a, delta, random(n, 1)),
          sum(sum(a, 1, random(n, 2)), delta, random(n, 3)),
          sum(along, delta, random(n, 4)).map((value) => value * 1e15),
          random(n, 2),
        ]
        expect((await check(x, 4, { dtype })).rank).toBe(5)
      }
    }
  })

  it('drops dependent rows', async () => {
    const a = random(90, 0)
    const b = random(90, 1)
    const rows = [a, b, sum(a, -2, b), new Float64Array(90), a.map((x) => 3 * x)]
    for (const dtype of ['f64', 'f32'] as const) {
      const { rank, count } = await check(rows, 10, { dtype })
      expect([rank, count]).toEqual([2, 2])
    }
    expect((await check([new Float64Array(9)], 0)).rank).toBe(0)
  })

  it('puts random rows in the place of dependent ones, as long as there are any', async () => {
    const a = random(40, 0)
    const rows = Array.from({ length: 6 }, (_, i) => a.map((x) => (i + 1) * x))
    const replaced = await check(rows, 10, { dependent: 'replace', seed: 4 })
    expect([replaced.rank, replaced.count]).toEqual([1, 6])
    const full = await check(rows, 37, { dependent: 'replace', seed: 4 })
    expect([full.rank, full.count]).toEqual([1, 3])
    const none = await check(rows, 40, { dependent: 'replace' })
    expect([none.rank, none.count]).toEqual([0, 0])
  })

  it('needs no more of the basis in the first pass than told', async () => {
    for (const dtype of ['f64', 'f32'] as const) {
      for (const nearest of [0, 1, 12, 20]) {
        const rows = Array.from({ length: 5 }, (_, i) => random(100, i))
        expect((await check(rows, 12, { dtype, nearest })).rank).toBe(5)
      }
    }
  })

  it('counts as dependent what is small beside the scale', async () => {
    const rows = [random(50, 0), random(50, 1).map((x) => 1e-10 * x)]
    expect((await check(rows, 0)).rank).toBe(2)
    expect((await check(rows, 0, { tol: 1e-8, scale: 1 })).rank).toBe(1)
  })

  it('refuses NaN', async () => {
    const space = makeSpace(10)
    const x = space.allocate(2)
    await space.fill(x, 'normal', 0, 0)
    const y = space.allocate(1)
    await space.combine([Number.NaN, 0], x, y)
    await expect(orthonormalize(space, y)).rejects.toMatchObject({ code: 'ERR_NOT_FINITE' })
  })
})
