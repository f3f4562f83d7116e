import { argumentError, isShape } from '../../arguments.js'
import { LosscapeError } from '../../errors.js'
import * as ops from '../../ops/index.js'
import type { Tensor } from '../../program/tensor.js'
import type { Shape } from '../../program/types.js'
import { requireCounts } from '../vit-config.js'
import type { Pass } from './builder.js'
import { type Norm, type NormOption, normConfig, resolveNorm } from './norm-options.js'
import {
  resolveStandardization,
  type Standardization,
  type StandardizationOption,
} from './standardize.js'

/** What all convolutional networks take. */
export interface ConvnetOptions {
  /** Shape of an image [C, H, W]. */
  readonly input?: Shape
  readonly classes?: number
  /** Factor of all widths; has to give whole numbers of channels. Default 1. */
  readonly width?: number
  /** A kind, or a kind with settings. Default 'bn', of LeNet and VGG 'none'. */
  readonly norm?: NormOption
  /**
   * Weight standardisation of every convolution that a norm follows: true (unbiased variance,
   * epsilon 1e-5 inside the root), a preset's name, or options. Default false.
   */
  readonly ws?: StandardizationOption
  /** Probability with which inputs of the classifier are dropped in training. Default 0. */
  readonly dropout?: number
}

export const CONVNET_OPTIONS = ['input', 'classes', 'width', 'norm', 'ws', 'dropout'] as const

/** The same with all defaults filled in. */
export interface ConvnetConfig {
  readonly input: Shape
  readonly classes: number
  readonly width: number
  readonly norm: Norm
  readonly ws: Standardization | null
  readonly dropout: number
}

export interface ConvnetDefaults {
  readonly input: Shape
  readonly classes: number
  readonly norm: NormOption
  /** G where the norm leaves it open. */
  readonly groups: number
}

/** @throws ERR_ARGUMENT, ERR_SHAPE naming the option */
export function convnetConfig(
  where: string,
  options: ConvnetOptions,
  defaults: ConvnetDefaults,
): ConvnetConfig {
  const { input = defaults.input, classes = defaults.classes, width = 1, dropout = 0 } = options
  if (!isShape(input) || input.length !== 3) {
    const got = Array.isArray(input) ? `[${input}]` : String(input)
    throw new LosscapeError('ERR_SHAPE', `${where} expected images of shape [C, H, W], got ${got}.`)
  }
  requireCounts(where, { classes }, ['classes'])
  if (!(Number.isFinite(width) && width > 0)) {
    throw argumentError(where, 'width', 'a positive factor of the channels', width)
  }
  if (!(dropout >= 0 && dropout < 1)) {
    throw argumentError(where, 'dropout', 'a probability 0 <= p < 1', dropout)
  }
  const norm = resolveNorm(where, options.norm ?? defaults.norm, defaults.groups)
  const ws = resolveStandardization(where, options.ws ?? false)
  if (ws && norm.kind === 'none') {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${where}: weight standardisation is for convolutions that a norm follows, and norm is 'none'.`,
    )
  }
  return { input, classes, width, norm, ws, dropout }
}

/** What a run folder records of these. */
export function recorded(config: ConvnetConfig): Record<string, unknown> {
  const { norm, ws, ...rest } = config
  return { ...rest, norm: normConfig(norm), ws: ws ?? false }
}

/** `resnet20:bcn,ws,w2`: what a name says of these; the configuration has the rest. */
export function convnetName(
  family: string,
  { norm, ws, width }: ConvnetConfig,
  defaults: { readonly norm: NormOption; readonly groups: number },
  items: readonly string[] = [],
): string {
  const grouped = norm.kind === 'gn' || norm.kind.startsWith('bcn')
  const groups = grouped && norm.groups !== defaults.groups ? String(norm.groups) : ''
  const parts = [
    ...(norm.kind === defaults.norm ? [] : [`${norm.kind}${groups}`]),
    ...(ws ? [ws.preset ? `ws-${ws.preset}` : 'ws'] : []),
    ...items,
    ...(width === 1 ? [] : [`w${width}`]),
  ]
  return parts.length > 0 ? `${family}:${parts.join(',')}` : family
}

/** Elements dropped before the classifier. */
export function dropped(x: Tensor, { context }: Pass, rate: number, stream = 0): Tensor {
  const { training, key } = context
  return training && key && rate > 0 ? ops.dropout(x, rate, key, stream) : x
}
