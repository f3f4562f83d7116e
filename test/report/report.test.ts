import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { readNpy } from '../../lib/data/npy.js'
import {
  figuresOf,
  type RunReport,
  type SpectrumResult,
  writeReport,
} from '../../lib/report/index.js'
import { trainedRun, trainedSpectrum } from './synthetic.js'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'losscape-report-'))
})
afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

const provenance = { losscape: '0.1.0', seed: 7, data: 'synthetic', threads: 2 }
const page = () => readFile(join(folder, 'index.html'), 'utf8')
const report = (...runs: RunReport[]) => writeReport(folder, { title: 'Spectra', runs, provenance })

/** A spectrum whose eigenvalues, nodes and density are what the caller says. */
function bareSpectrum(over: Partial<SpectrumResult>): SpectrumResult {
  return {
    n: 5,
    samples: 10,
    eigenvalues: { top: [], bottom: [] },
    residuals: { top: [], bottom: [] },
    trace: { value: 0, stderr: 0 },
    density: { grid: [], values: [] },
    nodes: [],
    weights: [],
    time_ms: 1,
    device: 'cpu',
    ...over,
  }
}

describe('files', () => {
  it('writes page, figures and arrays, and nothing else', async () => {
    const progress: number[] = []
    const paths = await writeReport(
      folder,
      { title: 'Spectra', runs: [trainedRun('net A')], provenance },
      { onProgress: (done, total) => progress.push(done / total) },
    )
    expect(relative(folder, paths[0])).toBe('index.html')
    const onDisk = (await readdir(folder, { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
    expect([...paths].sort()).toEqual(onDisk.sort())
    expect(paths.filter((path) => path.endsWith('.svg')).length).toBe(5)
    expect(paths.filter((path) => path.endsWith('.npy')).length).toBe(6)
    expect(progress).toEqual([0.2, 0.4, 0.6, 0.8, 1])
    const png = await readFile(join(folder, 'figures/net-a-density.png'))
    expect([...png.subarray(1, 4)]).toEqual([...Buffer.from('PNG')])
    // Twice the plot's 460 pixels and its margins.
    expect(png.readUInt32BE(16)).toBeGreaterThan(1000)
    const spec = JSON.parse(await readFile(join(folder, 'figures/net-a-density.vl.json'), 'utf8'))
    expect(spec.$schema).toContain('vega-lite')
  })

  it('exports the numbers as they came', async () => {
    const run = trainedRun('a')
    const spectrum = run.spectrum as SpectrumResult
    spectrum.nodes[0] = spectrum.nodes[0].slice(0, 10)
    spectrum.weights[0] = spectrum.weights[0].slice(0, 10)
    await report(run)
    const nodes = await readNpy(join(folder, 'arrays/a-nodes.npy'))
    expect(nodes.shape).toEqual([6, 60])
    expect(nodes.data[9]).toBe(spectrum.nodes[0][9])
    expect(nodes.data[10]).toBeNaN()
    expect(nodes.data[60]).toBe(spectrum.nodes[1][0])
    const weights = await readNpy(join(folder, 'arrays/a-weights.npy'))
    expect(weights.data[10]).toBe(0)
    const eigenvalues = await readNpy(join(folder, 'arrays/a-eigenvalues.npy'))
    expect([...(eigenvalues.data as Float64Array)]).toEqual([
      ...spectrum.eigenvalues.top,
      ...spectrum.eigenvalues.bottom,
    ])
    const grid = await readNpy(join(folder, 'arrays/a-density-grid.npy'))
    expect([...(grid.data as Float64Array)]).toEqual(spectrum.density.grid)
  })

  it('keeps runs with the same or no usable name apart', async () => {
    const metrics = trainedRun('x').metrics
    const paths = await report(
      { name: 'A b', summary: '', metrics },
      { name: 'a B', summary: '', metrics },
      { name: '../../é', summary: '', metrics },
    )
    const svgs = paths.filter((path) => path.endsWith('.svg')).map((path) => relative(folder, path))
    expect(svgs).toEqual([
      'figures/a-b-training.svg',
      'figures/a-b-2-training.svg',
      'figures/run-training.svg',
    ])
  })

  it('rejects with ERR_IO where it cannot write, and with ERR_ABORTED when aborted', async () => {
    await writeFile(join(folder, 'file'), '')
    const data = { title: 't', runs: [trainedRun('a')], provenance }
    await expect(writeReport(join(folder, 'file'), data)).rejects.toMatchObject({ code: 'ERR_IO' })
    await expect(writeReport(join(folder, 'file/sub'), data)).rejects.toMatchObject({
      code: 'ERR_IO',
    })
    const signal = AbortSignal.abort('enough')
    await expect(writeReport(folder, data, { signal })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
      cause: 'enough',
    })
  })
})

describe('page', () => {
  it('loads nothing, runs nothing, shows scalars with error bars and provenance', async () => {
    await report(trainedRun('a'), trainedRun('b', 5))
    const html = await page()
    const { trace, eigenvalues } = trainedSpectrum(1)
    expect(html).toContain(`${trace.value.toFixed(1)} ± 4.2`)
    expect(html).toContain(eigenvalues.top[0].toFixed(3).slice(0, 5))
    expect(html).toMatch(/Nearly flat.*\d ± \d/)
    expect(html).toMatch(/seed<\/th><td class="text">7</)
    expect(html).toMatch(/Precision floor/)
    expect(html).not.toMatch(/<script/i)
    expect(html).not.toMatch(/https?:/i)
    expect(html).not.toMatch(/\son\w+\s*=/i)
    expect(html).not.toMatch(/@import|@font-face|<link|<iframe|<object/i)
    // Five figures of each run, and their densities in one.
    expect(html.match(/<figure /g)?.length).toBe(11)
    expect(html.match(/<details>/g)?.length).toBe(11)
    const ids = [...html.matchAll(/ id="([^"]*)"/g)].map((match) => match[1])
    expect(new Set(ids).size).toBe(ids.length)
    for (const [, id] of html.matchAll(/url\(#([^)]*)\)/g)) expect(ids).toContain(id)
  })

  it('escapes every text', async () => {
    const evil = `<img src=x onerror=alert(1)> & "q" 'p' \u0000 </script>`
    await writeReport(folder, {
      title: evil,
      runs: [{ ...trainedRun(evil), summary: evil }],
      provenance: { [evil]: evil },
    })
    const html = await page()
    expect(html).not.toContain('<img')
    expect(html).not.toContain('</script')
    expect(html).not.toContain('\u0000')
    expect(html).toContain('&lt;img src=x onerror=alert(1)&gt; &amp; &quot;q&quot; &#39;p&#39;')
    const svg = (await readdir(join(folder, 'figures'))).filter((name) => name.endsWith('.svg'))
    for (const name of svg) {
      expect(await readFile(join(folder, 'figures', name), 'utf8')).not.toContain('<img')
    }
  })
})

describe('degenerate input', () => {
  it('writes a page without runs', async () => {
    await report()
    expect(await page()).toContain('no runs')
  })

  it('leaves out what a run does not have', async () => {
    await report({ name: 'empty', summary: '', metrics: [], spectrum: bareSpectrum({}) })
    const html = await page()
    expect(html).not.toContain('<figure')
    expect(html).toContain('Trace')
    expect(figuresOf({ name: 'nothing', summary: '' })).toEqual([])
  })

  it('draws the zero operator', async () => {
    const spectrum = bareSpectrum({
      eigenvalues: { top: [0, 0], bottom: [0, 0] },
      residuals: { top: [0, 0], bottom: [0, 0] },
      density: { grid: [-1e-3, 0, 1e-3], values: [0, 500, 0] },
      nodes: [[0], [0]],
      weights: [[1], [1]],
    })
    await report({ name: 'zero', summary: '', spectrum })
    const html = await page()
    expect(html.match(/<figure /g)?.length).toBe(4)
    expect(html).not.toMatch(/NaN|Infinity|undefined/)
  })

  it('draws a single node, and values that are not finite as gaps', async () => {
    const gone = null as unknown as number
    const spectrum = bareSpectrum({
      eigenvalues: { top: [3, Number.NaN, gone], bottom: [3] },
      residuals: { top: [Number.POSITIVE_INFINITY], bottom: [] },
      trace: { value: Number.NaN, stderr: gone },
      density: { grid: [2.9, 3, 3.1, 3.2], values: [0, 5, Number.NaN, gone] },
      nodes: [[3], [Number.NaN], [], [1, 2]],
      weights: [[1], [1], [], [1]],
    })
    const metrics = [
      { step: 1, epoch: 1, split: 'train' as const, loss: 0.5 },
      { step: 2, epoch: 2, split: 'train' as const, loss: Number.NaN },
      { step: 3, epoch: 3, split: 'train' as const, loss: null, accuracy: null },
    ]
    await report({ name: 'odd', summary: '', spectrum, metrics })
    const html = await page()
    expect(html.match(/<figure /g)?.length).toBe(5)
    expect(html).not.toMatch(/NaN|Infinity|undefined/)
  })

  it('draws a run that diverged in its first step', async () => {
    const metrics = [
      { step: 1, epoch: 0, split: 'train' as const, loss: Number.NaN, accuracy: 0.1 },
    ]
    await report({ name: 'diverged', summary: '', metrics })
    expect((await page()).match(/<figure /g)?.length).toBe(1)
  })
})
