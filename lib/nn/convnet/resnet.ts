import { argumentError } from '../../arguments.js'
import { requireOptions } from '../../options.js'
import type { Model } from '../model.js'
import { requireOneOf } from '../vit-config.js'
import {
  CONVNET_OPTIONS,
  type ConvnetConfig,
  type ConvnetOptions,
  convnetConfig,
  convnetName,
  recorded,
} from './options.js'
import { classifier } from './resnet-head.js'
import { requireZeroInit, zeroInitDefault } from './zero-init.js'

/** Blocks of the stages of ResNets for ImageNet. */
export const RESNET_BLOCKS = {
  18: { block: 'basic', blocks: [2, 2, 2, 2] },
  34: { block: 'basic', blocks: [3, 4, 6, 3] },
  50: { block: 'bottleneck', blocks: [3, 4, 6, 3] },
  101: { block: 'bottleneck', blocks: [3, 4, 23, 3] },
} as const

export type ResnetDepth = keyof typeof RESNET_BLOCKS

export interface ResidualOptions extends ConvnetOptions {
  /** Norm and ReLU before the convolutions (arXiv 1603.05027). Default false. */
  readonly preactivation?: boolean
  /**
   * The last scale of every residual branch begins at 0. Default true for bcn and bcn-micro, as in
   * their published code, else false, as in torchvision.
   */
  readonly zeroInit?: boolean
}

export interface ResnetOptions extends ResidualOptions {
  /** Default 18. */
  readonly depth?: ResnetDepth
  /** 7 x 7 of stride 2 with max pooling ('imagenet', default), or 3 x 3 for small images. */
  readonly stem?: 'imagenet' | 'cifar'
}

export interface ResnextOptions extends ResidualOptions {
  /** Default 50. */
  readonly depth?: 50 | 101
  readonly stem?: 'imagenet' | 'cifar'
  /** Groups of the 3 x 3 convolutions. Default 32. */
  readonly cardinality?: number
  /** Channels of a group in the first stage, not scaled by `width`. Default 4. */
  readonly groupWidth?: number
}

const DEFAULTS = { input: [3, 224, 224], classes: 1000, norm: 'bn', groups: 32 } as const

/**
 * Residual network for ImageNet: stem → four stages of blocks → mean → linear layer. Depth 18 and 34
 * have basic blocks, 50 and 101 bottlenecks whose stride is in the 3 x 3 convolution. Tensors are
 * named and shaped as torchvision's: `conv1.weight` [64, 3, 7, 7], `bn1`, `layer1.0.conv1`,
 * `layer1.0.bn1`, `layer1.0.downsample.0`, .., `fc`. Groups of gn and bcn default to 32. Weights of
 * convolutions begin N(0, 2 / fan_out). Taps: `layerS.I`, the outputs of blocks.
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE for options that are wrong or do not go together
 *
 * @example
 * const big = resnet({ depth: 50, norm: 'bcn', ws: true })
 * const micro = resnet({ depth: 18, norm: { kind: 'bcn-micro', rate: 'lr' }, ws: true })
 *
 * Source: He et al., arXiv 1512.03385; Qiao et al., arXiv 1903.10520.
 */
export function resnet(options: ResnetOptions = {}): Model {
  requireOptions('resnet()', options, [
    ...CONVNET_OPTIONS,
    ...(['depth', 'stem', 'preactivation', 'zeroInit'] as const),
  ])
  const { depth = 18 } = options
  if (!Object.hasOwn(RESNET_BLOCKS, depth)) {
    throw argumentError('resnet()', 'depth', '18, 34, 50 or 101 (see cifarResnet())', depth)
  }
  return built('resnet()', `resnet${depth}`, options, {
    ...RESNET_BLOCKS[depth],
    extra: {},
    again: (change) => resnet({ ...options, ...change }),
  })
}

/**
 * {@link resnet} with bottlenecks whose 3 x 3 convolution has groups: ResNeXt-50 and -101 32x4d by
 * default. Source: Xie et al., arXiv 1611.05431.
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE
 */
export function resnext(options: ResnextOptions = {}): Model {
  requireOptions('resnext()', options, [
    ...CONVNET_OPTIONS,
    ...(['depth', 'stem', 'preactivation', 'zeroInit', 'cardinality', 'groupWidth'] as const),
  ])
  const { depth = 50, cardinality = 32, groupWidth = 4 } = options
  if (depth !== 50 && depth !== 101) throw argumentError('resnext()', 'depth', '50 or 101', depth)
  for (const [name, count] of Object.entries({ cardinality, groupWidth })) {
    if (!Number.isSafeInteger(count) || count < 1) {
      throw argumentError('resnext()', name, 'a positive integer', count)
    }
  }
  return built('resnext()', `resnext${depth}`, options, {
    ...RESNET_BLOCKS[depth],
    extra: { cardinality, groupWidth },
    again: (change) => resnext({ ...options, ...change }),
  })
}

interface Kind {
  readonly block: 'basic' | 'bottleneck'
  readonly blocks: readonly number[]
  readonly extra: { readonly cardinality?: number; readonly groupWidth?: number }
  readonly again: (change: object) => Model
}

function built(
  where: string,
  family: string,
  options: Omit<ResnetOptions, 'depth'>,
  { block, blocks, extra, again }: Kind,
): Model {
  const config: ConvnetConfig = convnetConfig(where, options, DEFAULTS)
  const { stem = 'imagenet', preactivation = false } = options
  requireOneOf(where, 'stem', stem, ['imagenet', 'cifar'])
  const zeroInit = options.zeroInit ?? zeroInitDefault(config.norm, preactivation)
  requireZeroInit(where, zeroInit, config.norm, preactivation)
  const items = [...(preactivation ? ['preact'] : []), ...(stem === 'cifar' ? ['small'] : [])]
  const { cardinality, groupWidth = 0 } = extra
  return classifier(
    convnetName(family, config, DEFAULTS, items),
    config,
    { ...recorded(config), stem, preactivation, zeroInit, ...extra },
    {
      ...{ stem, block, blocks, preactivation, zeroInit, cardinality },
      base: 64 * config.width,
      inner: cardinality === undefined ? 64 * config.width : cardinality * groupWidth,
      shortcut: 'convolution',
      strides: [1, 2, 2, 2],
    },
    (change) => again({ zeroInit: undefined, ...change }),
  )
}
