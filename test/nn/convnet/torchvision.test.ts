import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readSafetensors, writeSafetensors } from '../../../lib/files/safetensors.js'
import { mlp, resnet, resnext, segmentation, vgg } from '../../../lib/nn/index.js'
import type { Model } from '../../../lib/nn/model.js'
import { loadTorchvision } from '../../../lib/train/load-torchvision.js'
import { temporaryFolder } from '../../files/temporary.js'
import { relative } from '../support.js'
import { pass } from './support.js'

const folder = new URL('../../fixtures/torchvision/', import.meta.url).pathname
const fixture = (name: string): string => join(folder, `${name}.safetensors`)
const scratch = temporaryFolder()

const SMALL = { input: [3, 40, 33], classes: 5, width: 1 / 32 }
const GROUPED = { kind: 'bcn', groups: 2 } as const

const MODELS: readonly [string, Model][] = [
  ['resnet18', resnet({ ...SMALL, depth: 18 })],
  ['resnext50', resnext({ ...SMALL, depth: 50, cardinality: 2, groupWidth: 1 })],
  ['bcn', resnet({ ...SMALL, depth: 18, norm: GROUPED, ws: true })],
  ['vgg11', vgg({ ...SMALL, input: [3, 64, 32], depth: 11, norm: 'bn', pool: 2, hidden: 8 })],
  [
    'deeplab',
    segmentation({
      ...{ ...SMALL, classes: 3, depth: 50, fpn: false, rates: [1, 2], channels: 128 },
      outputStride: 16,
    }),
  ],
]

/** A file without the input and the outputs of the fixture, and with other changes. */
async function changed(
  name: string,
  change: (tensors: Map<string, never>) => void = () => {},
): Promise<{ path: string; input: never; logits: never }> {
  const { tensors } = await readSafetensors(fixture(name))
  const map = new Map(tensors) as Map<string, never>
  const [input, logits] = ['input', 'logits'].map(
    (key) => tensors.get(`expected.${key}`)?.data as never,
  )
  for (const key of ['input', 'logits']) map.delete(`expected.${key}`)
  change(map)
  const path = join(scratch.path, `${name}.safetensors`)
  await writeSafetensors(path, map as never)
  return { path, input, logits }
}

describe('checkpoints of torchvision', () => {
  it.each(MODELS)('%s gives the outputs of PyTorch', async (name, model) => {
    const { path, input, logits } = await changed(name)
    const { params, state } = await loadTorchvision(path, model)
    const { outputs } = pass(model, Float64Array.from(params), Float64Array.from(state), input)
    // Weights, input and outputs are rounded to float32; both sides compute in float64.
    expect(relative(outputs, logits)).toBeLessThan(1e-6)
    expect(relative(logits, outputs)).toBeLessThan(1e-6)
  })

  it('counts estimates as initialised', async () => {
    const [, [, ,], [, model]] = MODELS
    const { path } = await changed('bcn')
    const { state } = await loadTorchvision(path, model)
    expect(model.stateLayout.view(state, 'num_batches_tracked')[0]).toBe(1)
  })

  it('takes what wraps names, and shortcuts by their other name', async () => {
    const [[, model]] = MODELS
    const { path } = await changed('resnet18')
    const before = await loadTorchvision(path, model)
    const wrapped = await changed('resnet18', (tensors) => {
      for (const [name, tensor] of [...tensors]) {
        tensors.delete(name)
        tensors.set(`module.${name.replace('downsample', 'shortcut')}`, tensor)
      }
    })
    expect(await loadTorchvision(wrapped.path, model)).toEqual(before)
  })

  it('lists every tensor that is missing, extra or of another shape in one error', async () => {
    const [[, model]] = MODELS
    const { path } = await changed('resnet18', (tensors) => {
      tensors.delete('conv1.weight')
      tensors.delete('bn1.running_mean')
      tensors.set('head.bias', { dtype: 'F32', shape: [1], data: new Float32Array(1) } as never)
      tensors.set('fc.bias', { dtype: 'F32', shape: [7], data: new Float32Array(7) } as never)
    })
    await expect(loadTorchvision(path, model)).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringMatching(
        /missing: conv1\.weight, bn1\.running_mean; extra: head\.bias; of another shape: fc\.bias \[7\] instead of \[5\]/,
      ),
    })
  })

  it('names both norms where they differ', async () => {
    const { path } = await changed('resnet18')
    for (const norm of [GROUPED, { kind: 'gn', groups: 2 }, 'none'] as const) {
      await expect(
        loadTorchvision(path, resnet({ ...SMALL, depth: 18, norm })),
      ).rejects.toMatchObject({
        code: 'ERR_ARGUMENT',
        message: expect.stringMatching(/with norm bn, .* has '(bcn|gn|none)'/),
      })
    }
    const other = await changed('bcn')
    const [[, model]] = MODELS
    await expect(loadTorchvision(other.path, model)).rejects.toThrow(/with norm bcn, .* has 'bn'/)
  })

  it('refuses estimates that are not numbers', async () => {
    const [[, model]] = MODELS
    const { path } = await changed('resnet18', (tensors) => {
      const data = new Float32Array(2).fill(Number.NaN)
      tensors.set('bn1.running_var', { dtype: 'F32', shape: [2], data } as never)
    })
    await expect(loadTorchvision(path, model)).rejects.toMatchObject({ code: 'ERR_NOT_FINITE' })
  })

  it('knows the names of convolutional networks only', async () => {
    const model = mlp({ input: 2, hidden: [], classes: 2 })
    await expect(loadTorchvision(fixture('bcn'), model)).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
    })
  })
})
