import { describe, expect, it } from 'vitest'
import {
  fromArrays,
  normalizedInputs,
  standardize,
  statistics,
  withNormalization,
} from '../../lib/data/index.js'

describe('normalization', () => {
  it('counts pixels in units of 1 / 255, one mean for a grey image', () => {
    const set = fromArrays(Uint8Array.of(0, 255, 0, 255, 51, 51, 51, 51), Int32Array.of(0, 1), {
      shape: [2, 2],
    })
    const { mean, std } = statistics(set)
    expect(mean).toHaveLength(1)
    expect(mean[0]).toBeCloseTo(0.35, 12)
    expect(std[0]).toBeCloseTo(Math.sqrt((4 * 0.15 ** 2 + 2 * 0.35 ** 2 + 2 * 0.65 ** 2) / 8), 12)
    expect([...normalizedInputs(set, [0])]).toEqual([0, 1, 0, 1])
  })

  it('has a mean and deviation per plane of [c, h, w]', () => {
    const set = fromArrays(Float32Array.of(1, 3, 10, 30, 1, 3, 10, 30), Int32Array.of(0, 1), {
      shape: [2, 1, 2],
    })
    expect(statistics(set)).toEqual({ mean: [2, 20], std: [1, 10] })
    expect([...normalizedInputs(standardize(set), [1])]).toEqual([-1, 1, -1, 1])
  })

  it('writes chosen samples, also in float64, and checks indices and room', () => {
    const set = withNormalization(fromArrays([[1], [2], [3]], Int32Array.of(0, 0, 0)), {
      mean: [1],
      std: [2],
    })
    const out = new Float64Array(2)
    expect(normalizedInputs(set, [2, 0], out)).toBe(out)
    expect([...out]).toEqual([1, 0])
    expect(() => normalizedInputs(set, [3])).toThrow(/sample 3/)
    expect(() => normalizedInputs(set, undefined, out)).toThrow(/3 samples need 3/)
  })
})
