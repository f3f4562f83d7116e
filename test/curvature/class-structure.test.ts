import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ClassStructure, classStructure } from '../../lib/curvature/class-structure.js'
import { type Device, open } from '../../lib/device/device.js'
import { MODEL_CASES, type ModelCase } from './cases.js'
import { denseOracle, denseSamples, pull, softmax } from './dense.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

const tanh = MODEL_CASES[1]
const weighted = MODEL_CASES[2]

interface Term {
  readonly matrix: Float64Array
}

/** G₀ .. G₃ as dense matrices, by their definitions. */
function denseTerms(test: ModelCase, chosen: readonly number[]): Term[] {
  const { set, model, loss } = test
  const n = model.size
  const samples = denseSamples(test)
  const C = samples[0].z.length
  const terms = Array.from({ length: 4 }, () => ({ matrix: new Float64Array(n * n) }))
  const add = (k: number, u: Float64Array, scale: number) => {
    for (let a = 0; a < n; a++) {
      for (let b = 0; b < n; b++) terms[k].matrix[a * n + b] += scale * u[a] * u[b]
    }
  }
  const minus = (a: Float64Array, b: Float64Array) => a.map((x, i) => x - b[i])
  const meanOf = (rows: readonly Float64Array[]) =>
    rows[0].map((_, i) => rows.reduce((s, r) => s + r[i], 0) / rows.length)
  for (let c = 0; c < C; c++) {
    const own = chosen.filter((i) => set.targets[i] === c)
    if (own.length === 0) continue
    const share = own.length / chosen.length
    const d = own.map((i) => {
      const p = softmax(samples[i].z)
      let w = 1
      if (typeof loss === 'object' && 'kind' in loss && loss.classWeights) {
        const { classWeights, smoothing = 0 } = loss
        const mean = classWeights.reduce((s, x) => s + x, 0) / C
        w = (1 - smoothing) * classWeights[c] + smoothing * mean
      }
      return Array.from({ length: C }, (_, k) =>
        pull(
          samples[i],
          p.map((pj, j) => Math.sqrt(w * p[k]) * (Number(j === k) - pj)),
        ),
      )
    })
    const means = Array.from({ length: C }, (_, k) => meanOf(d.map((rows) => rows[k])))
    const centre = meanOf(means.filter((_, k) => k !== c))
    add(0, means[c], share)
    add(1, centre, share * (C - 1))
    for (let k = 0; k < C; k++) {
      if (k !== c) add(2, minus(means[k], centre), share)
      for (const rows of d) add(3, minus(rows[k], means[k]), share / own.length)
    }
  }
  return terms
}

const sumOf = (terms: readonly Term[]): Float64Array =>
  terms[0].matrix.map((_, i) => terms.reduce((s, t) => s + t.matrix[i], 0))

const trace = (matrix: Float64Array): number => {
  const n = Math.round(Math.sqrt(matrix.length))
  return Array.from({ length: n }, (_, i) => matrix[i * n + i]).reduce((s, x) => s + x, 0)
}

async function descending(matrix: Float64Array): Promise<number[]> {
  const n = Math.round(Math.sqrt(matrix.length))
  const { values } = await device.binding.symmetricEigen(matrix.slice(), n, false)
  return Array.from(values).reverse()
}

describe.each([
  ['unbalanced classes', tanh, [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]],
  [
    'a class without samples',
    tanh,
    [...tanh.set.targets.keys()].filter((i) => tanh.set.targets[i] !== 1),
  ],
  ['class weights and smoothing', weighted, [...weighted.set.targets.keys()]],
  ['softmax regression, four classes', MODEL_CASES[0], [...MODEL_CASES[0].set.targets.keys()]],
] as const)('%s', (_, test, samples) => {
  const run = (options: object): Promise<ClassStructure> =>
    classStructure(device, test.model, test.params, test.set, {
      loss: test.loss,
      samples,
      ...options,
    })

  it('G₀ + G₁ + G₂ + G₃ = G, and eigenvalues and traces are theirs', async () => {
    const terms = denseTerms(test, samples)
    const g = denseOracle('gauss-newton', test, { samples })
    const whole = sumOf(terms)
    const size = Math.max(...g.map(Math.abs))
    expect(Math.max(...whole.map((x, i) => Math.abs(x - g[i])))).toBeLessThan(1e-14 * size)

    for (const [options, tolerance] of [
      [{ precision: 'f64' }, 1e-13],
      [{ precision: 'f64', batch: 2 }, 1e-13],
      [{ precision: 'f32' }, 1e-6],
    ] as const) {
      const { eigenvalues, traces } = await run(options)
      const bound = tolerance * trace(g)
      for (const [found, matrix] of [
        [eigenvalues.g0, terms[0].matrix],
        [eigenvalues.g1, terms[1].matrix],
        [eigenvalues.g2, terms[2].matrix],
        [eigenvalues.sum, sumOf(terms.slice(0, 3))],
      ] as const) {
        const expected = await descending(matrix)
        for (const [i, value] of expected.entries()) {
          expect(Math.abs((found[i] ?? 0) - value)).toBeLessThan(bound)
        }
      }
      expect(Math.abs(traces.g - trace(g))).toBeLessThan(bound)
      for (const [k, name] of (['g0', 'g1', 'g2', 'g3'] as const).entries()) {
        expect(Math.abs(traces[name] - trace(terms[k].matrix))).toBeLessThan(4 * bound)
      }
    }
  })

  it('has the ranks of the specification, and a picture of its vectors', async () => {
    const { eigenvalues, classes, counts, points, gram, explained, size } = await run({
      precision: 'f64',
    })
    const rank = (values: Float64Array) =>
      values.filter((x) => x > 1e-13 * eigenvalues.sum[0]).length
    expect(rank(eigenvalues.g0)).toBeLessThanOrEqual(classes)
    expect(rank(eigenvalues.g1)).toBeLessThanOrEqual(classes)
    expect(rank(eigenvalues.g2)).toBeLessThanOrEqual(classes * (classes - 2))
    expect(size).toBe(test.model.size)
    expect(Array.from(counts)).toEqual(
      Array.from(counts, (_, c) => samples.filter((i) => test.set.targets[i] === c).length),
    )
    const rows = counts.filter((count) => count > 0).length * classes
    expect(points.length).toBe(rows)
    expect(gram.length).toBe(rows ** 2)
    // The plane holds the share of the squares that it says.
    const inside = points.reduce((s, { x, y }) => s + x * x + y * y, 0)
    expect(inside / trace(gram)).toBeCloseTo(explained, 12)
    expect(explained).toBeGreaterThan(2 / rows)
    expect(explained).toBeLessThanOrEqual(1 + 1e-12)
  })
})

describe('control and bad input', () => {
  const { model, params, set } = tanh

  it('reports progress to the end, and takes a block', async () => {
    const seen: number[] = []
    const { size, traces } = await classStructure(device, model, params, set, {
      params: 'layers.2.*',
      precision: 'f64',
      onProgress: (done, total) => seen.push(done / total),
    })
    expect(seen).toEqual([...seen].sort((a, b) => a - b))
    expect(seen.at(-1)).toBe(1)
    expect(size).toBe(18)
    const n = model.size
    const g = denseOracle('gauss-newton', tanh)
    const { offset } = model.layout.entry('layers.2.weight')
    const block = Array.from({ length: 18 }, (_, i) => g[(offset + i) * n + offset + i])
    expect(traces.g).toBeCloseTo(
      block.reduce((s, x) => s + x, 0),
      12,
    )
  })

  it('says what memory it needs, leaves none behind, and stops', async () => {
    const live = (): number => device.memory().live.buffer?.bytes ?? 0
    const before = live()
    const make = (options: object) => classStructure(device, model, params, set, options)
    await expect(make({ memoryLimit: 1000 })).rejects.toThrow(
      /needs \d+ bytes for 9 class means .* memoryLimit is 1000 bytes/,
    )
    await expect(make({ memoryLimit: 1000 })).rejects.toMatchObject({ code: 'ERR_OUT_OF_MEMORY' })
    await expect(make({ memoryLimit: Number.NaN })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    await expect(make({ signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    })
    const stop = new AbortController()
    await expect(
      make({ signal: stop.signal, onProgress: () => stop.abort() }),
    ).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    await make({})
    expect(live()).toBe(before)
  })

  it('refuses other losses and models', async () => {
    const regression = MODEL_CASES[4]
    await expect(
      classStructure(device, regression.model, regression.params, regression.set, { loss: 'mse' }),
    ).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    const binary = MODEL_CASES[5]
    for (const loss of ['logistic', 'hinge'] as const) {
      await expect(
        classStructure(device, binary.model, binary.params, binary.set, { loss }),
      ).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    }
    for (const bad of [{ probes: 1 }, { onProgress: 3 }, { precision: 'f16' }] as object[]) {
      await expect(classStructure(device, model, params, set, bad)).rejects.toMatchObject({
        code: 'ERR_ARGUMENT',
      })
    }
    await expect(
      classStructure(device, model, null as unknown as number[], set),
    ).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
  })
})
