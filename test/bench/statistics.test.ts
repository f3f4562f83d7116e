import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { median, ratio } from '../../bench/statistics.js'

describe('median', () => {
  it('is the middle of an odd count and the mean of the middle two of an even count', () => {
    expect(median([9, 1, 5])).toBe(5)
    expect(median([9, 1, 5, 3])).toBe(4)
    expect(median([])).toBeNaN()
  })

  it('does not reorder its argument', () => {
    const values = [3, 1, 2]
    median(values)
    expect(values).toEqual([3, 1, 2])
  })

  it('leaves as many values above as below', () => {
    fc.assert(
      fc.property(fc.array(fc.integer(), { minLength: 1 }), (values) => {
        const m = median(values)
        const below = values.filter((x) => x < m).length
        const above = values.filter((x) => x > m).length
        expect(Math.max(below, above)).toBeLessThanOrEqual(values.length / 2)
      }),
    )
  })
})

describe('ratio', () => {
  it('is above 1 when ours is better, whichever way better points', () => {
    expect(ratio(2, 6, 'lower')).toBe(3)
    expect(ratio(6, 2, 'higher')).toBe(3)
  })

  it('is null without a peer and for values that are no measurements', () => {
    expect(ratio(2, null, 'lower')).toBeNull()
    expect(ratio(0, 1, 'lower')).toBeNull()
    expect(ratio(1, Number.NaN, 'lower')).toBeNull()
  })
})
