import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { readNpy } from '../../lib/data/npy.js'
import type { SurfaceResult } from '../../lib/report/index.js'
import { losscape, losscapeJson, temporaryFolder } from './support.js'

const folder = temporaryFolder()
const run = join(folder, 'a')
const data = 'blobs?n=120&test=60&classes=3&dim=4&std=1'
const training = ['train', '--model', 'mlp:4-8-3', '--data', data, '--batch', '30', '--epochs', '5']

let result: SurfaceResult
beforeAll(async () => {
  await losscapeJson([...training, '--out', run, '--keep-checkpoints', '6'])
  result = await losscapeJson<SurfaceResult>(['surface', run, '--grid', '7', '--samples', '50'])
})

describe('surface', () => {
  it('uses the checkpoints that the training kept, and its end', async () => {
    const kept = readdirSync(join(run, 'checkpoints')).sort()
    expect(kept).toEqual(
      [0, 6, 12, 18].map((step) => `step-${`${step}`.padStart(8, '0')}.safetensors`),
    )
    expect(result.path.map(({ step }) => step)).toEqual([0, 6, 12, 18, 20])
    expect(result.path.at(-1)).toMatchObject({ x: 0, y: 0 })
    expect(result).toMatchObject({ n: 67, samples: 50, split: 'test', dtype: 'f32' })
    expect(result.loss.map((row) => row.length)).toEqual(new Array(7).fill(7))
    expect(result.explained.reduce((sum, x) => sum + x, 0)).toBeCloseTo(1, 9)
    expect(result.histograms.map(({ name }) => name)).toEqual(['step 0', 'step 12', 'step 20'])
    const { loss } = await losscapeJson<{ loss: number }>(['eval', run, '--samples', '50'])
    expect(result.loss[3][3]).toBeCloseTo(loss, 6)
  })

  it('is drawn by the report, with its arrays', async () => {
    const out = join(folder, 'report')
    const { page } = await losscapeJson<{ page: string }>(['report', run, '--out', out])
    const html = readFileSync(page, 'utf8')
    expect(html).toContain('<figure id="a-surface">')
    expect(html).toContain('<figure id="a-weights">')
    const { shape, data } = await readNpy(join(out, 'arrays', 'a-surface-loss.npy'))
    expect(shape).toEqual([7, 7])
    expect(data[24]).toBe(result.loss[3][3])
    expect((await readNpy(join(out, 'arrays', 'a-surface-path.npy'))).shape).toEqual([5, 3])
  })

  it('says what is wrong with a run without checkpoints, a grid, and a damaged file', async () => {
    const bare = join(folder, 'bare')
    await losscapeJson([...training, '--out', bare])
    const refused = async (args: string[], status: number, words: string) => {
      const ended = await losscape(args)
      expect(ended.status).toBe(status)
      expect(ended.stderr).toContain(words)
    }
    await refused(['surface', bare], 1, '--keep-checkpoints')
    await refused(['surface', run, '--grid', '4'], 2, 'odd')
    // The page of what can be read, with a line on what cannot.
    const out = join(folder, 'damaged')
    const good = JSON.parse(readFileSync(join(run, 'surface.json'), 'utf8'))
    for (const [text, words] of [
      ['{"n": 3}', /a loss surface/],
      [JSON.stringify({ ...good, loss: good.loss.slice(1) }), /a row of numbers for every y/],
    ] as const) {
      writeFileSync(join(bare, 'surface.json'), text)
      const { status, stdout, stderr } = await losscape(['report', bare, '--out', out, '--json'])
      expect(status).toBe(0)
      expect(stderr).toMatch(words)
      const { page, problems } = JSON.parse(stdout)
      expect(problems).toEqual([expect.stringMatching(words)])
      const html = readFileSync(page, 'utf8')
      expect(html).toMatch(words)
      expect(html).toContain('<figure id="bare-training')
    }
  })

  it('goes when the run is replaced', async () => {
    await losscapeJson([...training, '--out', run, '--overwrite'])
    expect(existsSync(join(run, 'surface.json'))).toBe(false)
    expect(existsSync(join(run, 'checkpoints'))).toBe(false)
  })
})
