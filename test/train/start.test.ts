import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { mlp } from '../../lib/nn/mlp.js'
import { createRun } from '../../lib/train/run-folder.js'
import { loadStart } from '../../lib/train/start.js'
import { saveModel } from '../../lib/train/weights.js'

const before = mlp({ input: [4], hidden: [3], classes: 5 })
const after = mlp({ input: [4], hidden: [3], classes: 2 })
const weights = Float32Array.from(before.init(1))
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'losscape-start-'))
  await saveModel(join(folder, 'weights.safetensors'), before, weights)
  const data = { normalization: { mean: [0], std: [1] } }
  const run = await createRun(join(folder, 'run'), { model: before, data, training: {} })
  await run.saveParameters(weights)
})
afterAll(() => rm(folder, { recursive: true }))

describe('start vectors from earlier weights', () => {
  it('are those of a file or a run', async () => {
    for (const name of ['weights.safetensors', 'run']) {
      expect([...(await loadStart(join(folder, name), before))]).toEqual([...weights])
    }
  })

  it('leave what is skipped at its random start', async () => {
    const start = await loadStart(join(folder, 'run'), after, { skip: 'layers.1.*', seed: 3 })
    const random = after.init(3)
    for (const { name } of after.layout.entries) {
      const source = name.startsWith('layers.1.') ? random : null
      const expected = source ? after.layout.view(source, name) : before.layout.view(weights, name)
      expect([...after.layout.view(start, name)]).toEqual([...expected])
    }
  })

  it('tell every tensor that does not fit', async () => {
    await expect(loadStart(join(folder, 'run'), after)).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringMatching(/layers\.1\.weight.*layers\.1\.bias/),
    })
    const run = join(folder, 'run')
    const refused = { code: 'ERR_ARGUMENT' }
    await expect(loadStart(run, after, { skip: 'head.*' })).rejects.toMatchObject(refused)
    await expect(loadStart(run, after, { ignore: 'x' } as object)).rejects.toMatchObject(refused)
    await expect(loadStart(5 as never, after)).rejects.toMatchObject(refused)
    await expect(loadStart(join(folder, 'no'), after)).rejects.toMatchObject({ code: 'ERR_IO' })
  })
})
