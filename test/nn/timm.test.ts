import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readSafetensors, writeSafetensors } from '../../lib/files/safetensors.js'
import { convit } from '../../lib/nn/convit.js'
import { mlp } from '../../lib/nn/mlp.js'
import type { Model } from '../../lib/nn/model.js'
import { swin } from '../../lib/nn/swin.js'
import { fromTimm } from '../../lib/nn/timm.js'
import { vit } from '../../lib/nn/vit.js'
import { loadTimm } from '../../lib/train/load-timm.js'
import { temporaryFolder } from '../files/temporary.js'
import { logits, relative } from './support.js'

const folder = new URL('../fixtures/timm/', import.meta.url).pathname
const fixture = (name: string): string => join(folder, `${name}.safetensors`)

const MODELS: readonly [string, Model][] = [
  ['vit', vit({ input: [3, 16, 16], patch: 4, width: 24, depth: 2, heads: 3, classes: 5 })],
  [
    'convit',
    convit({ input: [3, 16, 16], patch: 4, width: 24, depth: 3, gated: 2, heads: 4, classes: 5 }),
  ],
  [
    'swin',
    swin({ input: [3, 48, 48], width: 12, depths: [2, 2], heads: [2, 3], window: 3, classes: 5 }),
  ],
]

const scratch = temporaryFolder()

describe('checkpoints of timm', () => {
  it.each(MODELS)('%s gives the logits of PyTorch', async (name, model) => {
    const params = await loadTimm(fixture(name), model)
    const { tensors } = await readSafetensors(fixture(`${name}.expected`))
    const [input, expected] = ['input', 'logits'].map((key) => tensors.get(key)?.data as never)
    const actual = logits(model, Float64Array.from(params), Array.from(input))
    // Weights, input and logits are rounded to float32; both sides compute in float64.
    expect(relative(actual, expected)).toBeLessThan(1e-6)
  })

  it('reads the names that Swin had before', async () => {
    const [, [, ,], [, model]] = MODELS
    const { tensors } = await readSafetensors(fixture('swin'))
    const old = new Map(
      [...tensors].map(([name, tensor]) => [
        `module.${name.replace('layers.1.downsample', 'layers.0.downsample').replace('head.fc', 'head')}`,
        tensor,
      ]),
    )
    const [first] = tensors.values()
    old.set('module.layers.0.blocks.0.attn.relative_position_index', first)
    old.set('module.layers.0.blocks.1.attn_mask', first)
    expect([...fromTimm(model, old).keys()].sort()).toEqual([...tensors.keys()].sort())
  })

  it('lists every tensor that is missing, extra or of another shape in one error', async () => {
    const { tensors } = await readSafetensors(fixture('vit'))
    const changed = new Map(tensors)
    changed.delete('cls_token')
    changed.delete('norm.bias')
    changed.set('head_dist.bias', { dtype: 'F32', shape: [1], data: new Float32Array(1) })
    changed.set('head.bias', { dtype: 'F32', shape: [7], data: new Float32Array(7) })
    const file = join(scratch.path, 'changed.safetensors')
    await writeSafetensors(file, changed)
    const [[, model]] = MODELS
    await expect(loadTimm(file, model)).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringMatching(
        /missing: cls_token, norm\.bias; extra: head_dist\.bias; of another shape: head\.bias \[7\] instead of \[5\]/,
      ),
    })
  })

  it('says that a file is empty, of another format, or holds nothing', async () => {
    const [[, model]] = MODELS
    const refused = async (name: string, content: string | null, message: RegExp) => {
      const file = join(scratch.path, name)
      if (content === null) await writeSafetensors(file, new Map())
      else await writeFile(file, content)
      await expect(loadTimm(file, model)).rejects.toMatchObject({
        code: 'ERR_FORMAT',
        message: expect.stringMatching(message),
      })
    }
    await refused('empty', '', /a safetensors file, .*got a file of 0 bytes\. Is it of another/)
    await refused('archive.pth', 'PK\x03\x04 archive', /a safetensors file, .*another format/)
    await refused('nothing', null, /tensors of the model .*got no tensors\./)
  })

  it('knows the names of transformers only', async () => {
    const model = mlp({ input: 2, hidden: [], classes: 2 })
    await expect(loadTimm(fixture('vit'), model)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
  })
})
