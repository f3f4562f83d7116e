import { LosscapeError } from '../../errors.js'
import * as ops from '../../ops/index.js'
import { requireOptions } from '../../options.js'
import type { Model } from '../model.js'
import { Builder } from './builder.js'
import {
  CONVNET_OPTIONS,
  type ConvnetOptions,
  convnetConfig,
  convnetName,
  dropped,
  recorded,
} from './options.js'

const DEFAULTS = { input: [1, 32, 32], classes: 10, norm: 'none', groups: 2 } as const

/**
 * LeNet-5 as it is built today: 5 x 5 convolutions of 6 and 16 channels, each [→ norm] → ReLU → 2 x 2
 * max pooling, then linear layers of 120, 84 and C; 61,706 parameters for grey images of 32 x 32.
 * Tensors `conv1`, `conv2`, `fc1`, `fc2`, `fc3`, of norms `bn1`, `bn2`. Groups of gn and bcn default
 * to 2, which divides 6 and 16.
 *
 * @throws ERR_ARGUMENT; ERR_SHAPE for images smaller than 16 x 16
 *
 * Source: LeCun et al., Proceedings of the IEEE 86 (1998) 2278, with ReLU and max pooling.
 */
export function lenet(options: ConvnetOptions = {}): Model {
  requireOptions('lenet()', options, CONVNET_OPTIONS)
  const config = convnetConfig('lenet()', options, DEFAULTS)
  const { input, classes, width, norm, dropout } = config
  const b = new Builder(norm, config.ws)
  const edge = (size: number): number => Math.floor((Math.floor((size - 4) / 2) - 4) / 2)
  const [channels, height, columns] = input
  const [first, second] = [6 * width, 16 * width]
  const [wide, narrow] = [Math.round(120 * width), Math.round(84 * width)]
  const pixels = Math.max(edge(height), 0) * Math.max(edge(columns), 0)
  if (pixels === 0) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `lenet() expected images of 16 x 16 pixels or more, got ${height} x ${columns}.`,
    )
  }
  const convolution = (inputs: number, outputs: number) => {
    const uniform = { kind: 'uniform', bound: 1 / Math.sqrt(25 * inputs) } as const
    return { inputs, outputs, kernel: 5, padding: 0, init: uniform, biasInit: uniform }
  }
  const one = b.normalized('conv1', 'bn1', convolution(channels, first))
  const two = b.normalized('conv2', 'bn2', convolution(first, second))
  const layers = [
    b.linear('fc1', wide, second * pixels),
    b.linear('fc2', narrow, wide),
    b.linear('fc3', classes, narrow),
  ]
  return b.model({
    name: convnetName('lenet5', config, DEFAULTS),
    input,
    output: [classes],
    random: dropout > 0,
    config: recorded(config),
    rebuild: (change) => lenet({ ...options, ...change }),
    forward(images, pass) {
      let x = images
      for (const layer of [one, two]) {
        x = ops.maxPool(layer(x, pass, { relu: true }), { kernel: 2, layout: 'nhwc' })
      }
      // Linear layers know features as [C, H, W].
      let y = ops.reshape(ops.transpose(x, [0, 3, 1, 2]), [x.shape[0], second * pixels])
      for (const [i, layer] of layers.entries()) {
        y = layer(y, pass)
        if (i + 1 < layers.length) y = dropped(ops.relu(y), pass, dropout, i)
      }
      return y
    },
  })
}
