import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { countOutliers, denseOperator, open, slq } from '../../lib/index.js'
import { normals } from '../../lib/random/index.js'

/** Three outliers over a bulk of 97 values spread over [-0.01, 0.01]. */
const spectrum = [10, 8, 6, ...Array.from({ length: 97 }, (_, i) => 0.01 * Math.sin(i + 1))]

describe('countOutliers()', () => {
  it('finds three planted outliers by every rule, in any order of the values', () => {
    for (const values of [spectrum, [...spectrum].reverse()]) {
      expect(countOutliers(values, { rule: 'gap', classes: 3 })).toMatchObject({
        count: 3,
        cutoff: 6,
      })
      expect(countOutliers(values, { rule: 'edge' }).count).toBe(3)
      expect(countOutliers(values, { rule: 'threshold' }).count).toBe(3)
      expect(
        countOutliers(values, { rule: 'threshold', threshold: 7, relative: false }).count,
      ).toBe(2)
      const energy = countOutliers(values, { rule: 'energy', classes: 3 })
      expect(energy.strength).toBeCloseTo(1, 4)
      // 100 + 64 of 200 are 82 %, 200 are all.
      expect(energy.count).toBe(3)
      expect(countOutliers(values, { rule: 'energy', classes: 2, share: 0.8 })).toMatchObject({
        count: 2,
        strength: expect.closeTo(0.82, 3),
      })
    }
  })

  it('counts negative values by magnitude when asked', () => {
    const values = [5, 1e-3, 0, -1e-3, -4]
    expect(countOutliers(values, { rule: 'threshold', threshold: 0.1 }).count).toBe(1)
    const both = { rule: 'threshold', threshold: 0.1, magnitude: true } as const
    expect(countOutliers(values, both).count).toBe(2)
  })

  it('matches values of G₁ one to one', () => {
    const options = { rule: 'class-structure', tolerance: 0.1 } as const
    const near = countOutliers(spectrum, { ...options, reference: [10.5, 8.1, 5.8, 1e-9] })
    expect(near.count).toBe(3)
    // Two references cannot share one eigenvalue, and 3 has none.
    const few = countOutliers(spectrum, { ...options, reference: [10, 9.9, 3] })
    expect(few.count).toBe(1)
  })

  it('sees no outlier in a flat spectrum', () => {
    const flat = new Float64Array(50).fill(2)
    expect(countOutliers(flat, { rule: 'gap', classes: 5 }).count).toBe(0)
    expect(countOutliers(flat, { rule: 'edge' }).count).toBe(0)
    expect(countOutliers(flat, { rule: 'energy', classes: 5 }).strength).toBeCloseTo(0.1, 12)
  })

  it('places the Marchenko-Pastur edge where a spiked Wishart matrix has it', async () => {
    const [n, samples, spikes] = [120, 480, [6, 8]]
    const ratio = n / samples
    const x = normals(7, 0, 0, n * samples)
    for (const [k, spike] of spikes.entries()) {
      for (let s = 0; s < samples; s++) x[s * n + k] *= Math.sqrt(spike)
    }
    const matrix = new Float64Array(n * n)
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        for (let s = 0; s < samples; s++)
          matrix[i * n + j] += (x[s * n + i] * x[s * n + j]) / samples
      }
    }
    const device = await open()
    try {
      const operator = denseOperator(device, matrix)
      const { nodes, weights } = await slq(operator, { probes: 10, steps: n })
      const edge = countOutliers({ nodes, weights }, { rule: 'edge', ratio, size: n })
      expect(edge.count).toBe(2)
      // (1 + √γ)² = 2.25; the fit by the median is good to some per cent here.
      expect(edge.cutoff).toBeGreaterThan(2.25 * 0.9)
      expect(edge.cutoff).toBeLessThan(2.25 * 1.15)
      operator.dispose()
    } finally {
      device.dispose()
    }
  })

  it('counts as many from an exact measure as from the values', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: -5, max: 100, noNaN: true }), { minLength: 4, maxLength: 60 }),
        fc.constantFrom('gap', 'edge', 'threshold', 'energy'),
        (values, rule) => {
          const nodes = [values]
          const weights = [values.map(() => 1 / values.length)]
          const options = { rule, classes: 2 } as const
          const size = values.length
          expect(countOutliers({ nodes, weights }, { ...options, size }).count).toBe(
            countOutliers(values, options).count,
          )
        },
      ),
      { numRuns: 200 },
    )
  })

  it('weighs the top of a measure by its masses', () => {
    // Of 10 eigenvalues one and a half are 4 by this estimate: E_1 counts one of them.
    const measure = { nodes: [[0, 4]], weights: [[0.85, 0.15]] }
    const { strength } = countOutliers(measure, { rule: 'energy', classes: 1, size: 10 })
    expect(strength).toBeCloseTo(1 / 1.5, 12)
    const both = countOutliers(measure, { rule: 'energy', classes: 2, size: 10 })
    expect(both.strength).toBeCloseTo(1, 12)
  })

  it('refuses what it cannot count', () => {
    const codes = (options: object, values: unknown = [1, 2]): string => {
      try {
        countOutliers(values as number[], options as { rule: 'gap' })
        return 'none'
      } catch (error) {
        return (error as { code: string }).code
      }
    }
    expect(codes({ rule: 'eye' })).toBe('ERR_ARGUMENT')
    expect(codes({ rule: 'gap' })).toBe('ERR_ARGUMENT')
    expect(codes({ rule: 'class-structure' })).toBe('ERR_ARGUMENT')
    expect(codes({ rule: 'edge', kapa: 3 })).toBe('ERR_ARGUMENT')
    expect(codes({ rule: 'edge', kappa: 0 })).toBe('ERR_ARGUMENT')
    expect(codes({ rule: 'edge', ratio: -1 })).toBe('ERR_ARGUMENT')
    expect(codes({ rule: 'edge', size: 3 })).toBe('ERR_ARGUMENT')
    expect(codes({ rule: 'edge' }, { nodes: [[1]], weights: [[1]] })).toBe('ERR_ARGUMENT')
    expect(codes({ rule: 'edge' }, [1, Number.NaN])).toBe('ERR_NOT_FINITE')
    expect(codes({ rule: 'edge' }, [])).toBe('ERR_ARGUMENT')
  })
})
