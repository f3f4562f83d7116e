import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  blobs,
  circles,
  type DataSet,
  moons,
  type SyntheticOptions,
  spirals,
  statistics,
  teacher,
} from '../../lib/data/index.js'

const makers: [string, (options: SyntheticOptions) => DataSet][] = [
  ['blobs', blobs],
  ['circles', circles],
  ['moons', moons],
  ['spirals', spirals],
  ['teacher', teacher],
]

/** Distances from the origin, per class: [least, most]. */
function radii(set: DataSet, label: number): [number, number] {
  const found: number[] = []
  for (let i = 0; i < set.size; i++) {
    if (set.targets[i] === label) found.push(Math.hypot(set.inputs[2 * i], set.inputs[2 * i + 1]))
  }
  return [Math.min(...found), Math.max(...found)]
}

describe.each(makers)('%s', (_, make) => {
  it('depends on the seed and the split, and on nothing else', () => {
    const train = make({ n: 60, seed: 4 })
    expect(make({ n: 60, seed: 4 })).toEqual(train)
    expect(make({ n: 60, seed: 5 }).inputs).not.toEqual(train.inputs)
    const test = make({ n: 60, seed: 4, split: 'test' })
    expect(test.inputs.slice(0, 20)).not.toEqual(train.inputs.slice(0, 20))
    expect(make({ n: 60, test: 30, seed: 4, split: 'test' }).inputs).toEqual(
      test.inputs.slice(0, test.inputs.length / 2),
    )
    expect(train.size).toBe(60)
  })

  it('has labels in range for any size', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 50 }), fc.nat(1000), (n, seed) => {
        const set = make({ n, seed })
        expect(set.size).toBe(n)
        expect(set.targets.every((label) => label >= 0 && label < set.classes!)).toBe(true)
      }),
      { numRuns: 25 },
    )
  })

  it('refuses sizes that are none', () => {
    expect(() => make({ n: 0 })).toThrow(/n must be an integer/)
    expect(() => make({ n: 10, test: 1.5 })).toThrow(/test must be an integer/)
  })
})

describe('procedural sets', () => {
  it('blobs are standardized jointly, with balanced classes', () => {
    const set = blobs({ n: 2000, classes: 4, dim: 6, std: 4, seed: 1 })
    const { mean, std } = statistics(set)
    for (let k = 0; k < 6; k++) {
      expect(Math.abs(mean[k])).toBeLessThan(1e-6)
      expect(Math.abs(std[k] - 1)).toBeLessThan(1e-6)
    }
    const counts = [0, 0, 0, 0]
    for (const label of set.targets) counts[label]++
    expect(counts).toEqual([500, 500, 500, 500])
    // The test part is scaled by the training part's statistics, so it is close but not exact.
    const test = statistics(blobs({ n: 2000, classes: 4, dim: 6, std: 4, seed: 1, split: 'test' }))
    expect(Math.abs(test.mean[0])).toBeLessThan(0.1)
    expect(test.mean[0]).not.toBe(mean[0])
  })

  it('blobs lie at their centres when std is 0', () => {
    const set = blobs({ n: 30, classes: 3, dim: 2, std: 0, seed: 2 })
    for (let i = 3; i < 30; i++) {
      expect(set.inputs.slice(2 * i, 2 * i + 2)).toEqual(
        set.inputs.slice(2 * (i % 3), 2 * (i % 3) + 2),
      )
    }
  })

  it('circles, moons and spirals have their shapes when there is no noise', () => {
    const rings = circles({ n: 400, noise: 0, factor: 0.3 })
    for (const [label, radius] of [
      [0, 1],
      [1, 0.3],
    ]) {
      const [least, most] = radii(rings, label)
      expect(least).toBeCloseTo(radius, 6)
      expect(most).toBeCloseTo(radius, 6)
    }
    const half = moons({ n: 400, noise: 0 })
    for (let i = 0; i < half.size; i++) {
      const [x, y] = half.inputs.slice(2 * i, 2 * i + 2)
      const upper = half.targets[i] === 0
      expect(Math.hypot(upper ? x : x - 1, upper ? y : y - 0.5)).toBeCloseTo(1, 6)
      expect(upper ? y >= 0 : y <= 0.5).toBe(true)
    }
    const arms = spirals({ n: 400, noise: 0, classes: 3, turns: 1 })
    expect(radii(arms, 2)[1]).toBeLessThanOrEqual(1)
    for (let i = 0; i < arms.size; i++) {
      const [x, y] = arms.inputs.slice(2 * i, 2 * i + 2)
      const angle = Math.atan2(y, x) / (2 * Math.PI)
      const expected = arms.targets[i] / 3 + Math.hypot(x, y)
      expect(Math.abs(angle - expected - Math.round(angle - expected))).toBeLessThan(1e-4)
    }
  })

  it('a teacher labels with a function of the input, using every class', () => {
    const set = teacher({ n: 1000, classes: 4, seed: 3 })
    const counts = new Array<number>(4).fill(0)
    for (const label of set.targets) counts[label]++
    expect(Math.min(...counts)).toBeGreaterThan(20)
    const clean = teacher({ n: 500, classes: 0, seed: 3 })
    const noisy = teacher({ n: 500, classes: 0, noise: 0.5, seed: 3 })
    expect(clean).toMatchObject({ classes: null, targetShape: [] })
    expect(noisy.inputs).toEqual(clean.inputs)
    const errors = Array.from(noisy.targets, (t, i) => t - clean.targets[i])
    const variance = errors.reduce((sum, e) => sum + e * e, 0) / 500
    // Five standard errors of a variance: 0.25 sqrt(2 / 500).
    expect(Math.abs(variance - 0.25)).toBeLessThan(5 * 0.25 * Math.sqrt(2 / 500))
    expect(teacher({ n: 5, classes: 0, outputs: 3 }).targetShape).toEqual([3])
    expect(() => teacher({ classes: 3, noise: 1 })).toThrow(/for regression/)
  })
})
