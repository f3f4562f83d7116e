import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Density, density, symmetricLogDensity } from '../../lib/curvature/density.js'
import {
  cumulative,
  cumulativeBand,
  functional,
  type SpectralMeasure,
  wasserstein1,
} from '../../lib/curvature/measure.js'
import type { LosscapeError } from '../../lib/errors.js'
import { erf } from '../../lib/ops/erf.js'

/** Gauss rule of the semicircle law on [-2, 2]: nodes 2 cos(l pi/(m+1)), 2/(m+1) sin². */
function semicircle(m: number): SpectralMeasure {
  const angle = (l: number) => ((l + 1) * Math.PI) / (m + 1)
  return {
    nodes: [Float64Array.from({ length: m }, (_, l) => 2 * Math.cos(angle(l)))],
    weights: [Float64Array.from({ length: m }, (_, l) => (2 / (m + 1)) * Math.sin(angle(l)) ** 2)],
  }
}

const mass = ({ grid, values }: Pick<Density, 'grid' | 'values'>) =>
  values.reduce((sum, x) => sum + x, 0) * (grid[1] - grid[0])

const codeOf = (run: () => unknown): string | undefined => {
  try {
    run()
  } catch (error) {
    return (error as LosscapeError).code
  }
  return undefined
}

/** Random measures of 1 to 4 probes with up to 12 nodes of very different sizes. */
const measures = fc
  .array(
    fc.array(
      fc.tuple(
        fc.double({ min: -1, max: 1, noNaN: true }),
        fc.integer({ min: -6, max: 3 }),
        fc.double({ min: 1e-6, max: 1, noNaN: true }),
      ),
      { minLength: 1, maxLength: 12 },
    ),
    { minLength: 1, maxLength: 4 },
  )
  .map((probes): SpectralMeasure => {
    const total = probes.map((probe) => probe.reduce((sum, [, , w]) => sum + w, 0))
    return {
      nodes: probes.map((probe) => probe.map(([x, e]) => x * 10 ** e)),
      weights: probes.map((probe, p) => probe.map(([, , w]) => w / total[p])),
    }
  })

describe('erf', () => {
  it('agrees with tabulated values', () => {
    // Abramowitz and Stegun table 7.1, and erfc(3) from 7.2.
    const table = [
      [0, 0],
      [0.5, 0.5204998778130465],
      [1, 0.8427007929497149],
      [2, 0.9953222650189527],
      [2.6, 0.9997639655834707],
      [3, 0.9999779095030014],
    ]
    for (const [x, y] of table) {
      expect(Math.abs(erf(x) - y)).toBeLessThan(2e-15)
      expect(erf(-x)).toBe(-erf(x))
    }
    expect(erf(Number.POSITIVE_INFINITY)).toBe(1)
    expect(erf(Number.NaN)).toBeNaN()
  })

  it('is continuous where the two forms meet', () => {
    expect(Math.abs(erf(2.5) - erf(2.5 - 1e-15))).toBeLessThan(1e-15)
  })
})

describe('density', () => {
  it('has mass 1 on any measure', () => {
    fc.assert(
      fc.property(measures, (measure) => {
        const smooth = density(measure)
        expect(Math.abs(mass(smooth) - 1)).toBeLessThan(1e-6)
        expect(smooth.values.every((x) => x >= 0)).toBe(true)
      }),
      { numRuns: 100 },
    )
  })

  it('follows the semicircle law', () => {
    const { grid, values, width } = density(semicircle(200))
    // Range 4 on 1024 points: the floor of 4 cells is wider than range / 2m = 0.01.
    expect(width).toBeCloseTo((4 * 3.9995) / 992, 4)
    for (let i = 0; i < grid.length; i++) {
      if (Math.abs(grid[i]) > 1.8) continue
      const exact = Math.sqrt(4 - grid[i] ** 2) / (2 * Math.PI)
      // Nodes 2π/m apart leave a ripple of about 2 φ exp(-2π² width²/gap²) = 4e-3.
      expect(Math.abs(values[i] - exact)).toBeLessThan(5e-3)
    }
  })

  it('uses range / 2m when that is wider than four cells', () => {
    const measure = { nodes: [[-1, 0, 1, 3]], weights: [[0.25, 0.25, 0.25, 0.25]] }
    const { grid, width } = density(measure)
    expect(width).toBe(0.5)
    expect(grid.length).toBe(1024)
    expect(grid[0]).toBeCloseTo(-3 + 0.5 * (8 / 1024), 12)
    expect(grid[1023]).toBeCloseTo(5 - 0.5 * (8 / 1024), 12)
  })

  it('keeps its cumulative sum within one width of the raw measure', () => {
    fc.assert(
      fc.property(measures, (measure) => {
        const smooth = density(measure, { grid: 512 })
        const h = smooth.grid[1] - smooth.grid[0]
        const edges = smooth.grid.map((t) => t + h / 2)
        const raw = cumulative(measure, edges)
        let sum = 0
        let distance = 0
        smooth.values.forEach((value, i) => {
          sum += value * h
          distance += Math.abs(sum - raw[i]) * h
        })
        // W1 between a measure and its Gaussian smoothing is at most E|N(0, width²)|.
        expect(distance).toBeLessThan(smooth.width * Math.sqrt(2 / Math.PI) + h)
      }),
      { numRuns: 50 },
    )
  })

  it('counts only what lies inside a range of the caller', () => {
    const measure = { nodes: [[0, 10]], weights: [[0.75, 0.25]] }
    const smooth = density(measure, { range: [-1, 1], width: 0.05 })
    expect(mass(smooth)).toBeCloseTo(0.75, 12)
  })

  it('handles one node and the zero operator', () => {
    for (const node of [0, 5, -1e-9]) {
      const smooth = density({ nodes: [[node]], weights: [[1]] })
      expect(mass(smooth)).toBeCloseTo(1, 9)
      const peak = smooth.grid[smooth.values.indexOf(Math.max(...smooth.values))]
      expect(Math.abs(peak - node)).toBeLessThan(smooth.width)
    }
  })

  it('rejects what it cannot smooth', () => {
    const one = { nodes: [[0]], weights: [[1]] }
    expect(codeOf(() => density(one, { convention: 'toString' as 'ours' }))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => density(one, { convention: 'google', width: 1 }))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => density(one, { convention: 'papyan', kappa: 1 }))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => density(one, { convention: 'google', sigmaSquared: 0 }))).toBe(
      'ERR_ARGUMENT',
    )
    expect(codeOf(() => density(one, { grid: 10 }))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => density(one, { width: -1 }))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => density(one, { range: [1, 1], width: 1 }))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => density({ nodes: [], weights: [] }))).toBe('ERR_SHAPE')
    expect(codeOf(() => density({ nodes: [[1, 2]], weights: [[1]] }))).toBe('ERR_SHAPE')
    expect(codeOf(() => density({ nodes: [[Number.NaN]], weights: [[1]] }))).toBe('ERR_NOT_FINITE')
  })
})

describe('symmetricLogDensity', () => {
  it('has mass 1 over its coordinate and maps back to eigenvalues', () => {
    fc.assert(
      fc.property(measures, (measure) => {
        const d = symmetricLogDensity(measure)
        expect(Math.abs(mass({ grid: d.coordinates, values: d.values }) - 1)).toBeLessThan(1e-6)
        d.grid.forEach((t, i) => {
          const u = Math.sign(t) * Math.log1p(Math.abs(t) / d.linearThreshold)
          expect(Math.abs(u - d.coordinates[i])).toBeLessThan(1e-9)
        })
      }),
      { numRuns: 50 },
    )
  })

  it('separates decades that a linear axis merges', () => {
    const measure = { nodes: [[1e-4, 1e-2, 1]], weights: [[0.5, 0.3, 0.2]] }
    const d = symmetricLogDensity(measure, { linearThreshold: 1e-6, width: 0.2 })
    const massNear = (t: number) => {
      const h = d.coordinates[1] - d.coordinates[0]
      return d.values.reduce(
        (sum, x, i) => sum + (Math.abs(Math.log(d.grid[i] / t)) < 1 ? x * h : 0),
        0,
      )
    }
    expect(massNear(1e-4)).toBeCloseTo(0.5, 4)
    expect(massNear(1e-2)).toBeCloseTo(0.3, 4)
    expect(massNear(1)).toBeCloseTo(0.2, 4)
  })

  it('handles the zero operator and rejects a zero threshold', () => {
    const zero = { nodes: [[0]], weights: [[1]] }
    expect(symmetricLogDensity(zero).linearThreshold).toBe(1e-6)
    expect(codeOf(() => symmetricLogDensity(zero, { linearThreshold: 0 }))).toBe('ERR_ARGUMENT')
  })
})

describe('cumulative, functional, wasserstein1', () => {
  const two: SpectralMeasure = {
    nodes: [
      [0, 1],
      [-1, 3],
    ],
    weights: [
      [0.5, 0.5],
      [0.25, 0.75],
    ],
  }

  it('steps at the nodes', () => {
    expect([...cumulative(two, [-2, -1, -0.5, 0, 1, 2.9, 3, 4])]).toEqual([
      0, 0.125, 0.125, 0.375, 0.625, 0.625, 1, 1,
    ])
  })

  it('averages probes and states the standard error', () => {
    // Per probe 10 · 0.5 and 10 · 2: mean 12.5, deviation 15/√2 over √2 probes.
    const { value, standardError } = functional(two, (t) => t, 10)
    expect(value).toBeCloseTo(12.5, 12)
    expect(standardError).toBeCloseTo(7.5, 12)
    const single = functional(semicircle(30), (t) => t ** 4, 1)
    expect(single.value).toBeCloseTo(2, 10)
    expect(single.standardError).toBeNaN()
  })

  it('leaves out nodes of negligible weight', () => {
    const dust: SpectralMeasure = { nodes: [[0, 1]], weights: [[1e-31, 1]] }
    expect(functional(dust, Math.log, 3).value).toBe(0)
  })

  it('states the standard error of the cumulative fraction', () => {
    const { values, standardErrors } = cumulativeBand(two, [-1, 0, 3])
    expect([...values]).toEqual([0.125, 0.375, 1])
    // Probes 0 and 0.25; 0.5 and 0.25; 1 and 1.
    expect([...standardErrors]).toEqual([0.125, 0.125, 0])
    expect(cumulativeBand(semicircle(5), [0]).standardErrors[0]).toBeNaN()
  })

  it('measures how far mass must travel', () => {
    const at = (t: number): SpectralMeasure => ({ nodes: [[t]], weights: [[1]] })
    expect(wasserstein1(at(1), at(4))).toBeCloseTo(3, 12)
    expect(wasserstein1(two, two)).toBe(0)
    // Both step functions are within half a node's gap (π/m at most) of the law.
    expect(wasserstein1(semicircle(40), semicircle(400))).toBeLessThan(0.04)
    expect(wasserstein1(semicircle(400), semicircle(1000))).toBeLessThan(0.004)
  })
})
