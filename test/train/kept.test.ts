import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { createRun, models, openRun } from '../../lib/index.js'

const folder = mkdtempSync(join(tmpdir(), 'losscape-kept-'))
afterAll(() => rmSync(folder, { recursive: true }))

const model = models.mlp({ input: 2, hidden: [3], classes: 2 })
const options = { model, data: { normalization: { mean: [0], std: [1] } }, training: {} }

describe('parameters kept on the way', () => {
  it('come back by step, in order, and go with the run that they were of', async () => {
    const path = join(folder, 'a')
    const run = await createRun(path, options)
    expect(await run.keptSteps()).toEqual([])
    const vectors = new Map(
      [1000, 0, 30].map((step) => [step, Float32Array.from(model.init(step))]),
    )
    for (const [step, params] of vectors) await run.keepParameters(step, params)
    const again = await openRun(path)
    expect(await again.keptSteps()).toEqual([0, 30, 1000])
    for (const [step, params] of vectors) expect(await again.loadKept(step)).toEqual(params)
    await expect(again.loadKept(7)).rejects.toEqual(expect.objectContaining({ code: 'ERR_IO' }))
    await run.saveParameters(model.init(0))
    const fresh = await createRun(path, { ...options, overwrite: true })
    expect(await fresh.keptSteps()).toEqual([])
  })

  it('do not stay behind when a run fails before its first step', async () => {
    const run = await createRun(join(folder, 'b'), options)
    await run.keepParameters(0, model.init(0))
    await run.removeUnlessStarted()
    expect(await run.keptSteps()).toEqual([])
  })
})
