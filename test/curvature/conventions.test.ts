import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  DENSITY_CONVENTIONS,
  type Density,
  type DensityOptions,
  density,
} from '../../lib/curvature/density.js'
import type { SpectralMeasure } from '../../lib/curvature/measure.js'

/** Measures with probes of equal length, as the original programs have them. */
const measures = fc
  .record({ probes: fc.integer({ min: 1, max: 3 }), steps: fc.integer({ min: 2, max: 9 }) })
  .chain(({ probes, steps }) =>
    fc.record({
      nodes: fc.array(
        fc.array(fc.double({ min: -40, max: 40, noNaN: true }), {
          minLength: steps,
          maxLength: steps,
        }),
        { minLength: probes, maxLength: probes },
      ),
      weights: fc.array(
        fc.array(fc.double({ min: 1e-3, max: 1, noNaN: true }), {
          minLength: steps,
          maxLength: steps,
        }),
        { minLength: probes, maxLength: probes },
      ),
    }),
  )
  .map(({ nodes, weights }): SpectralMeasure => {
    const normal = weights.map((row) => row.map((w) => w / row.reduce((a, b) => a + b, 0)))
    return { nodes, weights: normal }
  })
  // Also of the logarithms that papyan-log smooths: 40 and -40 have the same.
  .filter((m) => spread(flat(m)) > 1e-3 && spread(flat(m).map(logarithm)) > 1e-3)

const spread = (values: number[]) => Math.max(...values) - Math.min(...values)
const logarithm = (t: number) => Math.log(Math.abs(t) + 1e-5)
const average = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length
const rows = ({ nodes }: SpectralMeasure) => nodes as number[][]
const flat = (m: SpectralMeasure) => rows(m).flat()
const normal = (x: number, mu: number, variance: number) =>
  Math.exp(-((x - mu) ** 2) / (2 * variance)) / Math.sqrt(2 * Math.PI * variance)
const linspace = (a: number, b: number, count: number) =>
  Array.from({ length: count }, (_, i) => a + ((b - a) * i) / (count - 1))
/** Mean over probes of Σ ω N(x; f(θ), variance). */
const smoothed = (
  m: SpectralMeasure,
  x: number,
  variance: number,
  f: (t: number) => number = (t) => t,
) =>
  average(
    rows(m).map((row, p) =>
      row.reduce((sum, t, l) => sum + m.weights[p][l] * normal(x, f(t), variance), 0),
    ),
  )

/** Every convention again, point by point from its description; [grid, values]. */
const references: Record<string, (m: SpectralMeasure, points: number) => [number[], number[]]> = {
  google(m, points) {
    const high = average(rows(m).map((row) => Math.max(...row))) + 0.01
    const low = average(rows(m).map((row) => Math.min(...row))) - 0.01
    const variance = 1e-5 * Math.max(1, high - low)
    const grid = linspace(low, high, points)
    const raw = grid.map((x) => smoothed(m, x, variance))
    const integral = raw.reduce((a, b) => a + b, 0) * (grid[1] - grid[0])
    return [grid, raw.map((v) => v / integral)]
  },
  papyan: (m, points) => papyanReference(m, points, 3, (t) => t),
  'papyan-log': (m, points) => papyanReference(m, points, 1.04, logarithm),
  'rule-of-thumb'(m, points) {
    const low = Math.min(...flat(m))
    const high = Math.max(...flat(m))
    const std = (high - low) / m.nodes[0].length
    const pad = 0.1 * (high - low)
    const grid = linspace(low - pad, high + pad, points)
    return [grid, grid.map((x) => smoothed(m, x, std * std))]
  },
}

function papyanReference(
  m: SpectralMeasure,
  points: number,
  kappa: number,
  f: (t: number) => number,
): [number[], number[]] {
  const values = flat(m).map(f)
  const width = Math.max(...values) - Math.min(...values)
  const low = Math.min(...values) - 0.05 * width
  const high = Math.max(...values) + 0.05 * width
  const c = (high + low) / 2
  const d = (high - low) / 2
  const sigma = 2 / ((m.nodes[0].length - 1) * Math.sqrt(8 * Math.log(kappa)))
  const grid = linspace(-1, 1, points)
  return [
    grid.map((x) => x * d + c),
    grid.map((x) => smoothed(m, x, sigma ** 2, (t) => (f(t) - c) / d) / d),
  ]
}

describe.each(Object.keys(references))('convention %s', (convention) => {
  it('equals an independent implementation', () => {
    fc.assert(
      fc.property(measures, (measure) => {
        // Grids of 200 points with google's narrow kernel sum to nothing; its own has 10 000.
        const points = convention === 'google' ? 10_000 : 200
        const options = { convention, grid: points } as DensityOptions
        const got = density(measure, options)
        const [grid, values] = references[convention](measure, points)
        const largest = Math.max(...values)
        fc.pre(Number.isFinite(largest))
        const worst = (a: Float64Array, b: number[]) =>
          b.reduce((most, x, i) => Math.max(most, Math.abs(a[i] - x)), 0)
        expect(worst(got.grid, grid)).toBeLessThan(1e-10 * 40)
        expect(worst(got.values, values)).toBeLessThan(1e-10 * largest)
      }),
      { numRuns: convention === 'google' ? 5 : 40 },
    )
  })
})

describe('conventions', () => {
  const two: SpectralMeasure = { nodes: [[-0.02, 0.05, 0.08]], weights: [[0.2, 0.5, 0.3]] }
  const mass = ({ grid, values }: Density) =>
    values.reduce((sum, x) => sum + x, 0) * (grid[1] - grid[0])

  it('has the defaults of their sources', () => {
    const sizes = { ours: 1024, google: 10_000, papyan: 1024, 'papyan-log': 1024 }
    for (const [convention, size] of Object.entries({ ...sizes, 'rule-of-thumb': 10_000 })) {
      expect(density(two, { convention } as DensityOptions).grid.length).toBe(size)
    }
    expect(Object.keys(references).concat('ours').sort()).toEqual([...DENSITY_CONVENTIONS].sort())
  })

  it('google: s2 is a variance with a floor at range 1', () => {
    expect(density(two, { convention: 'google' }).width).toBeCloseTo(Math.sqrt(1e-5), 12)
    const wide: SpectralMeasure = { nodes: [[0, 100]], weights: [[0.5, 0.5]] }
    const smooth = density(wide, { convention: 'google', sigmaSquared: 1e-3 })
    expect(smooth.width).toBeCloseTo(Math.sqrt(1e-3 * 100.02), 12)
    expect(mass(smooth)).toBeCloseTo(1, 12)
  })

  it('papyan: a smaller kappa is a wider kernel, and two of them at the gap dip by kappa', () => {
    const at = (kappa: number) => density(two, { convention: 'papyan', kappa }).width
    expect(at(1.25) / at(3)).toBeCloseTo(Math.sqrt(Math.log(3) / Math.log(1.25)), 12)
    // Half way between two centres 2 / (m - 1) apart one kernel has fallen by the factor kappa.
    const half = (1.1 * 0.1) / 2
    const middle = half / 2
    expect(Math.exp(middle ** 2 / (2 * at(3) ** 2))).toBeCloseTo(3, 10)
  })

  it.each(DENSITY_CONVENTIONS)('%s: one node does not divide by zero', (convention) => {
    for (const node of [0, 7]) {
      const smooth = density({ nodes: [[node]], weights: [[1]] }, { convention })
      expect(smooth.values.every(Number.isFinite)).toBe(true)
      expect(Math.max(...smooth.values)).toBeGreaterThan(0)
    }
  })
})
