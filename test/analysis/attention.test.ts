import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type AttentionCostOptions,
  attentionCost,
  attentionCounts,
} from '../../lib/analysis/attention-cost.js'
import { attentionMaps, topMass } from '../../lib/analysis/attention-maps.js'
import { attentionMatrices } from '../../lib/analysis/attention-matrices.js'
import { attentionSpectrum } from '../../lib/analysis/attention-spectrum.js'
import {
  headHistograms,
  histogram,
  weightHistograms,
} from '../../lib/analysis/weight-histograms.js'
import { type DataSet, type Device, data, models, open, predictor } from '../../lib/index.js'
import { attentionAnatomy } from '../../lib/nn/attention/anatomy.js'
import type { AttentionChoice } from '../../lib/nn/attention/options.js'
import { vit } from '../../lib/nn/vit.js'

let device: Device
let set: DataSet
beforeAll(async () => {
  device = await open()
  set = await data.glyphs({ n: 6 })
})
afterAll(() => device.dispose())

const small = (attention: AttentionChoice, over: object = {}) =>
  vit({
    ...{ input: [1, 16, 16], patch: 4, width: 12, depth: 2, heads: 2, classes: 10 },
    attention,
    ...over,
  })
const code = (code: string) => expect.objectContaining({ code })
const images = [0, 3]

/** Larger than at the start, so that attention is not uniform. */
const stirred = (model: ReturnType<typeof small>): Float64Array =>
  model.init(1).map((x, i) => x + 0.3 * Math.sin(i))

describe('attentionMatrices()', () => {
  it('are those that the model itself multiplies its values with', async () => {
    for (const attention of ['softmax', 'karat:G2B,r4', 'karat:G2U,r4,project-output']) {
      const model = small(attention)
      const params = stirred(model)
      const [first, second] = await attentionMatrices(device, model, params, set, { images })
      expect(first.block).toBe(0)
      expect(second.images).toEqual(images)
      const N = 17
      expect(second.weights).toHaveLength(2 * 2 * N * N)
      if (attention === 'softmax') {
        for (let row = 0; row < 4 * N; row++) {
          const weights = second.weights.subarray(row * N, (row + 1) * N)
          const scores = Float64Array.from(second.scores.subarray(row * N, (row + 1) * N))
          const sum = scores.reduce((total, x) => total + Math.exp(x), 0)
          for (let j = 0; j < N; j++) expect(weights[j]).toBeCloseTo(Math.exp(scores[j]) / sum, 12)
        }
      }
      // Scores are products of scaled queries and keys, weights of their factors.
      const D = 6
      const dot = (image: number, h: number, n: number, m: number): number => {
        let sum = 0
        for (let d = 0; d < D; d++) {
          const at = (t: number) => ((image * N + t) * 2 + h) * D + d
          sum += second.queries[at(n)] * second.keys[at(m)]
        }
        return sum
      }
      expect(second.scores[((1 * 2 + 1) * N + 3) * N + 5]).toBeCloseTo(dot(1, 1, 3, 5), 12)
      const factored = attention === 'karat:G2B,r4'
      expect(second.factors.map((f) => f?.r ?? null)).toEqual(factored ? [4, 4] : [null, null])
      for (const [h, factors] of second.factors.entries()) {
        if (!factors) continue
        const { z, w } = factors
        for (const [n, m] of [
          [0, 0],
          [3, 16],
        ]) {
          let sum = 0
          for (let p = 0; p < 4; p++) sum += z[(N + n) * 4 + p] * w.data[m * 4 + p]
          expect(second.weights[((2 + h) * N + n) * N + m]).toBeCloseTo(sum, 11)
        }
      }
    }
  })

  it('change nothing about the model, and refuse what has no attention', async () => {
    const mlp = models.mlp({ input: [16, 16], hidden: [4], classes: 10 })
    const refused = attentionMatrices(device, mlp, mlp.init(0), set)
    await expect(refused).rejects.toEqual(code('ERR_ARGUMENT'))
    const model = small('softmax')
    const run = (options: object, params: ArrayLike<number> = model.init(0)) =>
      attentionMatrices(device, model, params, set, options)
    await expect(run({ images: [6] })).rejects.toThrow('0 to 5')
    await expect(run({ images: [] })).rejects.toEqual(code('ERR_ARGUMENT'))
    await expect(run({ blocks: [2] })).rejects.toThrow('0 to 1')
    await expect(run({}, [1, 2])).rejects.toEqual(code('ERR_SHAPE'))
    await expect(run({ signal: AbortSignal.abort() })).rejects.toEqual(code('ERR_ABORTED'))
  })
})

describe('attentionSpectrum()', () => {
  it('has rank r for learnable heads, by factors and by the full matrix alike', async () => {
    const model = small('karat:G2B,r4')
    const [block] = await attentionMatrices(device, model, stirred(model), set, { images })
    const cheap = await attentionSpectrum(block)
    const full = await attentionSpectrum(block, { method: 'full' })
    expect(cheap.rank).toEqual({ min: 4, max: 4 })
    expect(full.rank).toEqual({ min: 4, max: 4 })
    for (let i = 0; i < 4; i++) {
      expect(cheap.weights.mean[i]).toBeCloseTo(full.weights.mean[i], 9)
      expect(cheap.weights.min[i]).toBeLessThanOrEqual(cheap.weights.mean[i] + 1e-12)
      expect(cheap.weights.max[i]).toBeGreaterThanOrEqual(cheap.weights.mean[i] - 1e-12)
    }
    expect(cheap.weights.max[4]).toBe(Number.NEGATIVE_INFINITY)
    // Scores have the rank of the queries.
    expect(cheap.scores.max[5]).toBeCloseTo(full.scores.max[5], 6)
    expect(cheap.scores.max[6]).toBe(Number.NEGATIVE_INFINITY)
    expect(full.scores.max[6]).toBeLessThan(cheap.scores.max[0] - 30)
  })

  it('is of full rank for softmax heads, also beside learnable ones', async () => {
    const mixed = small({ heads: ['softmax', { G: 1, r: 3 }] })
    const [, block] = await attentionMatrices(device, mixed, stirred(mixed), set, { images })
    expect(block.factors.map((f) => f?.r ?? null)).toEqual([null, 3])
    const { rank, range } = await attentionSpectrum(block, { tolerance: 1e-12 })
    expect(rank.min).toBe(3)
    expect(rank.max).toBeGreaterThan(10)
    expect(range.max).toBeGreaterThan(range.min)
    await expect(attentionSpectrum(null as never)).rejects.toEqual(code('ERR_ARGUMENT'))
    await expect(attentionSpectrum(block, { tolerance: 2 })).rejects.toEqual(code('ERR_ARGUMENT'))
    await expect(attentionSpectrum(block, { method: 'no' as never })).rejects.toThrow('factors')
  })
})

describe('attentionMaps()', () => {
  it('show the row of the class token, scores of learnable heads', async () => {
    const model = small({ heads: ['softmax', { G: 1, r: 3 }] })
    const anatomy = attentionAnatomy(model)
    const [, block] = await attentionMatrices(device, model, stirred(model), set, { images })
    const maps = attentionMaps(block, anatomy)
    expect(maps.map(({ image, head, kind }) => [image, head, kind])).toEqual([
      [0, 0, 'weights'],
      [0, 1, 'scores'],
      [3, 0, 'weights'],
      [3, 1, 'scores'],
    ])
    expect(maps[0].grid).toEqual([4, 4])
    const row = (all: ArrayLike<number>, at: number) =>
      Array.from({ length: 16 }, (_, j) => all[at * 17 * 17 + 1 + j])
    expect([...maps[2].values]).toEqual(row(block.weights, 2))
    expect([...maps[3].values]).toEqual(row(block.scores, 3))
    const clamped = attentionMaps(block, anatomy, { kind: 'clamped' })
    expect(Math.min(...clamped[3].values)).toBeGreaterThanOrEqual(0)
    expect([...clamped[3].values]).toEqual(row(block.weights, 3).map((x) => Math.max(0, x)))
    expect(() => attentionMaps(block, anatomy, { mass: 0 })).toThrow('mass')
    expect(() => attentionMaps(block, null as never)).toThrow('attentionAnatomy')
  })

  it('are means over all rows without a class token', async () => {
    const model = small('softmax', { pooling: 'mean' })
    const [block] = await attentionMatrices(device, model, stirred(model), set, { images: [0] })
    const [map] = attentionMaps(block, attentionAnatomy(model))
    expect(map.values).toHaveLength(16)
    expect(map.values.reduce((sum, x) => sum + x, 0)).toBeCloseTo(1, 12)
  })

  it('keep the fewest patches of the wanted mass', () => {
    expect([...topMass([1, 5, 3, 1], 0.6)]).toEqual([0, 1, 0, 0])
    expect([...topMass([1, 5, 3, 1], 0.7)]).toEqual([0, 1, 1, 0])
    expect([...topMass([1, 5, 3, 1], 1)]).toEqual([0, 1, 1, 0])
    expect([...topMass([2, 2], 0.5)]).toEqual([0, 0])
  })
})

describe('histograms', () => {
  it('count everything once', () => {
    const values = [-1, -0.5, 0, 0.2, 0.5, 1, 3]
    const { counts, outside, total, mean } = histogram(values, { bins: 4, range: 1 })
    expect([...counts]).toEqual([1, 1, 2, 2])
    expect(outside).toBe(1)
    expect(total).toBe(7)
    expect(mean).toBeCloseTo(3.2 / 7, 12)
    expect(histogram(values).range).toBe(3)
    expect(() => histogram([Number.NaN])).toThrow('finite')
    expect(() => histogram(values, { bins: 0 })).toThrow('bins')
    const list = weightHistograms([{ name: 'start', params: values }])
    expect(list[0]).toMatchObject({ name: 'start', range: 0.1, outside: 6 })
  })

  it('are by head and block, or once when blocks share', () => {
    const blockwise = small('karat:G2B,r4')
    const found = headHistograms(blockwise, blockwise.init(0))
    expect(found.map(({ block, head }) => `${block} ${head}`)).toEqual([
      'block 0 0',
      'block 0 1',
      'block 1 0',
      'block 1 1',
    ])
    expect(found[0].coefficients.total).toBe(2 * 4 * 17 * 2)
    expect(found[0].projector?.total).toBe(4 * 17)
    // 'variance': a, b ~ N(0, 1 / (N G)).
    expect(found[3].coefficients.deviation).toBeCloseTo(1 / Math.sqrt(17 * 2), 1)
    const universal = small('karat:G2U,r4')
    expect(headHistograms(universal, universal.init(0)).map(({ block }) => block)).toEqual([
      'shared',
      'shared',
    ])
    expect(headHistograms(small('softmax'), small('softmax').init(0))).toEqual([])
    const { counts } = headHistograms(blockwise, blockwise.init(0))[1].coefficients
    expect(counts.reduce((sum, x) => sum + x, 0)).toBe(2 * 4 * 17 * 2)
  })
})

describe('attentionCost()', () => {
  it('counts parameters and operations by the laws', () => {
    const law = attentionCounts(small('karat:G2B,r4'))
    expect(law.attentionParameters).toBe(5 * 17 * 4 * 2 * 2)
    expect(law.activationOperations).toBe(7 * 17 ** 2 * 4 * 2 * 2)
    expect(attentionCounts(small('karat:G2U,r4')).attentionParameters).toBe(5 * 17 * 4 * 2)
    expect(attentionCounts(small('softmax'))).toEqual({
      attentionParameters: 0,
      activationOperations: 3 * 17 ** 2 * 2 * 2,
    })
    expect(attentionCounts(small('karat:phi-w,r4')).activationOperations).toBeNaN()
  })

  it('measures memory, in proportion to images and bytes of a number', async () => {
    const model = small('karat:G2B,r4')
    const cost = (options: AttentionCostOptions) =>
      attentionCost(device, model, set, { repeats: 0, ...options })
    const [three, six, wide] = [
      await cost({ batch: 3 }),
      await cost({}),
      await cost({ batch: 3, precision: 'f64' }),
    ]
    expect([three.batch, six.batch]).toEqual([3, 6])
    expect(three.parameters).toBe(model.size)
    // Beside what the kernels keep for themselves, three images more take as much as numbers of
    // twice the width: q, k, v and o of a block at least, and up to 30 tensors a block for gradients.
    const { width, depth } = model.config as { width: number; depth: number }
    const tensor = 3 * 17 * width * 4
    for (const [name, least, most] of [
      ['forwardBytes', 3, 10],
      ['trainingBytes', 6 * depth, 30 * depth],
    ] as const) {
      const more = six[name] - three[name]
      expect(more).toBeGreaterThan(least * tensor)
      expect(more).toBeLessThan(most * tensor)
      expect((wide[name] - three[name]) / more).toBeGreaterThan(0.7)
      expect((wide[name] - three[name]) / more).toBeLessThan(1.4)
    }
    expect([six.forwardImagesPerSecond, six.trainingImagesPerSecond]).toEqual([NaN, NaN])
  })

  it('measures throughput in images a second', async () => {
    const repeats = 5
    const begin = performance.now()
    const cost = await attentionCost(device, small('softmax'), set, { batch: 4, repeats })
    const seconds = (performance.now() - begin) / 1000
    for (const rate of [cost.forwardImagesPerSecond, cost.trainingImagesPerSecond]) {
      // Half of the runs took the median or more, all within the call; and no pass over four
      // images takes less than four microseconds.
      expect(rate).toBeGreaterThan((4 * Math.ceil(repeats / 2)) / seconds)
      expect(rate).toBeLessThan(1e6)
    }
  })

  it('refuses a batch of 0 by that name', async () => {
    await expect(attentionCost(device, small('softmax'), set, { batch: 0 })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringMatching(/batch to be a positive integer, got 0/),
    })
  })
})

it('leaves predictions of the same device alone', async () => {
  const model = small('karat:G2B,r4')
  using service = predictor(device, model, model.init(0), { set })
  const before = await service.predict(set.inputs.subarray(0, 256))
  await attentionMatrices(device, model, model.init(0), set, { images })
  expect(await service.predict(set.inputs.subarray(0, 256))).toEqual(before)
})
