import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exactSpectrum } from '../../lib/curvature/dense.js'
import * as functionals from '../../lib/curvature/functionals.js'
import { type Estimate, type SpectralMeasure, wasserstein1 } from '../../lib/curvature/measure.js'
import { denseOperator, operatorFrom } from '../../lib/curvature/operators.js'
import { slq } from '../../lib/curvature/slq.js'
import { wassersteinBound } from '../../lib/curvature/spectral-error.js'
import { type Device, open } from '../../lib/device/device.js'
import { normals } from '../../lib/random/index.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

const sum = (values: Iterable<number>) => [...values].reduce((a, b) => a + b, 0)

/** Xᵀ X / N with n = 30 columns, a random symmetric positive matrix. */
function wishart(n: number, rows: number): Float64Array {
  const x = normals(5, 0, 0, rows * n)
  const a = new Float64Array(n * n)
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      let dot = 0
      for (let r = 0; r < rows; r++) dot += x[r * n + i] * x[r * n + j]
      a[i * n + j] = dot / rows
    }
  }
  return a
}

describe('functionals', () => {
  it('agree with all eigenvalues within their standard errors', async () => {
    const n = 60
    using operator = denseOperator(device, wishart(n, 90))
    const { values } = await exactSpectrum(operator)
    const measure = await slq(operator, { probes: 60, steps: 40 })
    const magnitudes = values.map(Math.abs)
    const total = sum(magnitudes)
    const cases: [Estimate, number][] = [
      [functionals.trace(measure, n), sum(values)],
      [functionals.frobeniusSquared(measure, n), sum(values.map((t) => t * t))],
      [functionals.logDeterminant(measure, n, 0.1), sum(values.map((t) => Math.log(t + 0.1)))],
      [functionals.effectiveDimension(measure, n, 0.1), sum(values.map((t) => t / (t + 0.1)))],
      [functionals.estrada(measure, n), sum(values.map(Math.exp))],
      [functionals.massBelow(measure, 0.5, n), values.filter((t) => t < 0.5).length],
      [
        functionals.spectralEntropy(measure, n),
        -sum(magnitudes.map((t) => (t / total) * Math.log(t / total))),
      ],
    ]
    for (const [{ value, standardError }, exact] of cases) {
      expect(standardError).toBeGreaterThan(0)
      // Seven statements at 3.5 standard errors of 60 probes: a false alarm in 170 seeds.
      expect(Math.abs(value - exact)).toBeLessThan(3.5 * standardError)
      expect(standardError).toBeLessThan(0.2 * Math.abs(exact))
    }
  })

  it('count the negative part by number and energy, without what is rounding', () => {
    const measure: SpectralMeasure = {
      nodes: [
        [-1, -1e-7, 1e-7, 3],
        [-2, 0, 1, 3],
      ],
      weights: [
        [0.25, 0.25, 0.25, 0.25],
        [0.25, 0.25, 0.25, 0.25],
      ],
    }
    const { fraction, energy, undecided, floor } = functionals.negativeMass(measure)
    expect(floor).toBeCloseTo(3e-6, 15)
    expect(fraction).toEqual({ value: 0.25, standardError: 0 })
    expect(undecided.value).toBeCloseTo((0.5 + 0.25) / 2, 12)
    expect(energy.value).toBeCloseTo((0.25 + 1) / (2.5 + 3.5), 9)
    expect(energy.standardError).toBeGreaterThan(0)
    const fine = functionals.negativeMass(measure, { precision: 'f64' })
    expect(fine.fraction.value).toBeCloseTo((0.5 + 0.25) / 2, 12)
    const zero = functionals.negativeMass({ nodes: [[0]], weights: [[1]] })
    expect(zero.energy.value).toBe(0)
  })

  it('give the entropy of equal and of single eigenvalues', () => {
    const entropy = (nodes: number[], weights: number[], n: number) =>
      functionals.spectralEntropy({ nodes: [nodes], weights: [weights] }, n)
    expect(entropy([-2, 2], [0.5, 0.5], 100).value).toBeCloseTo(Math.log(100), 12)
    expect(entropy([0, 5], [0.99, 0.01], 100).value).toBeCloseTo(0, 12)
    expect(entropy([0], [1], 10).value).toBeNaN()
    expect(entropy([1, 2], [0.5, 0.5], 10).standardError).toBeNaN()
  })

  it('ignore nodes of negligible weight', () => {
    const measure: SpectralMeasure = { nodes: [[-5, 1]], weights: [[1e-31, 1]] }
    expect(functionals.logDeterminant(measure, 4, 0).value).toBe(0)
    expect(functionals.massBelow(measure, 10).value).toBe(1)
  })

  it('refuse what has no value', () => {
    const measure: SpectralMeasure = { nodes: [[-1, 1]], weights: [[0.5, 0.5]] }
    const refused: (() => unknown)[] = [
      () => functionals.logDeterminant(measure, 2, 0.5),
      () => functionals.effectiveDimension(measure, 2, 1),
      () => functionals.logDeterminant(measure, 2, -1),
      () => functionals.massBelow(measure, 0),
      () => functionals.trace(measure, 0),
      () => functionals.estrada(measure, 2, Number.NaN),
      () => functionals.negativeMass(measure, { floor: -1 }),
      () => functionals.trace(undefined as never, 2),
      () => wassersteinBound(measure, 2, { ends: [0, 1] }),
      () => wassersteinBound(measure, 2, { confidence: 1 }),
    ]
    for (const run of refused) {
      expect(run).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }))
    }
  })
})

describe('slq', () => {
  it('gives the exact measure of a probe after as many steps as there are eigenvalues', async () => {
    const distinct = [-3, 0.5, 2, 10]
    const n = 40
    const operator = operatorFrom((v) => v.map((x, i) => x * distinct[i % 4]), n)
    const { nodes, weights } = await slq(operator, { probes: 3, steps: 10 })
    nodes.forEach((row, p) => {
      // A Rademacher probe has the same weight in every element.
      expect(row.length).toBe(4)
      row.forEach((t, l) => {
        expect(t).toBeCloseTo(distinct[l], 10)
        expect(weights[p][l]).toBeCloseTo(0.25, 10)
      })
    })
  })
})

describe('wassersteinBound', () => {
  it('holds, and falls with probes and steps', async () => {
    const n = 300
    const values = Float64Array.from({ length: n }, (_, i) => Math.cos((Math.PI * (i + 0.5)) / n))
    // Three reflections make the eigenvectors general.
    const reflect = normals(9, 0, 0, 3 * n)
    const rotate = (v: Float64Array, order: number[]) => {
      for (const r of order) {
        const u = reflect.subarray(r * n, (r + 1) * n)
        const scale = (2 * sum(u.map((x, i) => x * v[i]))) / sum(u.map((x) => x * x))
        for (let i = 0; i < n; i++) v[i] -= scale * u[i]
      }
      return v
    }
    const operator = operatorFrom((v) => {
      const w = rotate(Float64Array.from(v), [0, 1, 2])
      return rotate(
        w.map((x, i) => x * values[i]),
        [2, 1, 0],
      )
    }, n)
    const exact: SpectralMeasure = { nodes: [values], weights: [values.map(() => 1 / n)] }
    const bounds = []
    for (const [probes, steps] of [
      [1, 8],
      [1, 30],
      [8, 30],
    ]) {
      const measure = await slq(operator, { probes, steps, check: false })
      const bound = wassersteinBound(measure, n, { ends: [-1, 1] })
      expect(wasserstein1(measure, exact)).toBeLessThan(bound.total)
      expect(bound.aPosteriori).toBeLessThan(bound.aPriori)
      bounds.push(bound)
    }
    expect(bounds[1].quadrature).toBeLessThan(0.5 * bounds[0].quadrature)
    expect(bounds[2].sampling).toBeCloseTo(bounds[1].sampling / Math.sqrt(8), 12)
  })

  it('is nearly attained by a rule that lost what it was made from', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 12 }), (m) => {
        // The rule of m nodes against mass moved to the far neighbour of each node.
        const nodes = Array.from({ length: m }, (_, l) => l / (m - 1))
        const weights = nodes.map(() => 1 / m)
        const { aPosteriori } = wassersteinBound({ nodes: [nodes], weights: [weights] }, 1e9)
        const moved = { nodes: [[0, ...nodes.slice(0, -1)]], weights: [weights] }
        const distance = wasserstein1({ nodes: [nodes], weights: [weights] }, moved)
        expect(distance).toBeLessThanOrEqual(aPosteriori + 1e-12)
        expect(distance).toBeGreaterThan(0.9 * aPosteriori)
      }),
    )
  })
})
