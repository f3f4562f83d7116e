import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { readNpy } from '../../lib/data/npy.js'
import { createRun } from '../../lib/index.js'
import { vit } from '../../lib/nn/vit.js'
import type { AttentionResult } from '../../lib/report/index.js'
import { losscape, losscapeJson, temporaryFolder } from './support.js'

const folder = temporaryFolder()
const path = join(folder, 'karat')
const sizes = { input: [1, 16, 16], patch: 4, width: 12, depth: 2, heads: 2, classes: 10 }
const data = { spec: 'glyphs', normalization: { mean: [0.5], std: [0.24] } }

let result: AttentionResult
beforeAll(async () => {
  const model = vit({ ...sizes, attention: 'karat:G2B,r4' })
  const run = await createRun(path, { model, data, training: {} })
  await run.saveParameters(model.init(0))
  const flags = ['--images', '2', '--batch', '4', '--threads', '1']
  result = await losscapeJson<AttentionResult>(['attention', path, ...flags])
}, 120_000)

describe('attention', () => {
  it('tells ranks, maps, coefficients and cost', () => {
    expect(result).toMatchObject({ images: 2, tokens: 17, heads: 2, blocks: 2, grid: [4, 4] })
    expect(result.spectra.map(({ rank }) => rank)).toEqual([
      { min: 4, max: 4 },
      { min: 4, max: 4 },
    ])
    expect(result.maps.map(({ image, label, kind }) => [image, label, kind])).toEqual([
      [0, 0, 'scores'],
      [1, 1, 'scores'],
    ])
    expect(result.maps[0].heads.map((map) => map.length)).toEqual([16, 16])
    expect(result.coefficients).toHaveLength(8)
    expect(result.cost).toMatchObject({ batch: 4, attentionParameters: 5 * 17 * 4 * 2 * 2 })
    const saved = JSON.parse(readFileSync(join(path, 'attention.json'), 'utf8'))
    expect(saved).toEqual(result)
  })

  it('is drawn by the report, with its arrays', async () => {
    const out = join(folder, 'report')
    const { page } = await losscapeJson<{ page: string }>(['report', path, '--out', out])
    const html = readFileSync(page, 'utf8')
    for (const id of ['attention-spectrum-0', 'attention-spectrum-1', 'attention-maps']) {
      expect(html).toContain(`<figure id="karat-${id}">`)
    }
    expect(html).toContain('<figure id="karat-coefficients">')
    expect(html).not.toMatch(/\bNaN\b|Infinity|undefined/)
    const maps = await readNpy(join(out, 'arrays', 'karat-attention-maps.npy'))
    expect(maps.shape).toEqual([2, 2, 16])
    expect(maps.data[17]).toBe(result.maps[0].heads[1][1])
    const spectrum = await readNpy(join(out, 'arrays', 'karat-attention-weights-1.npy'))
    expect(spectrum.shape).toEqual([3, 17])
  })

  it('says what is wrong with a run without attention, and with a damaged file', async () => {
    const mlp = join(folder, 'mlp')
    const training = ['train', '--model', 'mlp:256-4-10', '--limit', '200', '--out', mlp]
    await losscapeJson(training)
    const refused = await losscape(['attention', mlp])
    expect(refused.status).toBe(1)
    expect(refused.stderr).toContain('models.vit()')
    writeFileSync(join(mlp, 'attention.json'), '[]')
    const report = await losscape(['report', mlp, '--out', join(folder, 'damaged')])
    expect(report.status).toBe(0)
    expect(report.stderr).toMatch(/Left out: .*an attention analysis/)
    expect(report.stderr).toMatch(/\b1 run, /)
    // Nothing is left to report when the metrics are damaged too.
    writeFileSync(join(mlp, 'metrics.jsonl'), '')
    const empty = await losscape(['report', mlp, '--out', join(folder, 'no')])
    expect(empty.status).toBe(1)
    expect(empty.stderr).toMatch(/no metrics and no spectrum.*an attention analysis/)
  })
})
