import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LosscapeError } from '../../lib/errors.js'
import { stream } from '../../lib/random/index.js'
import { multiplyHigh, philoxBlock, wordPair, words } from '../../lib/random/philox.js'

const u32 = fc.integer({ min: 0, max: 0xffffffff })

function block(key: number[], counter: number[]): string[] {
  const out = new Uint32Array(4)
  philoxBlock(key, counter, out)
  return [...out].map((word) => word.toString(16).padStart(8, '0'))
}

describe('philox 4x32-10', () => {
  // The known answers published with Random123.
  it('gives the published answers', () => {
    expect(block([0, 0], [0, 0, 0, 0])).toEqual(['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8'])
    const ones = 0xffffffff
    expect(block([ones, ones], [ones, ones, ones, ones])).toEqual([
      '408f276d',
      '41c83b0e',
      'a20bc7c6',
      '6d5451fd',
    ])
    expect(
      block([0xa4093822, 0x299f31d0], [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344]),
    ).toEqual(['d16cfe09', '94fdcceb', '5001e420', '24126ea1'])
  })

  it('multiplies 32-bit words exactly', () => {
    fc.assert(
      fc.property(u32, u32, (a, b) => {
        expect(multiplyHigh(a, b)).toBe(Number((BigInt(a) * BigInt(b)) >> 32n))
      }),
    )
  })

  it('addresses any element without the ones before it', () => {
    const whole = words(9, 4, 0, 200)
    fc.assert(
      fc.property(fc.nat(150), fc.nat(50), (start, count) => {
        expect(words(9, 4, start, count)).toEqual(whole.slice(start, start + count))
      }),
    )
  })

  it('carries into the high counter word past 2^34 elements', () => {
    const out = new Uint32Array(4)
    philoxBlock([7, 0], [1, 1, 0, 0], out)
    expect(words(7, 0, 4 * (2 ** 32 + 1), 4)).toEqual(out)
  })

  it('separates seeds and streams, and treats number and bigint alike', () => {
    expect(words(1, 0, 0, 8)).not.toEqual(words(2, 0, 0, 8))
    expect(words(1, 0, 0, 8)).not.toEqual(words(1, 1, 0, 8))
    expect(words(1, 5, 0, 8)).not.toEqual(words(1 + 2 ** 32, 5, 0, 8))
    expect(words(2 ** 40 + 3, 2 ** 35, 0, 8)).toEqual(words(2n ** 40n + 3n, 2n ** 35n, 0, 8))
    expect(stream('shuffle', 3)).toBe((0x80000005n << 32n) | 3n)
  })

  it.each([-1, 1.5, Number.NaN, 2 ** 53, -1n, 1n << 64n])('refuses seed %s', (seed) => {
    expect(() => wordPair(seed)).toThrow(LosscapeError)
  })

  it('refuses negative starts and stream indices outside 32 bits', () => {
    expect(() => words(1, 1, -1, 4)).toThrow(/start and count/)
    expect(() => words(1, 1, 0, 0.5)).toThrow(/start and count/)
    expect(() => stream('init', 2 ** 32)).toThrow(/stream index/)
  })
})
