import { argumentError } from '../../arguments.js'
import { requireOptions } from '../../options.js'
import type { Model } from '../model.js'
import { requireOneOf } from '../vit-config.js'
import type { Shortcut } from './backbone.js'
import { CONVNET_OPTIONS, convnetConfig, convnetName, recorded } from './options.js'
import type { ResidualOptions } from './resnet.js'
import { classifier } from './resnet-head.js'
import { requireZeroInit, zeroInitDefault } from './zero-init.js'

/** Published depths: 6 n + 2 layers, n basic blocks in each of three stages. */
export const CIFAR_DEPTHS = [20, 32, 44, 56, 110] as const

/** 6 n + 2, but for 50, which names a network for ImageNet. */
export const isCifarDepth = (depth: number): boolean =>
  Number.isSafeInteger(depth) && depth >= 8 && depth % 6 === 2 && depth !== 50

export interface CifarResnetOptions extends ResidualOptions {
  /** 6 n + 2, not 50. Default 20. */
  readonly depth?: number
  /**
   * Where a stage begins: every second pixel with channels of zeros on both sides ('pad', default,
   * option A of the paper), or a 1 x 1 convolution with a norm ('convolution', option B).
   */
  readonly shortcut?: Shortcut
}

const DEFAULTS = { input: [3, 32, 32], classes: 10, norm: 'bn', groups: 8 } as const

/**
 * Residual network for CIFAR: 3 x 3 stem → stages of 16, 32, 64 channels (times `width`) → mean →
 * linear layer; 269,722 parameters at depth 20. Names are torchvision's: `conv1`, `bn1`,
 * `layer1.0.conv1`, .., `fc`. Groups of gn and bcn default to 8, as 16 channels have no 32. Taps:
 * `layerS.I`.
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE
 *
 * @example
 * const model = cifarResnet({ depth: 56, norm: { kind: 'gn', groups: 16 }, ws: true })
 *
 * Source: He et al., arXiv 1512.03385, section 4.2.
 */
export function cifarResnet(options: CifarResnetOptions = {}): Model {
  const where = 'cifarResnet()'
  requireOptions(where, options, [
    ...CONVNET_OPTIONS,
    ...(['depth', 'shortcut', 'preactivation', 'zeroInit'] as const),
  ])
  const { depth = 20, shortcut = 'pad', preactivation = false } = options
  if (!isCifarDepth(depth)) {
    const what = '6 n + 2 (20, 32, 44, 56, 110, ..; 50 is a depth of resnet())'
    throw argumentError(where, 'depth', what, depth)
  }
  const count = (depth - 2) / 6
  requireOneOf(where, 'shortcut', shortcut, ['pad', 'convolution'])
  const config = convnetConfig(where, options, DEFAULTS)
  const zeroInit = options.zeroInit ?? zeroInitDefault(config.norm, preactivation)
  requireZeroInit(where, zeroInit, config.norm, preactivation)
  const items = preactivation ? ['preact'] : []
  return classifier(
    convnetName(`resnet${depth}`, config, DEFAULTS, items),
    config,
    { ...recorded(config), shortcut, preactivation, zeroInit },
    {
      ...{ preactivation, zeroInit, shortcut },
      stem: 'cifar',
      block: 'basic',
      blocks: [count, count, count],
      base: 16 * config.width,
      strides: [1, 2, 2],
    },
    (change) => cifarResnet({ ...options, zeroInit: undefined, ...change }),
  )
}

/** {@link cifarResnet} of depth 20. */
export function resnet20(options: Omit<CifarResnetOptions, 'depth'> = {}): Model {
  return cifarResnet({ ...options, depth: 20 })
}
