import { describe, expect, it } from 'vitest'
import { convit } from '../../lib/nn/convit.js'
import { mlp } from '../../lib/nn/mlp.js'
import type { Model } from '../../lib/nn/model.js'
import { parseModel } from '../../lib/nn/parse.js'
import { swin } from '../../lib/nn/swin.js'
import { vit } from '../../lib/nn/vit.js'
import { createRun, openRun } from '../../lib/train/run-folder.js'
import { temporaryFolder } from '../files/temporary.js'

const scratch = temporaryFolder()
const shapes = ({ parameters }: Model): string =>
  parameters.map(({ name, shape }) => `${name} [${shape}]`).join('\n')

describe('model strings', () => {
  it.each([
    ['mlp:4-3-2', mlp({ input: 4, hidden: [3], classes: 2 })],
    ['vit:tiny', vit()],
    ['vit:small', vit({ size: 'small' })],
    ['vit:base,classes10', vit({ size: 'base', classes: 10 })],
    ['vit:patch8,width24,depth2,heads3', vit({ patch: 8, width: 24, depth: 2, heads: 3 })],
    ['vit:tiny,patch32', vit({ patch: 32 })],
    ['convit:tiny', convit()],
    ['convit:width24,heads4,depth3,gated2', convit({ width: 24, heads: 4, depth: 3, gated: 2 })],
    ['swin:tiny', swin()],
    ['swin:width48,depths2-2,heads3-6', swin({ width: 48, depths: [2, 2], heads: [3, 6] })],
  ])('%s', (text, model) => {
    expect(shapes(parseModel(text))).toBe(shapes(model))
  })

  it('take the image, the classes and options from what they are used with', () => {
    const context = { input: [3, 32, 32], classes: 10, options: { attention: 'karat:G1U' } }
    const model = parseModel('vit:patch4,width24,depth2,heads3', context)
    expect(model.output).toEqual([10])
    expect(model.layout.entry('karat.a').shape).toEqual([3, 12, 65, 1])
    // What flags of other models leave undefined, or false, says nothing.
    const flags = { activation: undefined, layerNorm: false, dropout: 0.1 }
    expect(parseModel('vit:tiny', { options: flags }).config.dropout).toBe(0.1)
    expect(parseModel('mlp:4-2', { classes: 7 }).output).toEqual([2])
  })

  it.each([
    ['vit:huge', /item 'huge'; expected a size such as tiny, or patchN/],
    ['vit:', /item ''/],
    ['vit:tiny,depths3', /item 'depths3'/],
    ['vit:width=,', /item 'width='/],
    ['vit:patch0', /patch to be a positive integer/],
    ['vit:patch8,patch4', /patch twice, by 'patch8' and 'patch4'/],
    ['vit:tiny,patch8,patch8', /patch twice/],
    ['swin:tiny,gated2', /item 'gated2'/],
    ['resnet:18', /known models: mlp:\.\., vit:\.\., convit:\.\., swin:\.\./],
  ])('refuse %s', (text, message) => {
    expect(() => parseModel(text)).toThrowError(message)
    expect(() => parseModel(text)).toThrowError(expect.objectContaining({ code: 'ERR_ARGUMENT' }))
  })

  it('refuse options of other models', () => {
    expect(() => parseModel('vit:tiny', { options: { activation: 'relu' } })).toThrowError(
      /no option 'activation'/,
    )
    expect(() => parseModel('mlp:4-2', { options: { attention: 'softmax' } })).toThrowError(
      /no option 'attention'/,
    )
  })
})

describe('run folders', () => {
  it.each([
    vit({
      input: [1, 8, 8],
      patch: 4,
      width: 12,
      depth: 2,
      heads: 3,
      classes: 4,
      pooling: 'mean',
      positions: 'sinusoidal',
      dropPath: 0.1,
      mlpRatio: 2,
      attention: { G: 2, r: 4, heads: ['softmax', { G: 1 }, { r: 2 }] },
    }),
    convit({ input: [1, 8, 8], patch: 4, width: 12, depth: 2, heads: 4, gated: 1, classes: 4 }),
    swin({ input: [1, 8, 8], width: 6, depths: [1, 1], heads: [1, 2], attention: 'karat:G1B' }),
  ])('build $name again from their configuration', async (model) => {
    const path = `${scratch.path}/${model.name.split(':')[0]}`
    await createRun(path, {
      model,
      data: { spec: 'x', samples: 1, normalization: { mean: [0], std: [1] } },
      training: {},
      seed: 1,
    } as never)
    const again = (await openRun(path)).model
    expect(shapes(again)).toBe(shapes(model))
    expect(again.config).toEqual(model.config)
    expect(again.init(3)).toEqual(model.init(3))
  })
})
