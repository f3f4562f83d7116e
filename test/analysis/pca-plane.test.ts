import { describe, expect, it } from 'vitest'
import { pcaPlane } from '../../lib/analysis/pca-plane.js'
import { normals } from '../../lib/random/index.js'

const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((sum, x, i) => sum + x * b[i], 0)

describe('pcaPlane()', () => {
  it('recovers a path that lies in a plane, and its directions', async () => {
    const n = 1000
    const [u, v, base] = [1, 2, 3].map((seed) => normals(seed, 0, 0, n))
    const steps = [
      [8, 1],
      [5, -1],
      [2, 1],
      [1, -1],
      [0, 0],
    ]
    const list = steps.map(([a, b]) => base.map((x, i) => x + a * u[i] + b * v[i]))
    const { center, directions, explained, path } = await pcaPlane(list)
    expect([...center]).toEqual([...list[4]])
    expect(dot(directions[0], directions[0])).toBeCloseTo(1, 12)
    expect(dot(directions[1], directions[1])).toBeCloseTo(1, 12)
    expect(dot(directions[0], directions[1])).toBeCloseTo(0, 10)
    expect(explained).toHaveLength(5)
    expect(explained[0] + explained[1]).toBeCloseTo(1, 12)
    expect(explained[0]).toBeGreaterThan(explained[1])
    for (const [t, { x, y }] of path.entries()) {
      for (let i = 0; i < n; i += 97) {
        const there = center[i] + x * directions[0][i] + y * directions[1][i]
        expect(there).toBeCloseTo(list[t][i], 8)
      }
    }
    expect(path[0].x).toBeGreaterThan(0)
    expect(path[0].y).toBeGreaterThanOrEqual(0)
    expect(path[4]).toEqual({ x: 0, y: 0 })
  })

  it('agrees with the covariance matrix of vectors across chunks of the native products', async () => {
    // Three directions of known variance, in coordinates far apart.
    const n = 300_000
    const list = [
      [3, 0, 0],
      [-3, 0, 0],
      [0, 2, 0],
      [0, -2, 0],
      [0, 0, 1],
      [0, 0, -1],
    ].map((values) => {
      const vector = new Float32Array(n)
      for (const [k, x] of values.entries()) vector[k * 140_000 + 7] = x
      return vector
    })
    const { explained, directions } = await pcaPlane(list)
    expect([...explained.slice(0, 3)].map((x) => Number(x.toFixed(12)))).toEqual(
      [18, 8, 2].map((x) => Number((x / 28).toFixed(12))),
    )
    expect(Math.abs(directions[0][7])).toBeCloseTo(1, 12)
    expect(Math.abs(directions[1][140_007])).toBeCloseTo(1, 12)
  })

  it('is moved, not turned, by a shift of all vectors', async () => {
    const list = [1, 2, 3, 4].map((seed) => normals(seed, 0, 0, 50))
    const a = await pcaPlane(list)
    const b = await pcaPlane(list.map((vector) => vector.map((x) => x + 5)))
    expect(b.explained[0]).toBeCloseTo(a.explained[0], 10)
    for (let i = 0; i < 50; i++) expect(b.directions[1][i]).toBeCloseTo(a.directions[1][i], 8)
  })

  it('refuses what spans no plane', async () => {
    const code = (code: string) => expect.objectContaining({ code })
    await expect(pcaPlane([[1], [2]])).rejects.toEqual(code('ERR_ARGUMENT'))
    const line = [0, 1, 2, 3].map((t) => [t, 2 * t, -t])
    await expect(pcaPlane(line)).rejects.toThrow('lie on a line')
    await expect(pcaPlane(line.map(() => [1, 2, 3]))).rejects.toThrow('span no plane')
    await expect(pcaPlane([[1, 2], [1, 2, 3], [1]])).rejects.toEqual(code('ERR_SHAPE'))
    const broken = [
      [1, 2],
      [3, Number.NaN],
      [0, 1],
    ]
    await expect(pcaPlane(broken)).rejects.toEqual(code('ERR_NOT_FINITE'))
    await expect(pcaPlane('no' as never)).rejects.toEqual(code('ERR_ARGUMENT'))
    const signal = AbortSignal.abort()
    await expect(pcaPlane([[1], [2], [4]], { signal })).rejects.toEqual(code('ERR_ABORTED'))
  })
})
