import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type DataSet, fromArrays, labelNoise, split, subset } from '../../lib/data/index.js'

/** Sample i has input [i, 10 i] and label i mod C. */
function numbered(size: number, classes = 3): DataSet {
  return fromArrays(
    Array.from({ length: size }, (_, i) => [i, 10 * i]),
    Int32Array.from({ length: size }, (_, i) => i % classes),
    { classes, normalization: { mean: [1, 2], std: [3, 4] } },
  )
}

const ids = (set: DataSet) => Array.from({ length: set.size }, (_, i) => set.inputs[2 * i])

describe('subset', () => {
  const set = numbered(20)

  it('keeps the first in file order, or a random draw in file order with a seed', () => {
    expect(ids(subset(set, { limit: 4 }))).toEqual([0, 1, 2, 3])
    expect(subset(set, { limit: 100 }).size).toBe(20)
    const drawn = ids(subset(set, { limit: 8, seed: 1 }))
    expect(drawn).toEqual([...drawn].sort((a, b) => a - b))
    expect(drawn).toEqual(ids(subset(set, { limit: 8, seed: 1 })))
    expect(drawn).not.toEqual(ids(subset(set, { limit: 8, seed: 2 })))
    expect(ids(subset(set, { fraction: 0.25, seed: 3 }))).toHaveLength(5)
  })

  it('selects by index and by class, keeping label numbers and normalization', () => {
    const picked = subset(set, { indices: [5, 3, 3, 8], classes: [2, 0] })
    expect(ids(picked)).toEqual([5, 3, 3, 8])
    expect([...picked.targets]).toEqual([2, 0, 0, 2])
    expect(picked.classes).toBe(3)
    expect(picked.normalization).toEqual(set.normalization)
    expect(ids(subset(set, { classes: [1], limit: 3 }))).toEqual([1, 4, 7])
  })

  it('copies: writing to the subset leaves the set alone', () => {
    const copy = subset(set, { limit: 2 })
    copy.inputs[0] = 99
    expect(set.inputs[0]).toBe(0)
  })

  it.each([
    [{ limit: 0 }, 'ERR_ARGUMENT'],
    [{ fraction: 0.5 }, 'ERR_ARGUMENT'],
    [{ fraction: 1.5, seed: 1 }, 'ERR_ARGUMENT'],
    [{ indices: [20] }, 'ERR_RANGE'],
    [{ indices: [] }, 'ERR_ARGUMENT'],
    [{ classes: [7] }, 'ERR_ARGUMENT'],
  ])('refuses %o', (options, code) => {
    expect(() => subset(set, options)).toThrow(expect.objectContaining({ code }))
  })
})

describe('split', () => {
  it('partitions the samples, each part in file order', () => {
    fc.assert(
      fc.property(fc.integer({ min: 4, max: 60 }), fc.nat(1000), (size, seed) => {
        const [a, b] = split(numbered(size), 0.3, seed)
        expect(a.size).toBe(Math.round(0.3 * size))
        expect([...ids(a), ...ids(b)].sort((x, y) => x - y)).toEqual([...Array(size).keys()])
        expect(ids(a)).toEqual([...ids(a)].sort((x, y) => x - y))
      }),
    )
    expect(() => split(numbered(3), 0.01, 0)).toThrow(/leaves one part/)
  })
})

describe('labelNoise', () => {
  it('changes exactly the share asked for, evenly over the other classes', () => {
    const set = numbered(6000, 4)
    const noisy = labelNoise(set, 0.5, 7)
    const moves = [0, 0, 0, 0]
    for (let i = 0; i < set.size; i++) moves[(noisy.targets[i] - set.targets[i] + 4) % 4]++
    expect(moves[0]).toBe(3000)
    // chi-square with 2 degrees of freedom: P(> 18.4) = 1e-4.
    expect(moves.slice(1).reduce((sum, m) => sum + (m - 1000) ** 2 / 1000, 0)).toBeLessThan(18.4)
    expect(set.targets[0]).toBe(0)
    expect(noisy.inputs).toBe(set.inputs)
    expect(labelNoise(set, 0.5, 7).targets).toEqual(noisy.targets)
    expect(labelNoise(set, 0, 7).targets).toEqual(set.targets)
  })

  it('refuses regression sets and shares outside [0, 1]', () => {
    const regression = fromArrays([[1], [2]], Float32Array.of(1, 2))
    expect(() => labelNoise(regression, 0.1, 0)).toThrow(/two classes/)
    expect(() => labelNoise(numbered(5), 1.1, 0)).toThrow(/fraction/)
  })
})
