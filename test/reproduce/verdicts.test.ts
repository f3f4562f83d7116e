import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { holds, judge, thresholdText, verdictOf } from '../../lib/reproduce/verdicts.js'

const question = { id: 'q', claim: 'It is large.', measure: 'x', threshold: { above: 2 } }
const cases = (...values: number[]) => values.map((value, i) => ({ name: `seed ${i}`, value }))

describe('a verdict', () => {
  it("is 'seen' only when every case holds, 'not seen' when fewer than half do", () => {
    expect(judge(question, cases(3, 4, 5)).verdict).toBe('seen')
    expect(judge(question, cases(3, 4, 2)).verdict).toBe('mixed')
    expect(judge(question, cases(3, 1)).verdict).toBe('mixed')
    expect(judge(question, cases(3, 1, 2)).verdict).toBe('not seen')
    expect(judge(question, cases(0, 1, 2)).verdict).toBe('not seen')
    expect(() => verdictOf([])).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }))
  })

  it('does not take NaN or a missing measurement for a result', () => {
    expect(judge(question, cases(Number.NaN)).verdict).toBe('not seen')
    expect(holds(Number.NaN, {})).toBe(false)
    expect(holds(Number.POSITIVE_INFINITY, { atMost: 0.25 })).toBe(false)
  })

  it('keeps every case with its number, so that it can be checked', () => {
    const claim = judge(question, cases(3, 1))
    expect(claim.cases).toEqual([
      { name: 'seed 0', value: 3, holds: true },
      { name: 'seed 1', value: 1, holds: false },
    ])
    expect(claim.threshold).toEqual({ above: 2 })
  })

  it('agrees with the words of its threshold at and around the limits', () => {
    expect(thresholdText({ atLeast: 0.1, atMost: 0.4 })).toBe('≥ 0.1 and ≤ 0.4')
    expect(thresholdText({ above: 2 })).toBe('> 2')
    fc.assert(
      fc.property(fc.double({ noNaN: true }), fc.double({ noNaN: true }), (value, limit) => {
        expect(holds(value, { atLeast: limit })).toBe(value >= limit)
        expect(holds(value, { above: limit })).toBe(value > limit)
        expect(holds(value, { atMost: limit })).toBe(value <= limit)
        expect(holds(value, { below: limit })).toBe(value < limit)
      }),
    )
    expect(holds(2, { above: 2 })).toBe(false)
    expect(holds(2, { atLeast: 2, atMost: 2 })).toBe(true)
  })
})
