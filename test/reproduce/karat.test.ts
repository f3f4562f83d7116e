import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Device, open } from '../../lib/index.js'
import { karatPaper, reproduce } from '../../lib/reproduce/index.js'
import {
  type KaratResults,
  karatClaims,
  largestRise,
  QUESTIONS,
} from '../../lib/reproduce/karat/claims.js'
import { karatSections } from '../../lib/reproduce/karat/sections.js'
import { type KaratSettings, karatSettings } from '../../lib/reproduce/karat/settings.js'
import type { Results } from '../../lib/reproduce/paper.js'
import { exemplary, memory, variant } from './karat-results.js'

type Part = Partial<Results<KaratResults>>
const verdicts = (results: Part) =>
  Object.fromEntries(karatClaims(results).map(({ id, verdict }) => [id, verdict]))
const one = <R>(result: R) => [{ seed: 0, result }]
const ids = Object.values(QUESTIONS).map(({ id }) => id)

describe('claims about learnable attention', () => {
  it('are all seen in exemplary data', () => {
    const found = verdicts(exemplary())
    expect(Object.keys(found).sort()).toEqual([...ids].sort())
    expect(new Set(Object.values(found))).toEqual(new Set(['seen']))
  })

  const all = (over: Parameters<typeof variant>[1]): Part => ({
    softmax: one(variant('softmax', over)),
    g1b: one(variant('g1b', over)),
    g3b: one(variant('g3b', over)),
    g3u: one(variant('g3u', over)),
    g11b: one(variant('g11b', over)),
  })
  const against = (g3b: Parameters<typeof variant>[1], other: Part): Part => ({
    g3b: one(variant('g3b', g3b)),
    ...other,
  })
  const softmax = one(variant('softmax'))
  const rising = [2, 1, 1.9].map((trainLoss, i) => ({
    epoch: i,
    trainLoss,
    testLoss: 1,
    testAccuracy: 0.5,
  }))
  const ranks = (over: object) => ({ ...variant('g3b').ranks, ...over })
  // Of each claim, data on which it must not be seen.
  const counterexamples: Record<string, Part> = {
    learns: all({ accuracy: 0.12 }),
    stable: all({ rows: rising }),
    'projection-latent': against({ accuracy: 0.31 }, { g3bLatent: one(variant('g3bLatent')) }),
    'projection-output': against({ accuracy: 0.5 }, { g3bOutput: one(variant('g3bOutput')) }),
    'low-rank': all({ ranks: ranks({ beyond: 1e-7 }) }),
    'softmax-rank': { softmax: one(variant('softmax', { ranks: ranks({ beyondLeast: 1e-15 }) })) },
    parameters: all({ parameters: { counted: 71, law: 70, all: 1000 } }),
    memory: { memory: one(memory(20)) },
    better: against({ accuracy: 0.5 }, { softmax }),
    sharpness: against({ top: 9 }, { softmax }),
    rougher: against({ roughness: 0.005 }, { softmax }),
    grid: against({ accuracy: 0.6 }, { g11b: one(variant('g11b')) }),
    'near-zero': against({ nearZero: 0.2 }, { softmax }),
    transfer: { softmax, transfer: one({ teacher: 0.8, student: 0.7, parameters: 9 }) },
  }
  it('has a counterexample for each', () => {
    expect(Object.keys(counterexamples).sort()).toEqual([...ids].sort())
  })
  it.each(Object.entries(counterexamples))('%s is not seen where it does not hold', (id, data) => {
    expect(verdicts(data)[id]).toBe('not seen')
  })

  it('count a training that broke as unstable, and no landscape as no answer', () => {
    expect(largestRise(variant('g3b'))).toBe(0)
    expect(largestRise(variant('g3b', { completed: false }))).toBe(Number.POSITIVE_INFINITY)
    const lost = [{ epoch: 1, trainLoss: null, testLoss: null, testAccuracy: 0 }]
    expect(largestRise(variant('g3b', { rows: lost }))).toBe(Number.POSITIVE_INFINITY)
    const flat = { g3b: one(variant('g3b', { landscape: null })), softmax }
    expect(verdicts(flat).sharpness).toBe('not seen')
  })

  it('compare equal seeds only, and are those for which there are results', () => {
    const other = [{ seed: 1, result: variant('softmax') }]
    expect(verdicts({ g3b: one(variant('g3b')), softmax: other }).better).toBeUndefined()
    expect(karatClaims({})).toEqual([])
  })
})

const base = karatSettings({ seeds: 1, full: false })
/** Every experiment at a size of some seconds. */
const tiny: KaratSettings = {
  data: { spec: 'glyphs', samples: 20, test: 10 },
  network: { width: 12, depth: 1, heads: 2, rank: 3 },
  training: { ...base.training, epochs: 3, batch: 10, warmup: 2 },
  analysis: {
    images: 2,
    landscape: ['softmax', 'g3b'],
    grid: 3,
    surfaceSamples: 4,
    hessianSamples: 4,
    eigenvalues: 2,
    quadrature: { probes: 1, steps: 4 },
  },
  memory: { ...base.memory, batch: 2, tokens: 20, heads: 2, headWidth: 4 },
}

describe('the reproduction', () => {
  let device: Device
  let folder: string
  beforeAll(async () => {
    device = await open()
    folder = await mkdtemp(join(tmpdir(), 'losscape-karat-'))
  })
  afterAll(async () => {
    device.dispose()
    await rm(folder, { recursive: true, force: true })
  })

  it('runs, writes a page with every verdict and picture, and takes up what it finished', async () => {
    const { memory, softmax, g3b, transfer } = karatPaper.experiments(tiny)
    const paper = {
      ...karatPaper,
      settings: () => tiny,
      experiments: () => ({ memory, softmax, g3b, transfer }),
    }
    const found: number[] = []
    const options = {
      version: '1',
      onResume: (n: number, total: number) => void found.push(n, total),
    }
    const request = { seeds: 1, full: false }
    const { reproduction, conclusion, page } = await reproduce(
      device,
      paper,
      request,
      folder,
      options,
    )
    const { claims } = reproduction
    const without = ['projection-latent', 'projection-output', 'grid']
    expect(claims.map(({ id }) => id).sort()).toEqual(
      ids.filter((id) => !without.includes(id)).sort(),
    )
    // What holds by construction holds also for networks that have learned nothing.
    const sure = ['low-rank', 'parameters', 'softmax-rank']
    for (const { id, verdict } of claims) if (sure.includes(id)) expect(verdict).toBe('seen')
    for (const { cases } of claims) {
      expect(cases.some(({ value }) => Number.isNaN(value))).toBe(false)
    }
    const html = await readFile(page, 'utf8')
    expect(html).not.toMatch(/\bNaN\b|Infinity|undefined/)
    for (const { figures = [] } of conclusion.sections) {
      for (const { id } of figures) expect(html).toContain(`<figure id="${id}">`)
    }
    // Pictures are not what is looked at here.
    const plain = { ...paper, conclude: () => ({ claims, sections: [] }) }
    const again = await reproduce(device, plain, request, folder, options)
    expect(found).toEqual([0, 4, 4, 4])
    expect(again.reproduction.results).toEqual(reproduction.results)
  }, 120_000)

  it('refuses data that are no images with labels', async () => {
    const moons = { ...tiny, data: { ...tiny.data, spec: 'moons?n=40' } }
    const paper = { ...karatPaper, settings: () => moons }
    const run = reproduce(device, paper, { seeds: 1, full: false }, join(folder, 'no'), {
      version: '1',
    })
    await expect(run).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
  })
})

it('draws every figure once, from results alone', () => {
  const sections = karatSections(exemplary(), tiny)
  const figures = sections.flatMap(({ figures: own = [] }) => own.map(({ id }) => id))
  expect(new Set(figures).size).toBe(figures.length)
  expect(figures).toEqual(
    expect.arrayContaining(['karat-accuracy', 'karat-surface-g3b', 'karat-hessian']),
  )
  expect(karatSections({}, tiny)).toEqual([])
})

it('is larger with full, and takes other images when told', () => {
  const full = karatSettings({ seeds: 3, full: true, data: 'cifar10:DIR' })
  expect(full.data).toEqual({ spec: 'cifar10:DIR', samples: 10_000, test: 2000 })
  expect(full.network).toEqual({ width: 96, depth: 4, heads: 3, rank: 12 })
  expect(base.data.spec).toBe('glyphs')
})
