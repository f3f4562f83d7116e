import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readSafetensors, writeSafetensors } from '../../lib/files/safetensors.js'
import { mlp } from '../../lib/nn/mlp.js'
import { defineModel } from '../../lib/nn/model.js'
import * as ops from '../../lib/ops/index.js'
import { type Checkpoint, loadCheckpoint, saveCheckpoint } from '../../lib/train/checkpoint.js'
import { createRun, openRun } from '../../lib/train/run-folder.js'
import { loadModel, saveModel } from '../../lib/train/weights.js'
import { temporaryFolder } from '../files/temporary.js'

const model = mlp({ input: [2, 2], hidden: [3], classes: 2, activation: 'gelu' })
const folder = temporaryFolder().path

describe('saveModel and loadModel', () => {
  it('keep names, order, shapes and every bit', async () => {
    const path = join(folder, 'model.safetensors')
    for (const params of [Float32Array.from(model.init(1)), model.init(1)]) {
      await saveModel(path, model, params)
      expect(await loadModel(path, model)).toEqual(params)
    }
    const { tensors } = await readSafetensors(path)
    expect([...tensors].map(([name, { shape }]) => [name, shape])).toEqual([
      ['layers.0.weight', [3, 4]],
      ['layers.0.bias', [3]],
      ['layers.1.weight', [2, 3]],
      ['layers.1.bias', [2]],
    ])
  })

  it('widens half precision', async () => {
    const path = join(folder, 'half.safetensors')
    const tensors = Object.fromEntries(
      model.layout.entries.map(({ name, shape, size }) => [
        name,
        { dtype: 'F16' as const, shape, data: new Uint16Array(size).fill(0x3e00) },
      ]),
    )
    await writeSafetensors(path, tensors)
    expect(await loadModel(path, model)).toEqual(new Float32Array(model.size).fill(1.5))
  })

  it('lists everything that does not fit in one error', async () => {
    const path = join(folder, 'other.safetensors')
    const data = Float32Array.of(1, 2, 3)
    await writeSafetensors(path, {
      'layers.0.weight': { shape: [3], data },
      'layers.0.bias': { shape: [3], data: Int32Array.of(1, 2, 3) },
      surplus: { shape: [3], data },
    })
    await expect(loadModel(path, model)).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringMatching(
        /missing: layers\.1\.weight, layers\.1\.bias; extra: surplus; of another shape: layers\.0\.weight \[3\] instead of \[3,4\]; of no floating-point type: layers\.0\.bias I32/,
      ),
    })
  })

  it('refuses a vector of another length', async () => {
    const save = saveModel(join(folder, 'x'), model, new Float32Array(3))
    await expect(save).rejects.toMatchObject({ code: 'ERR_SHAPE' })
  })
})

function checkpointOf(precision: 'f32' | 'f64'): Checkpoint {
  const vector = (seed: number) =>
    precision === 'f64' ? model.init(seed) : Float32Array.from(model.init(seed))
  return {
    step: 17,
    params: vector(1),
    moments: [vector(2), vector(3)],
    epochSums: { loss: 0.1 + 0.2, correct: 5, samples: 8 },
    lastFiniteLoss: 1 / 3,
    setting: {
      model: model.name,
      optimizer: 'adam',
      samples: 10,
      batch: 4,
      seed: 2,
      shuffle: true,
      dropLast: false,
      precision,
      recipe: { 'optimizer.lr': '0.1', 'loss.kind': '"mse"' },
    },
  }
}

describe('saveCheckpoint and loadCheckpoint', () => {
  it.each(['f32', 'f64'] as const)('keep every bit (%s)', async (precision) => {
    const path = join(folder, `${precision}.safetensors`)
    const checkpoint = checkpointOf(precision)
    await saveCheckpoint(path, model, checkpoint)
    expect(await loadCheckpoint(path, model)).toEqual(checkpoint)
  })

  it('refuse files that are no checkpoint, or of another model', async () => {
    const path = join(folder, 'c.safetensors')
    await saveModel(path, model, model.init())
    await expect(loadCheckpoint(path, model)).rejects.toMatchObject({ code: 'ERR_FORMAT' })
    await saveCheckpoint(path, model, checkpointOf('f32'))
    const other = mlp({ input: [2, 2], hidden: [4], classes: 2 })
    await expect(loadCheckpoint(path, other)).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringContaining('moment1/layers.0.weight [3,4] instead of [4,4]'),
    })
    const { tensors, metadata } = await readSafetensors(path)
    const { setting, ...rest } = JSON.parse(metadata.state)
    const withoutRecipe = JSON.stringify({ ...rest, setting: { ...setting, recipe: undefined } })
    for (const state of ['{', '{}', '{"step":-1}', 'null', withoutRecipe]) {
      await writeSafetensors(path, tensors, { format: 'losscape-checkpoint-2', state })
      await expect(loadCheckpoint(path, model)).rejects.toMatchObject({ code: 'ERR_FORMAT' })
    }
  })
})

const DATA = { spec: 'glyphs', normalization: { mean: [0.5], std: [0.25] } }

describe('run folders', () => {
  it('hold what the contract says, and build the model again', async () => {
    const path = join(folder, 'runs', 'a')
    const made = await createRun(path, { model, data: DATA, training: { epochs: 2 }, seed: 7 })
    const config = JSON.parse(await readFile(join(path, 'config.json'), 'utf8'))
    expect(config).toMatchObject({
      model: { model: 'mlp:4-3-2', input: [2, 2], activation: 'gelu' },
      data: { normalization: { mean: [0.5], std: [0.25] } },
      training: { epochs: 2 },
      seed: 7,
      versions: { node: process.versions.node, losscape: expect.stringMatching(/^\d+\./) },
    })
    const params = Float32Array.from(model.init(7))
    await made.saveParameters(params)
    const row = { step: 3, epoch: 1, split: 'train', loss: 0.5, accuracy: null, lr: 0.1 } as const
    await made.appendMetrics(row, { ...row, step: 6, epoch: 2, loss: Number.NaN })

    const run = await openRun(path)
    expect(run.model.config).toEqual(model.config)
    expect(run.model.layout.entries).toEqual(model.layout.entries)
    expect(await run.loadParameters()).toEqual(params)
    expect(await run.readMetrics()).toEqual([row, { ...row, step: 6, epoch: 2, loss: null }])
  })

  it('resume cuts later metrics off', async () => {
    const path = join(folder, 'resume')
    const run = await createRun(path, { model, data: DATA, training: {} })
    expect(await run.resume()).toBeNull()
    expect(await run.readMetrics()).toEqual([])
    const row = { step: 17, epoch: 1, split: 'test', loss: 0.5, accuracy: 1, lr: 0.1 } as const
    await run.appendMetrics(row, { ...row, step: 18 })
    const checkpoint = checkpointOf('f32')
    await run.saveCheckpoint(checkpoint)
    expect(await run.resume()).toEqual(checkpoint)
    expect(await run.readMetrics()).toEqual([row])
  })

  it('are not overwritten unless asked', async () => {
    const path = join(folder, 'twice')
    const options = { model, data: DATA, training: {} }
    const run = await createRun(path, options)
    await run.saveParameters(model.init())
    await expect(createRun(path, options)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    const again = await createRun(path, { ...options, overwrite: true })
    await expect(again.loadParameters()).rejects.toMatchObject({ code: 'ERR_IO' })
  })

  it('count as fresh while they hold a configuration only', async () => {
    const path = join(folder, 'no-step')
    const options = { model, data: DATA, training: { epochs: 1 } }
    await createRun(path, options)
    const again = await createRun(path, { ...options, training: { epochs: 2 } })
    expect((await openRun(path)).config.training).toEqual({ epochs: 2 })
    await again.removeUnlessStarted()
    await expect(openRun(path)).rejects.toMatchObject({ code: 'ERR_IO' })
    const started = await createRun(path, options)
    await started.saveParameters(model.init())
    await started.removeUnlessStarted()
    expect((await openRun(path)).config.training).toEqual({ epochs: 1 })
  })

  it('refuse damaged configurations by field', async () => {
    const path = join(folder, 'damaged')
    await createRun(path, { model, data: DATA, training: {} })
    const file = join(path, 'config.json')
    const config = JSON.parse(await readFile(file, 'utf8'))
    const damaged: [string, unknown][] = [
      ['JSON', '{'],
      ['seed', { ...config, seed: -1 }],
      ['data.normalization', { ...config, data: {} }],
      ['normalization.std', { ...config, data: { normalization: { mean: [0], std: [0] } } }],
      ['Unknown model', { ...config, model: { model: 'forest:3' } }],
      ['Unknown activation', { ...config, model: { ...config.model, activation: 'maxout' } }],
    ]
    for (const [what, content] of damaged) {
      await writeFile(file, typeof content === 'string' ? content : JSON.stringify(content))
      await expect(openRun(path)).rejects.toMatchObject({
        code: 'ERR_FORMAT',
        message: expect.stringContaining(what),
      })
    }
    await expect(openRun(join(folder, 'nowhere'))).rejects.toMatchObject({ code: 'ERR_IO' })
  })

  it('take a model that no string describes', async () => {
    const own = defineModel({
      name: 'own',
      input: [2],
      output: [1],
      parameters: [{ name: 'w', shape: [1, 2], init: { kind: 'ones' } }],
      apply: ({ w }, x) => ops.matmul(x, w, { transB: true }),
    })
    const path = join(folder, 'own')
    await createRun(path, { model: own, data: DATA, training: {} })
    await expect(openRun(path)).rejects.toMatchObject({ code: 'ERR_FORMAT' })
    expect((await openRun(path, { model: own })).model).toBe(own)
  })
})
