import { argumentError } from '../../arguments.js'
import * as ops from '../../ops/index.js'
import { requireOptions } from '../../options.js'
import type { Model } from '../model.js'
import { Builder, type Layer } from './builder.js'
import {
  CONVNET_OPTIONS,
  type ConvnetOptions,
  convnetConfig,
  convnetName,
  dropped,
  recorded,
} from './options.js'

/** Channels of the convolutions of each stage; a max pooling follows every stage. */
export const VGG_STAGES = {
  11: [[64], [128], [256, 256], [512, 512], [512, 512]],
  16: [
    [64, 64],
    [128, 128],
    [256, 256, 256],
    [512, 512, 512],
    [512, 512, 512],
  ],
} as const

export interface VggOptions extends ConvnetOptions {
  /** Default 11. */
  readonly depth?: keyof typeof VGG_STAGES
  /** Width of the two hidden layers of the classifier; 0 for a single linear layer. Default 4096. */
  readonly hidden?: number
  /** Edge to which features are averaged before the classifier. Default 7. */
  readonly pool?: number
}

const DEFAULTS = { input: [3, 224, 224], classes: 1000, norm: 'none', groups: 32 } as const

/**
 * VGG-11 or -16: 3 x 3 convolutions with biases [→ norm] → ReLU, max poolings, a classifier with
 * two hidden layers; 132,863,336 and 138,357,544 parameters. Tensors are named as torchvision's,
 * `features.I`, `classifier.0`, `.3`, `.6`. torchvision trains with `dropout: 0.5`, here 0 by
 * default. For CIFAR: `{ input: [3, 32, 32], classes: 10, pool: 1, hidden: 0, norm: 'bn' }`.
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE
 *
 * Source: Simonyan and Zisserman, arXiv 1409.1556.
 */
export function vgg(options: VggOptions = {}): Model {
  requireOptions('vgg()', options, [...CONVNET_OPTIONS, 'depth', 'hidden', 'pool'])
  const { depth = 11, hidden = 4096, pool = 7 } = options
  if (!Object.hasOwn(VGG_STAGES, depth)) throw argumentError('vgg()', 'depth', '11 or 16', depth)
  if (!Number.isSafeInteger(hidden) || hidden < 0) {
    throw argumentError('vgg()', 'hidden', 'a width, 0 for none', hidden)
  }
  if (!Number.isSafeInteger(pool) || pool < 1) {
    throw argumentError('vgg()', 'pool', 'a positive integer', pool)
  }
  const config = convnetConfig('vgg()', options, DEFAULTS)
  const { input, classes, width, norm, dropout } = config
  const b = new Builder(norm, config.ws)
  const stages = features(b, depth, input[0], width)
  const inputs = 512 * width * pool * pool
  const head =
    hidden === 0
      ? [b.linear('classifier', classes, inputs, 0.01)]
      : [
          b.linear('classifier.0', hidden, inputs, 0.01),
          b.linear('classifier.3', hidden, hidden, 0.01),
          b.linear('classifier.6', classes, hidden, 0.01),
        ]
  const items = [
    ...(hidden === 4096 ? [] : [`hidden${hidden}`]),
    ...(pool === 7 ? [] : [`pool${pool}`]),
  ]
  return b.model({
    name: convnetName(`vgg${depth}`, config, DEFAULTS, items),
    input,
    output: [classes],
    random: dropout > 0,
    config: { ...recorded(config), hidden, pool },
    rebuild: (change) => vgg({ ...options, ...change }),
    forward(images, pass) {
      let x = images
      for (const stage of stages) {
        for (const layer of stage) x = layer(x, pass, { relu: true })
        x = ops.maxPool(x, { kernel: 2, layout: 'nhwc' })
      }
      if (x.shape[1] !== pool || x.shape[2] !== pool) {
        x = ops.adaptiveAveragePool(x, { output: pool, layout: 'nhwc' })
      }
      // The classifier's weights know features as [C, H, W].
      let y = ops.reshape(ops.transpose(x, [0, 3, 1, 2]), [x.shape[0], inputs])
      for (const [i, layer] of head.entries()) {
        y = layer(y, pass)
        if (i + 1 < head.length) y = dropped(ops.relu(y), pass, dropout, i)
      }
      return y
    },
  })
}

function features(
  b: Builder,
  depth: keyof typeof VGG_STAGES,
  channels: number,
  width: number,
): Layer[][] {
  const step = b.norm.kind === 'none' ? 2 : 3
  let inputs = channels
  let index = 0
  return VGG_STAGES[depth].map((stage) => {
    const layers = stage.map((base) => {
      const outputs = base * width
      const options = { inputs, outputs, kernel: 3, bias: true }
      const layer = b.normalized(`features.${index}`, `features.${index + 1}`, options)
      inputs = outputs
      index += step
      return layer
    })
    index += 1
    return layers
  })
}
