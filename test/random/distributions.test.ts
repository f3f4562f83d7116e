import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { logUnit, unitCircle } from '../../lib/random/elementary.js'
import {
  integers,
  inverseNormal,
  normals,
  permutation,
  rademacher,
  uniforms,
  words,
} from '../../lib/random/index.js'

function fnv(values: Iterable<number>): number {
  let hash = 0x811c9dc5
  for (const value of values) hash = Math.imul(hash ^ value, 0x01000193)
  return hash >>> 0
}

describe('elementary functions', () => {
  it('log agrees with Math.log to 2 ulp on [2^-60, 1]', () => {
    fc.assert(
      fc.property(fc.double({ min: 2 ** -60, max: 1, noNaN: true }), (x) => {
        const exact = Math.log(x)
        expect(Math.abs(logUnit(x) - exact)).toBeLessThanOrEqual(2 ** -51 * Math.abs(exact))
      }),
      { numRuns: 2000 },
    )
    expect(logUnit(1)).toBe(0)
    expect(logUnit(2 ** -33)).toBeCloseTo(-33 * Math.LN2, 14)
  })

  it('unitCircle agrees with cos and sin', () => {
    for (let t = -3; t < 3; t += 0.0137) {
      const [c, s] = unitCircle(t)
      // Math.cos(2 pi t) itself is off by the rounding of 2 pi t, about 2e-15 here.
      expect(Math.abs(c - Math.cos(2 * Math.PI * t))).toBeLessThan(4e-15)
      expect(Math.abs(s - Math.sin(2 * Math.PI * t))).toBeLessThan(4e-15)
    }
    expect(unitCircle(0.25)).toEqual([-0, 1])
    expect(unitCircle(0.5)).toEqual([-1, -0])
  })

  // Quantiles from standard tables to the digits shown.
  it.each([
    [0.5, 0],
    [0.975, 1.959963984540054],
    [0.025, -1.959963984540054],
    [0.999, 3.090232306167813],
    [1e-6, -4.753424308822899],
    [1e-9, -5.997807015007687],
    [0.6, 0.2533471031357997],
  ])('inverseNormal(%f) = %f', (u, z) => {
    expect(Math.abs(inverseNormal(u) - z)).toBeLessThanOrEqual(4e-15 * Math.max(1, Math.abs(z)))
  })
})

describe('distributions', () => {
  const n = 200_000

  it('uniforms have the moments of U(0, 1) and stay inside', () => {
    const u = uniforms(3, 1, 0, n)
    let mean = 0
    let square = 0
    for (const x of u) {
      mean += x / n
      square += (x * x) / n
    }
    expect(Math.min(...u.slice(0, 1000))).toBeGreaterThan(0)
    // Five standard errors: sqrt(1/12 / n) and sqrt(4/45 / n).
    expect(Math.abs(mean - 1 / 2)).toBeLessThan(5 * Math.sqrt(1 / 12 / n))
    expect(Math.abs(square - 1 / 3)).toBeLessThan(5 * Math.sqrt(4 / 45 / n))
  })

  it('normals have the first four moments of N(0, 1)', () => {
    const moments = [0, 0, 0, 0]
    for (const z of normals(3, 2, 0, n)) {
      for (let k = 0; k < 4; k++) moments[k] += z ** (k + 1) / n
    }
    const standardErrors = [1, 2, 15, 96].map((variance) => Math.sqrt(variance / n))
    const expected = [0, 1, 0, 3]
    for (let k = 0; k < 4; k++) {
      expect(Math.abs(moments[k] - expected[k])).toBeLessThan(5 * standardErrors[k])
    }
  })

  it('neighbouring streams are uncorrelated', () => {
    const a = normals(3, 10, 0, n)
    const b = normals(3, 11, 0, n)
    let dot = 0
    for (let i = 0; i < n; i++) dot += a[i] * b[i]
    expect(Math.abs(dot / n)).toBeLessThan(5 / Math.sqrt(n))
  })

  it('rademacher reads bits of words, from any start', () => {
    const signs = rademacher(5, 6, 0, 300)
    const bits = words(5, 6, 0, 10)
    for (let i = 0; i < 300; i++) {
      expect(signs[i]).toBe((bits[i >> 5] >>> (i & 31)) & 1 ? 1 : -1)
    }
    fc.assert(
      fc.property(fc.nat(200), fc.nat(100), (start, count) => {
        expect(rademacher(5, 6, start, count)).toEqual(signs.slice(start, start + count))
      }),
    )
  })

  it('integers fill their range evenly', () => {
    const counts = new Array<number>(7).fill(0)
    for (const k of integers(8, 0, 0, 70_000, 7)) counts[k]++
    // chi-square with 6 degrees of freedom: P(> 27.9) = 1e-4.
    const chi = counts.reduce((sum, c) => sum + (c - 10_000) ** 2 / 10_000, 0)
    expect(chi).toBeLessThan(27.9)
    expect(() => integers(1, 1, 0, 4, 0)).toThrow(/bound/)
  })

  it('permutation is a permutation, differs by stream, and moves every position evenly', () => {
    fc.assert(
      fc.property(fc.nat(1000), fc.nat(500), (seed, size) => {
        expect([...permutation(seed, 0, size)].sort((a, b) => a - b)).toEqual([
          ...Array(size).keys(),
        ])
      }),
    )
    expect(permutation(1, 0, 50)).not.toEqual(permutation(1, 1, 50))
    const first = new Array<number>(5).fill(0)
    for (let s = 0; s < 5000; s++) first[permutation(11, s, 5)[0]]++
    // chi-square with 4 degrees of freedom: P(> 23.5) = 1e-4.
    expect(first.reduce((sum, c) => sum + (c - 1000) ** 2 / 1000, 0)).toBeLessThan(23.5)
    expect(() => permutation(1, 0, -1)).toThrow(/n must be/)
  })

  it('writes float32 by rounding the float64 value', () => {
    expect(normals(4, 4, 3, 9, new Float32Array(9))).toEqual(Float32Array.from(normals(4, 4, 3, 9)))
  })
})

// The same constants stand in native/test/random_test.cc: both sides make the same bits.
describe('bits shared with native/runtime/random.h', () => {
  const seed = 2026n + (5n << 32n)

  it('normals', () => {
    const bits = new DataView(normals(seed, (7n << 32n) | 3n, 5, 100_000).buffer)
    const halves: number[] = []
    for (let i = 0; i < 100_000; i++) {
      const value = bits.getFloat64(8 * i, true)
      const view = new DataView(new ArrayBuffer(8))
      view.setFloat64(0, value, true)
      halves.push(view.getUint32(0, true), view.getUint32(4, true))
    }
    expect(fnv(halves)).toBe(1371316890)
  })

  it('words, signs, integers, permutation', () => {
    expect(fnv(words(seed, 1, 3, 10_001))).toBe(4021495495)
    expect(fnv(rademacher(seed, 2, 7, 10_001))).toBe(2055608670)
    expect(fnv(integers(seed, 3, 0, 10_001, 1000))).toBe(1785462761)
    expect(fnv(permutation(seed, 4, 10_001))).toBe(847217481)
  })
})
