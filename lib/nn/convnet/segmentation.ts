import { argumentError } from '../../arguments.js'
import { LosscapeError } from '../../errors.js'
import * as ops from '../../ops/index.js'
import { requireOptions } from '../../options.js'
import type { Tensor } from '../../program/tensor.js'
import type { Model } from '../model.js'
import { requireOneOf } from '../vit-config.js'
import { type Backbone, backbone } from './backbone.js'
import { Builder, type Pass } from './builder.js'
import {
  CONVNET_OPTIONS,
  type ConvnetConfig,
  convnetConfig,
  convnetName,
  dropped,
  recorded,
} from './options.js'
import { RESNET_BLOCKS, type ResidualOptions, type ResnetDepth } from './resnet.js'
import { requireZeroInit, zeroInitDefault } from './zero-init.js'

export interface SegmentationOptions extends ResidualOptions {
  /** Of the ResNet. Default 18. */
  readonly depth?: ResnetDepth
  readonly stem?: 'imagenet' | 'cifar'
  /**
   * Pixels of the image per pixel of the last stage beyond the stem's: 8, 16 (default) or 32; stages
   * that keep the size dilate instead. With the stem for small images it is 8, 4 or 2 times smaller.
   */
  readonly outputStride?: 8 | 16 | 32
  /** Atrous spatial pyramid pooling behind the last stage. Default true. */
  readonly aspp?: boolean
  /** Feature pyramid: adds the earlier stages from the top down. Default true. */
  readonly fpn?: boolean
  /** Dilations of the pyramid pooling. Default 6, 12, 18 (twice that at output stride 8). */
  readonly rates?: readonly number[]
  /** Channels of the head, times `width`. Default 256. */
  readonly channels?: number
}

const DEFAULTS = { input: [3, 64, 64], classes: 21, norm: 'bn', groups: 32 } as const

/**
 * Scores for every pixel, [K, H, W]: a ResNet backbone, atrous spatial pyramid pooling with image
 * pooling (DeepLabv3), a feature pyramid that adds the earlier stages from the top down (FPN), a
 * 3 x 3 convolution and a 1 x 1 classifier, brought to the image's size by bilinear interpolation.
 * `fpn: false` is DeepLabv3 with torchvision's names: `backbone.*`, `classifier.0.convs.I`,
 * `classifier.0.project`, `classifier.1`, `.2`, `.4`; the pyramid adds `fpn.inner.S`. Trained with
 * cross-entropy it takes a label for every pixel ({@link shapes}).
 *
 * The image pooling normalises one value per channel and sample: in training, batch statistics need
 * two samples or more there, and instance norm cannot be.
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE
 *
 * @example
 * const model = segmentation({ input: [3, 32, 32], classes: 4, depth: 18, stem: 'cifar', norm: 'bcn' })
 *
 * Source: Chen et al., arXiv 1706.05587; Lin et al., arXiv 1612.03144.
 */
export function segmentation(options: SegmentationOptions = {}): Model {
  const where = 'segmentation()'
  requireOptions(where, options, [
    ...CONVNET_OPTIONS,
    ...(['depth', 'stem', 'preactivation', 'zeroInit'] as const),
    ...(['outputStride', 'aspp', 'fpn', 'rates', 'channels'] as const),
  ])
  const config = convnetConfig(where, options, DEFAULTS)
  const { depth = 18, stem = 'imagenet', preactivation = false, outputStride = 16 } = options
  const { aspp = true, fpn = true, channels = 256 } = options
  const { rates = (outputStride === 8 ? [12, 24, 36] : [6, 12, 18]) as readonly number[] } = options
  const zeroInit = options.zeroInit ?? zeroInitDefault(config.norm, preactivation)
  requireZeroInit(where, zeroInit, config.norm, preactivation)
  requireOneOf(where, 'stem', stem, ['imagenet', 'cifar'])
  requireHead(where, { depth, outputStride, aspp, fpn, channels, rates })
  const { input, classes, dropout, norm, ws, width } = config
  const b = new Builder(norm, ws)
  const body = backbone(b, {
    ...RESNET_BLOCKS[depth],
    ...{ stem, preactivation, zeroInit },
    prefix: 'backbone.',
    channels: input[0],
    base: 64 * width,
    shortcut: 'convolution',
    strides: [1, 2, outputStride > 8 ? 2 : 1, outputStride > 16 ? 2 : 1],
  })
  const decode = head(b, body, { config, aspp, fpn, rates, channels: channels * width })
  const items = [`resnet${depth}`, ...(aspp ? [] : ['no-aspp']), ...(fpn ? [] : ['no-fpn'])]
  return b.model({
    name: convnetName('segmentation', config, DEFAULTS, items),
    input,
    output: [classes, input[1], input[2]],
    random: dropout > 0,
    config: {
      ...recorded(config),
      ...{ depth, stem, preactivation, zeroInit, outputStride, aspp, fpn, rates, channels },
    },
    rebuild: (change) => segmentation({ ...options, zeroInit: undefined, ...change }),
    forward(x, pass) {
      const scores = decode(body.features(x, pass), pass)
      const size = [input[1], input[2]] as const
      const full = ops.resize(scores, { size, mode: 'bilinear', layout: 'nhwc' })
      return ops.transpose(full, [0, 3, 1, 2])
    },
  })
}

interface HeadSpec {
  readonly config: ConvnetConfig
  readonly aspp: boolean
  readonly fpn: boolean
  readonly rates: readonly number[]
  readonly channels: number
}

/** Scores [B, h, w, K] of the stages' outputs. */
function head(
  b: Builder,
  body: Backbone,
  { config, aspp, fpn, rates, channels }: HeadSpec,
): (features: readonly Tensor[], pass: Pass) => Tensor {
  const last = body.channels.length - 1
  const top = aspp
    ? pyramidPooling(b, body.channels[last], channels, rates)
    : b.normalized('fpn.inner.3.0', 'fpn.inner.3.1', {
        inputs: body.channels[last],
        outputs: channels,
        kernel: 1,
      })
  const lateral = (fpn ? [0, 1, 2] : []).map((s) =>
    b.normalized(`fpn.inner.${s}.0`, `fpn.inner.${s}.1`, {
      inputs: body.channels[s],
      outputs: channels,
      kernel: 1,
    }),
  )
  const smooth = b.normalized('classifier.1', 'classifier.2', {
    inputs: channels,
    outputs: channels,
    kernel: 3,
  })
  const classify = b.convolution('classifier.4', {
    inputs: channels,
    outputs: config.classes,
    kernel: 1,
    bias: true,
    standardized: false,
  })
  return (features, pass) => {
    let y = top(features[last], pass, { relu: true })
    for (const s of [...lateral.keys()].reverse()) {
      const size = features[s].shape.slice(1, 3) as [number, number]
      const same = y.shape[1] === size[0] && y.shape[2] === size[1]
      const up = same ? y : ops.resize(y, { size, mode: 'bilinear', layout: 'nhwc' })
      y = lateral[s](features[s], pass, { relu: true, residual: up })
    }
    return classify(dropped(smooth(y, pass, { relu: true }), pass, config.dropout), pass)
  }
}

/** 1 x 1, dilated 3 x 3 and pooled branches side by side, then 1 x 1. */
function pyramidPooling(
  b: Builder,
  inputs: number,
  outputs: number,
  rates: readonly number[],
): (x: Tensor, pass: Pass) => Tensor {
  const name = (branch: number, part: number): string => `classifier.0.convs.${branch}.${part}`
  const flat = b.normalized(name(0, 0), name(0, 1), { inputs, outputs, kernel: 1 })
  const dilated = rates.map((dilation, i) =>
    b.normalized(name(i + 1, 0), name(i + 1, 1), { inputs, outputs, kernel: 3, dilation }),
  )
  const at = rates.length + 1
  const pooled = b.normalized(name(at, 1), name(at, 2), { inputs, outputs, kernel: 1 })
  const project = b.normalized('classifier.0.project.0', 'classifier.0.project.1', {
    inputs: outputs * (rates.length + 2),
    outputs,
    kernel: 1,
  })
  return (x, pass) => {
    const branches = [flat, ...dilated].map((branch) => branch(x, pass, { relu: true }))
    const image = pooled(ops.mean(x, [1, 2], true), pass, { relu: true })
    const [B, height, columns] = x.shape
    const everywhere = ops.broadcastTo(image, [B, height, columns, outputs])
    return project(ops.concat([...branches, everywhere], 3), pass, { relu: true })
  }
}

function requireHead(
  where: string,
  options: Required<
    Pick<SegmentationOptions, 'depth' | 'outputStride' | 'aspp' | 'fpn' | 'channels' | 'rates'>
  >,
): void {
  const { depth, outputStride, aspp, fpn, channels, rates } = options
  if (!Object.hasOwn(RESNET_BLOCKS, depth)) {
    throw argumentError(where, 'depth', '18, 34, 50 or 101', depth)
  }
  if (![8, 16, 32].includes(outputStride)) {
    throw argumentError(where, 'outputStride', '8, 16 or 32', outputStride)
  }
  for (const [name, flag] of Object.entries({ aspp, fpn })) {
    if (typeof flag !== 'boolean') throw argumentError(where, name, 'true or false', flag)
  }
  if (!aspp && !fpn) {
    throw new LosscapeError('ERR_ARGUMENT', `${where} needs a head: aspp, fpn, or both.`)
  }
  if (!(Number.isFinite(channels) && channels > 0)) {
    throw argumentError(where, 'channels', 'a positive number', channels)
  }
  if (!Array.isArray(rates) || !rates.every((r) => Number.isSafeInteger(r) && r >= 1)) {
    throw argumentError(where, 'rates', 'a list of positive integers', rates)
  }
}
