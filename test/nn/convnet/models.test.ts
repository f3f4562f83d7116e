import { describe, expect, it } from 'vitest'
import { cifarResnet, lenet, resnet, resnext, segmentation, vgg } from '../../../lib/nn/index.js'
import type { Model } from '../../../lib/nn/model.js'
import { parseModel } from '../../../lib/nn/parse.js'
import { createRun, openRun } from '../../../lib/train/run-folder.js'
import { temporaryFolder } from '../../files/temporary.js'
import { gaussian } from '../support.js'
import { pass } from './support.js'

const scratch = temporaryFolder()
const shapes = ({ parameters, state }: Model): string =>
  [...parameters, ...state].map(({ name, shape }) => `${name} [${shape}]`).join('\n')

describe('published sizes', () => {
  it.each([
    ['resnet18', 11_689_512],
    ['resnet34', 21_797_672],
    ['resnet50', 25_557_032],
    ['resnet101', 44_549_160],
    ['resnext50', 25_028_904],
    ['resnext101', 44_177_704],
    ['vgg11', 132_863_336],
    ['vgg11:bn', 132_868_840],
    ['vgg16', 138_357_544],
    ['resnet20', 269_722],
    ['resnet32', 464_154],
    ['resnet44', 658_586],
    ['resnet56', 853_018],
    ['resnet110', 1_727_962],
    ['lenet5', 61_706],
  ])('%s has %i parameters', (text, count) => {
    expect(parseModel(text).size).toBe(count)
  })

  it('of shortcuts with convolutions and of wider networks', () => {
    expect(cifarResnet({ shortcut: 'convolution' }).size).toBe(272_474)
    expect(resnet({ width: 2 }).layout.entry('layer4.1.conv2.weight').shape).toEqual([
      ...[1024, 1024, 3, 3],
    ])
    // 19 norms of 16, 32 and 64 channels have 2 C more per channel and 2 G less, G = 8.
    expect(parseModel('resnet20:bcn').size - parseModel('resnet20').size).toBe(19 * 2 * 8)
    expect(parseModel('resnet20:ln').size).toBe(parseModel('resnet20').size)
  })
})

describe('tensors', () => {
  it('have the names of torchvision', () => {
    const model = resnet({ depth: 50, norm: 'bn' })
    const { names } = model.layout
    expect(names.slice(0, 5)).toEqual([
      'conv1.weight',
      'bn1.weight',
      'bn1.bias',
      'layer1.0.conv1.weight',
      'layer1.0.bn1.weight',
    ])
    expect(names).toContain('layer4.0.downsample.1.bias')
    expect(model.stateLayout.names).toContain('layer2.3.bn3.running_var')
    expect(model.couplesSamples).toBe(true)
  })

  it('begin as published: fan-out, scales 1, zeros at the end of branches of bcn', () => {
    const model = cifarResnet({ norm: 'bcn' })
    const theta = model.init(1)
    const view = (name: string): Float64Array => model.layout.view(theta, name)
    const weight = view('layer3.1.conv2.weight')
    const variance = weight.reduce((sum, w) => sum + w * w, 0) / weight.length
    // 36,864 draws: the variance is within 4 sqrt(2 / 36864) of 2 / fan_out.
    expect(Math.abs((variance * 64 * 9) / 2 - 1)).toBeLessThan(0.03)
    expect(view('layer3.1.bn2.weight').every((w) => w === 0)).toBe(true)
    expect(view('layer3.1.bn1.weight').every((w) => w === 1)).toBe(true)
    expect(view('layer3.1.bn2.pbn.weight').every((w) => w === 1)).toBe(true)
    const plain = cifarResnet({ norm: 'bcn', zeroInit: false })
    expect(plain.layout.view(plain.init(1), 'layer3.1.bn2.weight')[0]).toBe(1)
  })

  it('are those of the norm', () => {
    const state = (norm: string): number => parseModel(`resnet20:${norm}`).state.length
    expect(['gn', 'ln', 'in', 'none'].map(state)).toEqual([0, 0, 0, 0])
    expect(['bn', 'bcn', 'bcn-micro'].map(state)).toEqual([39, 39, 39])
    const { names } = parseModel('resnet20:none').layout
    expect(names).toContain('layer1.0.conv1.bias')
    expect(names).not.toContain('bn1.weight')
    expect(parseModel('resnet20:gn,ws-nfnet').layout.entry('conv1.gain').shape).toEqual([16])
  })
})

const TINY = { input: [3, 8, 8], classes: 3 } as const
const GROUPED = { kind: 'gn', groups: 2 } as const

describe('outputs', () => {
  const families: [string, Model][] = [
    ['basic blocks', cifarResnet({ ...TINY, depth: 8, width: 1 / 4, norm: 'ln' })],
    [
      'pre-activation',
      cifarResnet({
        ...TINY,
        depth: 8,
        width: 1 / 4,
        preactivation: true,
        ws: true,
        norm: GROUPED,
      }),
    ],
    ['no norm', cifarResnet({ ...TINY, depth: 8, width: 1 / 4, norm: 'none' })],
    [
      'bottlenecks with a small stem',
      resnet({ ...TINY, depth: 50, width: 1 / 32, stem: 'cifar', norm: GROUPED }),
    ],
    ['vgg', vgg({ ...TINY, input: [1, 32, 32], width: 1 / 32, pool: 1, hidden: 0, norm: GROUPED })],
    ['lenet', lenet({ input: [1, 16, 16], classes: 3, norm: 'bn', ws: true })],
    [
      'segmentation',
      segmentation({
        ...TINY,
        depth: 18,
        stem: 'cifar',
        width: 1 / 16,
        channels: 64,
        norm: GROUPED,
      }),
    ],
  ]

  it.each(families)('of %s are finite, alone or in a batch', (_, model) => {
    const theta = model.init(1)
    const state = model.initState()
    const size = model.input.reduce((n, d) => n * d, 1)
    const x = gaussian(1, 2 * size)
    const { outputs } = pass(model, theta, state, x)
    const count = model.output.reduce((n, d) => n * d, 1)
    expect(outputs).toHaveLength(2 * count)
    expect(outputs.every(Number.isFinite)).toBe(true)
    const alone = pass(model, theta, state, x.subarray(size)).outputs
    expect(Math.max(...alone.map((y, i) => Math.abs(y - outputs[count + i])))).toBeLessThan(1e-12)
    expect(new Set(outputs).size).toBeGreaterThan(1)
  })
})

describe('model strings', () => {
  it.each([
    ['resnet20:bcn,ws', cifarResnet({ norm: 'bcn', ws: true })],
    ['resnet56:gn16,w2', cifarResnet({ depth: 56, norm: { kind: 'gn', groups: 16 }, width: 2 })],
    ['resnet18:bcn-micro,ws,small', resnet({ norm: 'bcn-micro', ws: true, stem: 'cifar' })],
    ['resnet50:preact,classes10', resnet({ depth: 50, preactivation: true, classes: 10 })],
    ['resnext50:gn,ws-bit', resnext({ norm: 'gn', ws: 'bit' })],
    ['vgg11:bn,hidden0,pool1', vgg({ norm: 'bn', hidden: 0, pool: 1 })],
    ['lenet5', lenet()],
    ['lenet5:', lenet()],
    [
      'segmentation:resnet34,gn,no-fpn',
      segmentation({ depth: 34, norm: 'gn', fpn: false, input: [3, 64, 64] }),
    ],
  ])('%s', (text, model) => {
    expect(shapes(parseModel(text))).toBe(shapes(model))
  })

  it('are the names of models, which build them again', () => {
    for (const text of ['resnet20:bcn,ws', 'resnet110:preact', 'vgg16:bn', 'resnext101:gn16,w2']) {
      expect(parseModel(text).name).toBe(text)
    }
  })

  it.each([
    ['resnet20:bnn', /item 'bnn'; expected a norm \(bn, gn/],
    ['resnet20:bn,gn16', /says twice what norm is/],
    ['resnet20:ws,ws-bit', /says twice what ws is/],
    ['resnet20:none,ws', /convolutions that a norm follows, and norm is 'none'/],
    ['resnet20:bn8', /norm 'bn' has no option 'groups'/],
    ['resnet20:ws-best', /preset must be one of paper, /],
    ['resnet20:small', /no option 'stem'/],
    ['resnet18:gn48', /cannot part 64 channels in 48 groups; .* G of 1, 2, 4, 8, 16, 32, 64/],
    ['resnet20:w0.3', /whole numbers/],
    ['resnet20:', null],
    ['resnet21', /known models: .*resnet20/],
  ])('refuse %s', (text, message) => {
    if (message === null) {
      expect(parseModel(text).name).toBe('resnet20')
      return
    }
    expect(() => parseModel(text)).toThrowError(message)
    expect(() => parseModel(text)).toThrowError(expect.objectContaining({ code: 'ERR_ARGUMENT' }))
  })

  it('refuse options that contradict them, and take those that go beyond', () => {
    const refused = [
      ['resnet20:gn16', { norm: 'bn' }],
      ['resnet20:gn16', { norm: { kind: 'gn', groups: 8 } }],
      ['resnet20:gn,ws', { ws: false }],
      ['resnet20:gn,ws-bit', { ws: 'paper' }],
      ['resnet20:w2', { width: 1 }],
    ] as const
    for (const [text, options] of refused) {
      expect(() => parseModel(text, { options })).toThrowError(/contradict/)
    }
    const norm = { kind: 'bcn-micro', rate: 'lr', groups: 4 } as const
    const model = parseModel('resnet20:bcn-micro,ws', { options: { norm, ws: 'bit' } })
    expect(model.config).toMatchObject({
      norm: { ...norm, warmStart: true, frozen: false, epsilon: 1e-5 },
      ws: { preset: 'bit', gain: false },
    })
  })
})

describe('run folders', () => {
  it.each([
    cifarResnet({
      depth: 26,
      norm: { kind: 'bcn-micro', rate: 'lr' },
      ws: 'nfnet',
      zeroInit: false,
    }),
    resnext({ norm: { kind: 'gn', groups: 8 }, cardinality: 8, width: 0.5, stem: 'cifar' }),
    vgg({ norm: 'bn', hidden: 8, width: 0.25, dropout: 0.5 }),
    lenet({ input: [1, 28, 28] }),
    segmentation({ norm: 'gn', fpn: false, channels: 64, rates: [2, 4], outputStride: 8 }),
  ])('build $name again from their configuration', async (model) => {
    const path = `${scratch.path}/${model.name.replaceAll(/[:,]/g, '-')}`
    await createRun(path, {
      model,
      data: { spec: 'x', samples: 1, normalization: { mean: [0], std: [1] } },
      training: {},
      seed: 1,
    } as never)
    const again = (await openRun(path)).model
    expect(shapes(again)).toBe(shapes(model))
    expect(again.config).toEqual(model.config)
  })
})

describe('options', () => {
  const code = (value: string) => expect.objectContaining({ code: value })

  it.each([
    [() => resnet({ depth: 20 as never }), /18, 34, 50 or 101/],
    [() => cifarResnet({ depth: 21 }), /6 n \+ 2/],
    [() => cifarResnet({ norm: 'batch' as never }), /norm to be one of bn, gn/],
    [
      () => cifarResnet({ norm: { kind: 'gn', rate: 1 } as never }),
      /norm 'gn' has no option 'rate'/,
    ],
    [() => cifarResnet({ norm: { kind: 'bcn-micro', rate: 0 } }), /above 0, or frozen: true/],
    [() => cifarResnet({ norm: { kind: 'bcn-micro', rate: 1.5 } }), /0 < r <= 1, or 'lr'/],
    [() => cifarResnet({ norm: { kind: 'bn', momentum: 0 } }), /0 < m <= 1/],
    [() => cifarResnet({ norm: { kind: 'bn', epsilon: 0 } }), /positive number/],
    [() => cifarResnet({ norm: { kind: 'gn', groups: 0 } }), /positive integer/],
    [
      () => cifarResnet({ norm: { kind: 'gn', groups: 32 } }),
      /cannot part 16 channels in 32 groups/,
    ],
    [() => cifarResnet({ ws: 'best' as never }), /preset must be one of/],
    [() => cifarResnet({ ws: { delta: 2 } as never }), /delta must be 0 or 1/],
    [() => cifarResnet({ norm: 'none', zeroInit: true }), /zeroInit needs a norm/],
    [() => cifarResnet({ preactivation: true, zeroInit: true }), /pre-activation blocks/],
    [() => cifarResnet({ width: 0 }), /positive factor/],
    [() => cifarResnet({ dropout: 1 }), /probability/],
    [() => cifarResnet({ stem: 'cifar' } as never), /no option 'stem'/],
    [() => resnext({ cardinality: 0 }), /positive integer/],
    [() => segmentation({ aspp: false, fpn: false }), /needs a head/],
    [() => segmentation({ rates: [0] }), /positive integers/],
    [() => segmentation({ outputStride: 4 as never }), /8, 16 or 32/],
    [() => vgg({ depth: 19 as never }), /11 or 16/],
    [() => resnet({ width: 1 / 64, norm: 'ln', ws: true, depth: 50 }), /one weight/],
  ])('%# is refused', (build, message) => {
    expect(build).toThrowError(message)
    expect(build).toThrowError(code('ERR_ARGUMENT'))
  })

  it.each([
    [() => resnet({ input: [224, 224] }), /images of shape \[C, H, W\]/],
    [() => lenet({ input: [1, 12, 12] }), /16 x 16 pixels or more/],
  ])('%# of a shape is refused', (build, message) => {
    expect(build).toThrowError(message)
    expect(build).toThrowError(code('ERR_SHAPE'))
  })

  it('take a rate of 0 where estimates are frozen', () => {
    const model = cifarResnet({ norm: { kind: 'bcn-micro', rate: 0, frozen: true } })
    expect(model.couplesSamples).toBe(false)
  })
})
