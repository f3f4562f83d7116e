import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Device, open } from '../../lib/index.js'
import { hessianSections } from '../../lib/reproduce/hessian/sections.js'
import { type HessianSettings, hessianSettings } from '../../lib/reproduce/hessian/settings.js'
import { hessianPaper, reproduce } from '../../lib/reproduce/index.js'
import { exemplary } from './results.js'

const small = { samples: 24, dim: 3, std: 4, classes: 3, hidden: [4, 4] }

/** Every experiment at a size of milliseconds. */
const tiny: HessianSettings = {
  ...hessianSettings({ seeds: 1, full: false }),
  classes: { problem: small, counts: [2, 3], checkpoints: [0, 20] },
  training: { problem: small, checkpoints: [0, 5] },
  clusters: { problem: { ...small, classes: 2 }, counts: [2, 4], steps: 20 },
  width: { problem: small, widths: [3, 5], steps: 20 },
  separability: { problem: small, stds: [2, 8], steps: 20 },
  batch: {
    problem: small,
    large: 12,
    small: 4,
    steps: 60,
    recordEvery: 20,
    closeEvery: 5,
    closeSteps: 20,
    linePoints: 7,
  },
  data: { spec: 'circles?n=40', samples: 30, widths: [3, 5], steps: 10 },
}
const paper = { ...hessianPaper, settings: () => tiny }
const request = { seeds: 2, full: false }

/** Two quick experiments of the paper; pictures take most of the time of a whole run. */
const few = {
  ...paper,
  experiments(settings: HessianSettings) {
    const { clusters, width } = hessianPaper.experiments(settings)
    return { clusters, width }
  },
}

let device: Device
let folder: string
beforeAll(async () => {
  device = await open()
  folder = await mkdtemp(join(tmpdir(), 'losscape-reproduce-'))
})
afterAll(async () => {
  device.dispose()
  await rm(folder, { recursive: true, force: true })
})

const parts = async (out: string) => (await readdir(join(out, 'parts'))).sort()

describe('a reproduction', () => {
  it('writes results, page and pictures', async () => {
    const out = join(folder, 'whole')
    const shares: number[] = []
    const found: number[] = []
    const first = await reproduce(device, paper, { ...request, seeds: 1 }, out, {
      version: '1.2.3',
      onProgress: (share) => shares.push(share),
      onResume: (n, total) => found.push(n, total),
    })
    expect(found).toEqual([0, 7])
    expect(await parts(out)).toHaveLength(7)
    expect(shares.at(-1)).toBe(1)
    expect([...shares].sort((a, b) => a - b)).toEqual(shares)
    const { claims } = first.reproduction
    expect(claims.length).toBe(20)
    for (const { cases } of claims) {
      // Infinite where a barrier has none to be compared with.
      expect(cases.some(({ value }) => Number.isNaN(value))).toBe(false)
    }
    const saved = JSON.parse(await readFile(join(out, 'results.json'), 'utf8'))
    expect(saved).toMatchObject({
      paper: 'hessian',
      seeds: [0],
      version: '1.2.3',
      settings: tiny,
    })
    expect(saved.results.classes[0].result[0].stages).toHaveLength(2)

    const page = await readFile(first.page, 'utf8')
    for (const { claim, verdict } of claims) {
      expect(page).toContain(claim)
      expect(page).toContain(`>${verdict}<`)
    }
    expect(page).not.toMatch(/\bNaN\b|Infinity|undefined/)
    const files = await readdir(join(out, 'figures'))
    for (const { figures = [] } of first.conclusion.sections) {
      for (const { id } of figures) {
        expect(page).toContain(`<figure id="${id}">`)
        expect(files).toEqual(expect.arrayContaining([`${id}.svg`, `${id}.png`]))
      }
    }
  }, 180_000)

  it('takes finished parts up, adds seeds, and repeats a damaged part', async () => {
    const out = join(folder, 'again')
    const found: number[] = []
    const run = (seeds: number) =>
      reproduce(device, few, { ...request, seeds }, out, {
        version: '1',
        onResume: (n, total) => found.push(n, total),
      })
    const first = await run(1)
    await writeFile(join(out, 'parts', 'width-seed0.json'), '{ broken')
    const more = await run(2)
    expect(found).toEqual([0, 2, 1, 4])
    expect(more.reproduction.results.width[0]).toEqual(first.reproduction.results.width[0])
    expect(more.reproduction.seeds).toEqual([0, 1])
  })

  it('does not take up parts of other settings', async () => {
    const out = join(folder, 'other')
    const found: number[] = []
    const run = (settings: HessianSettings) =>
      reproduce(device, { ...few, settings: () => settings }, { ...request, seeds: 1 }, out, {
        version: '1',
        onResume: (n) => found.push(n),
      })
    await run(tiny)
    await run({ ...tiny, initStd: 0.2 })
    await run({ ...tiny, initStd: 0.2, batch: { ...tiny.batch, large: 6 } })
    await run({ ...tiny, initStd: 0.2, width: { ...tiny.width, steps: 21 } })
    // Batches are not among these experiments; the width is.
    expect(found).toEqual([0, 0, 2, 1])
  })

  it('keeps finished parts when it is aborted, and comes to the same results', async () => {
    const out = join(folder, 'aborted')
    const controller = new AbortController()
    const stopped = reproduce(device, few, request, out, {
      version: '1',
      signal: controller.signal,
      onProgress: (_, note) => {
        if (note.startsWith('clusters, seed 1')) controller.abort()
      },
    })
    await expect(stopped).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    const kept = await parts(out)
    expect(kept).toContain('clusters-seed0.json')
    expect(kept).not.toContain('width-seed0.json')
    const resumed = await reproduce(device, few, request, out, { version: '1' })
    const whole = await reproduce(device, few, request, join(folder, 'unbroken'), { version: '1' })
    expect(resumed.reproduction.results).toEqual(whole.reproduction.results)
  })

  it('refuses a request without seeds', async () => {
    const none = reproduce(device, paper, { ...request, seeds: 0 }, folder, { version: '1' })
    await expect(none).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
  })
})

describe('settings', () => {
  it('are larger with full, and name real data only when asked', () => {
    const small = hessianSettings({ seeds: 3, full: false })
    const full = hessianSettings({ seeds: 3, full: true, data: 'mnist:DIR' })
    expect(small.data).toBeUndefined()
    expect(full.data).toMatchObject({ samples: 1000, widths: [10, 30, 50, 70] })
    expect(full.width.widths.length).toBeGreaterThan(small.width.widths.length)
    expect(Object.keys(hessianPaper.experiments(small))).not.toContain('data')
  })
})

describe('sections', () => {
  it('draw every figure once, from results alone', () => {
    const sections = hessianSections(exemplary(), tiny)
    const ids = sections.flatMap(({ figures = [] }) => figures.map(({ id }) => id))
    expect(new Set(ids).size).toBe(ids.length)
    expect(ids).toEqual(
      expect.arrayContaining(['through-training', 'layers', 'class-structure', 'batch-line']),
    )
    expect(hessianSections({}, tiny)).toEqual([])
  })
})
