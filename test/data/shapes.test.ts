import { describe, expect, it } from 'vitest'
import { load, shapes, statistics, subset, validate } from '../../lib/data/index.js'

function fnv(bytes: Iterable<number>): number {
  let hash = 0x811c9dc5
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193)
  return hash >>> 0
}

describe('shapes', () => {
  it('makes the same bytes and labels everywhere, from streams of their own for both splits', async () => {
    const set = await shapes({ n: 30, seed: 5 })
    expect(fnv(set.inputs)).toBe(4166847424)
    expect(fnv(set.targets)).toBe(2892714735)
    expect((await shapes({ n: 10, seed: 5 })).inputs).toEqual(set.inputs.slice(0, 10 * 3072))
    const test = await shapes({ n: 30, test: 30, seed: 5, split: 'test' })
    expect(test.inputs).not.toEqual(set.inputs)
    expect(set).toMatchObject({ shape: [3, 32, 32], targetShape: [32, 32], classes: 4 })
    expect(set.targets).toHaveLength(30 * 1024)
  })

  it('has the statistics that its normalization states, and every class in some measure', async () => {
    const set = await shapes({ n: 600 })
    const { mean, std } = statistics(set)
    for (let c = 0; c < 3; c++) {
      expect(Math.abs(mean[c] - set.normalization.mean[c])).toBeLessThan(0.01)
      expect(Math.abs(std[c] - set.normalization.std[c])).toBeLessThan(0.01)
    }
    const counts = [0, 0, 0, 0]
    for (const label of set.targets) counts[label]++
    const shares = counts.map((count) => count / set.targets.length)
    expect(shares[0]).toBeGreaterThan(0.5)
    expect(shares[0]).toBeLessThan(0.85)
    for (const share of shares.slice(1)) expect(share).toBeGreaterThan(0.05)
  })

  it('draws one disc, square or triangle of its area where there is one shape, in turn', async () => {
    const set = await shapes({ n: 90, most: 1, noise: 0 })
    for (let i = 0; i < set.size; i++) {
      const labels = set.targets.subarray(i * 1024, (i + 1) * 1024)
      const kinds = new Set([...labels].filter((label) => label !== 0))
      expect([...kinds]).toEqual([1 + (i % 3)])
      // Without noise a pixel's colour tells its label: two colours an image.
      const image = set.inputs.subarray(i * 3072, (i + 1) * 3072)
      const colours = new Map<string, number>()
      for (let p = 0; p < 1024; p++) {
        colours.set([image[p], image[p + 1024], image[p + 2048]].join(), labels[p])
      }
      expect(colours.size).toBe(2)
    }
    const area = (kind: number) => {
      const own = Array.from({ length: 30 }, (_, k) => 3 * k + kind - 1)
      const pixels = own.flatMap((i) => [...set.targets.subarray(i * 1024, (i + 1) * 1024)])
      return pixels.filter((label) => label === kind).length / own.length
    }
    // Mean of π r² over r in (0.14, 0.28) of the side, a little of it outside of the image.
    for (const kind of [1, 2, 3]) expect(Math.abs(area(kind) / 146 - 1)).toBeLessThan(0.2)
  })

  it('loads by its description, at another size, and says what it cannot', async () => {
    const set = await load('shapes?n=4&size=16&most=2')
    expect(set.shape).toEqual([3, 16, 16])
    expect((await load('shapes', { split: 'test', limit: 3 })).size).toBe(3)
    await expect(shapes({ size: 4 })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    await expect(shapes({ most: 9 })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    await expect(load('shapes?sides=3')).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    expect(() => subset(set, { classes: [1] })).toThrow(/one label a sample/)
    expect(subset(set, { limit: 2 }).targets).toEqual(set.targets.slice(0, 512))
    const bad = set.targets.slice()
    bad[300] = 4
    expect(() => validate({ ...set, targets: bad })).toThrow(/sample 1 has 4/)
  })
})
