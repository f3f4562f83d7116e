import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import { emit, Tensor } from '../program/tensor.js'
import { formatType } from '../program/types.js'
import './channel-norm-operations.js'
import { type NormAttributes, namedShape } from './channel-norm-shapes.js'
import { onesLike, zerosLike } from './constant.js'
import { stopGradient } from './control.js'

/** Options of every normalisation of activations with channels. */
export interface ChannelNormOptions {
  /** Per-channel factor [C]. Default 1 (no operand). */
  scale?: Tensor
  /** Per-channel summand [C]. Default 0. */
  shift?: Tensor
  /** Added to the variance under the root. Default 1e-5. */
  epsilon?: number
  /** Axes of the activations: [N, C, ..] (default) or [N, .., C]; any number of spatial axes. */
  layout?: 'nchw' | 'nhwc'
  /** Fuses a ReLU behind everything, with derivative 0 at 0. Default false. */
  relu?: boolean
  /** Like x; added behind the affine part and before the ReLU, in the same pass. */
  residual?: Tensor
}

export interface BatchNormOptions extends ChannelNormOptions {
  /** 'batch' (default): statistics of this batch. 'frozen': those given as mean and variance. */
  statistics?: 'batch' | 'frozen'
  /** Frozen mean [C]; a constant of every derivative. Not read with batch statistics. */
  mean?: Tensor
  /** Frozen variance [C], >= 0; a constant of every derivative. Not read with batch statistics. */
  variance?: Tensor
}

/** Activations, and statistics per channel through which no gradient flows. */
export interface NormWithStatistics {
  y: Tensor
  mean: Tensor
  variance: Tensor
}

export interface GroupNormOptions extends ChannelNormOptions {
  /** Default 32. Must divide the channels. */
  groups?: number
  /** Whether scale and shift are per channel [C] (default) or per group [groups]. */
  affine?: 'channel' | 'group'
}

export interface EstimateOptions {
  /** Estimates of before this batch, [C]; constants of every derivative. */
  mean: Tensor
  /** >= 0. */
  variance: Tensor
  /** Update rate r, a scalar tensor from 0 (leaves the estimates as they are) to 1. */
  rate: Tensor
  /**
   * A scalar tensor: where it is 1, estimates start with this batch (its mean and biased variance,
   * whatever mean, variance and rate are, finite ones all the same); 0 is an ordinary update.
   * Default: no such operand.
   */
  warm?: Tensor
  /** Update the estimates 'before' they normalise (default, as published) or 'after'. */
  order?: 'before' | 'after'
  /** The variance's update is the second moment about the 'old' mean (default) or the 'batch' mean. */
  about?: 'old' | 'batch'
  /** Lets gradients flow through the update, as batch statistics do; r = 0 .. 1. Default false. */
  through?: boolean
}

export interface EstimatedBatchNormOptions extends ChannelNormOptions, EstimateOptions {}

export interface BatchChannelNormOptions extends ChannelNormOptions, Partial<EstimateOptions> {
  /** Statistics of the first stage. Default 'batch'. */
  mode?: 'batch' | 'estimate' | 'frozen'
  /** Groups of the second stage. Default 32. Must divide the channels. */
  groups?: number
  /** Factor of the second stage, [groups] or, with affine 'channel', [C]. Default 1. */
  channelScale?: Tensor
  channelShift?: Tensor
  /** Whether the affine part of the second stage is per 'group' (default, as published). */
  affine?: 'group' | 'channel'
  /** Of the second stage. Default: that of the first. */
  channelEpsilon?: number
}

const COMMON = ['scale', 'shift', 'epsilon', 'layout', 'relu', 'residual'] as const
const ESTIMATE = ['mean', 'variance', 'rate', 'warm', 'order', 'about', 'through'] as const

const PLAIN: NormAttributes = {
  stage1: 'none',
  groups: 0,
  epsilon1: 1e-5,
  epsilon2: 1e-5,
  affine1: 0,
  affine2: 'none',
  warm: 0,
  order: 'before',
  about: 'old',
  through: 0,
  relu: 0,
  residual: 0,
  layout: 'nchw',
  lead: 0,
}

function refuse(where: string, expected: string, got: unknown): never {
  const text =
    got instanceof Tensor ? formatType(got) : typeof got === 'object' ? 'an object' : String(got)
  throw new LosscapeError('ERR_ARGUMENT', `${where} expected ${expected}, got ${text}.`)
}

/** One call: checks what all functions have in common and writes the operation down. */
class Call {
  private readonly operands: Tensor[] = []

  constructor(
    private readonly where: string,
    private readonly x: Tensor,
    private readonly options: ChannelNormOptions,
    private attributes: NormAttributes,
  ) {
    if (!(x instanceof Tensor)) refuse(where, 'traced activations', x)
    const { layout = 'nchw', relu = false, residual } = options
    this.oneOf('layout', layout, ['nchw', 'nhwc'])
    if (typeof relu !== 'boolean') refuse(where, 'true or false for relu', relu)
    if (x.rank < 2) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `${where} expected activations ${layout === 'nhwc' ? '[N, .., C]' : '[N, C, ..]'}, got ${formatType(x)}.`,
      )
    }
    this.attributes = {
      ...attributes,
      layout,
      relu: Number(relu),
      residual: Number(residual !== undefined),
    }
    this.operands.push(x)
  }

  oneOf(name: string, value: unknown, known: readonly string[]): void {
    if (known.includes(value as string)) return
    refuse(this.where, `${known.map((k) => `'${k}'`).join(' or ')} for ${name}`, value)
  }

  epsilon(name: string, value: number | undefined, fallback = 1e-5): number {
    const epsilon = value ?? fallback
    if (typeof epsilon === 'number' && epsilon >= 0 && epsilon < Infinity) return epsilon
    return refuse(this.where, `a finite ${name} of at least 0`, epsilon)
  }

  groups(value: number): number {
    if (Number.isSafeInteger(value) && value >= 1) return value
    return refuse(this.where, 'a positive number of groups', value)
  }

  /** A statistic or rate: a constant of every derivative. */
  constant(name: string, value: Tensor | undefined): this {
    if (!(value instanceof Tensor)) refuse(this.where, `a traced tensor as ${name}`, value)
    this.operands.push(stopGradient(value as Tensor))
    return this
  }

  estimates(options: Partial<EstimateOptions>): this {
    const { order = 'before', about = 'old', through = false, warm } = options
    this.oneOf('order', order, ['before', 'after'])
    this.oneOf('about', about, ['old', 'batch'])
    if (typeof through !== 'boolean') refuse(this.where, 'true or false for through', through)
    if (through && order === 'after') {
      refuse(this.where, "through: true with order 'before' only", "order 'after'")
    }
    this.constant('mean', options.mean).constant('variance', options.variance)
    this.constant('rate', options.rate)
    if (warm !== undefined) this.constant('warm', warm)
    this.attributes = {
      ...this.attributes,
      warm: Number(warm !== undefined),
      order,
      about,
      through: Number(through),
    }
    return this
  }

  /** Scale and shift of a stage; one alone gets the other's neutral value. */
  affine(stage: 1 | 2, scale?: Tensor, shift?: Tensor, per: 'channel' | 'group' = 'channel'): this {
    if (scale === undefined && shift === undefined) return this
    for (const t of [scale, shift]) {
      if (t !== undefined && !(t instanceof Tensor)) {
        refuse(this.where, 'traced tensors as scale and shift', t)
      }
    }
    this.attributes = {
      ...this.attributes,
      ...(stage === 1 ? { affine1: 1 } : { affine2: per }),
    }
    const shape = namedShape(`scale${stage}`, this.x, this.attributes)
    const like = { dtype: this.x.dtype, shape }
    this.operands.push(scale ?? onesLike(like), shift ?? zerosLike(like))
    return this
  }

  results(): Tensor[] {
    const { residual } = this.options
    if (residual !== undefined) {
      if (!(residual instanceof Tensor)) refuse(this.where, 'a traced tensor as residual', residual)
      this.operands.push(residual)
    }
    const [y, , ...statistics] = emit('channel_norm', this.operands, this.attributes)
    return [y, ...statistics.map(stopGradient)]
  }
}

/**
 * Batch normalisation: y = scale (x - m) / sqrt(v + epsilon) + shift per channel [+ residual]
 * [ReLU], with mean and biased variance over samples and positions of this batch, or frozen.
 *
 * Returns the mean and the biased variance of the batch as well (the given ones when frozen), for
 * running averages: with M values a channel, torch averages v M / (M - 1). No gradient flows through
 * them (they end in stopGradient), nor into frozen statistics.
 *
 * Cost in passes over the activations: batch statistics 3 forward, 5 backward; frozen 2 and 5. Fused
 * to second order; a third derivative throws ERR_PROGRAM.
 *
 * @param x [N, C, ..] or [N, .., C]
 * @throws ERR_SHAPE for one value a channel with batch statistics (the variance is undefined) and
 * for operands that do not fit; ERR_ARGUMENT, ERR_DTYPE; ERR_RANGE at run time for a frozen mean or
 * variance that is NaN, infinite or (variance) negative
 * @see Ioffe and Szegedy, Batch Normalization, ICML 2015
 *
 * @example
 * const { y, mean, variance } = batchNorm(x, { scale, shift, layout: 'nhwc', relu: true })
 */
export function batchNorm(x: Tensor, options: BatchNormOptions = {}): NormWithStatistics {
  requireOptions('batchNorm()', options, [...COMMON, 'statistics', 'mean', 'variance'])
  const { statistics = 'batch', scale, shift } = options
  const call = new Call('batchNorm()', x, options, {
    ...PLAIN,
    stage1: statistics,
    epsilon1: options.epsilon ?? 1e-5,
  })
  call.oneOf('statistics', statistics, ['batch', 'frozen'])
  call.epsilon('epsilon', options.epsilon)
  if (statistics === 'frozen') {
    call.constant('mean', options.mean).constant('variance', options.variance)
  }
  const [y, mean, variance] = call.affine(1, scale, shift).results()
  if (mean) return { y, mean, variance }
  return { y, mean: options.mean as Tensor, variance: options.variance as Tensor }
}

/**
 * Group normalisation: y = scale (x - m) / sqrt(v + epsilon) + shift [+ residual] [ReLU], with mean
 * and biased variance over the channels of a group (neighbours) and all positions of one sample.
 * groups 1 normalises a whole sample, groups C each channel.
 *
 * Cost in passes over the activations: 3 forward, 5 backward, fewer where a sample fits in cache.
 * Fused to second order; a third derivative throws ERR_PROGRAM.
 *
 * @param x [N, C, ..] or [N, .., C]
 * @throws ERR_SHAPE when the groups do not divide the channels, for groups of one value and for
 * operands that do not fit; ERR_ARGUMENT, ERR_DTYPE
 * @see Wu and He, Group Normalization, ECCV 2018
 */
export function groupNorm(x: Tensor, options: GroupNormOptions = {}): Tensor {
  requireOptions('groupNorm()', options, [...COMMON, 'groups', 'affine'])
  return grouped('groupNorm()', x, options)
}

function grouped(where: string, x: Tensor, options: GroupNormOptions): Tensor {
  const { groups = 32, affine = 'channel', scale, shift } = options
  const call = new Call(where, x, options, {
    ...PLAIN,
    groups,
    epsilon2: options.epsilon ?? 1e-5,
  })
  call.groups(groups)
  call.epsilon('epsilon', options.epsilon)
  call.oneOf('affine', affine, ['channel', 'group'])
  return call.affine(2, scale, shift, affine).results()[0]
}

/**
 * Channel normalisation as published with batch-channel normalisation: group normalisation whose
 * scale and shift are per group [groups]. Otherwise like groupNorm().
 */
export function channelNorm(x: Tensor, options: GroupNormOptions = {}): Tensor {
  requireOptions('channelNorm()', options, [...COMMON, 'groups', 'affine'])
  return grouped('channelNorm()', x, { affine: 'group', ...options })
}

/** Instance normalisation: group normalisation with one channel a group, scale and shift [C]. */
export function instanceNorm(x: Tensor, options: ChannelNormOptions = {}): Tensor {
  requireOptions('instanceNorm()', options, COMMON)
  const axis = options.layout === 'nhwc' ? -1 : 1
  const groups = x instanceof Tensor ? (x.shape.at(axis) ?? 1) : 1
  return grouped('instanceNorm()', x, { ...options, groups: Math.max(1, groups) })
}

/**
 * Batch normalisation by running estimates, which this batch updates first, with rate r:
 *
 *   m' = m + r (mean(x) - m)        v' = v + r (mean((x - m)²) - v)
 *   y  = scale (x - m') / sqrt(v' + epsilon) + shift [+ residual] [ReLU]
 *
 * The second moment is about the old estimate m, so v' tends to the total variance within and
 * between batches even at one sample a batch. Returns the new estimates; nothing is mutated. They
 * are constants of every derivative (unless `through`) and end in stopGradient.
 *
 * Cost in passes over the activations: 3 forward, 5 backward.
 *
 * @param x [N, C, ..] or [N, .., C]
 * @throws ERR_SHAPE, ERR_ARGUMENT, ERR_DTYPE; ERR_RANGE at run time for estimates that are NaN,
 * infinite or (variance) negative, and for a rate outside [0, 1]
 * @see Qiao et al., Micro-Batch Training with Batch-Channel Normalization and Weight
 * Standardization (2019); the published code keeps r at 0, which never updates anything
 */
export function estimatedBatchNorm(
  x: Tensor,
  options: EstimatedBatchNormOptions,
): NormWithStatistics {
  requireOptions('estimatedBatchNorm()', options, [...COMMON, ...ESTIMATE])
  const call = new Call('estimatedBatchNorm()', x, options, {
    ...PLAIN,
    stage1: 'estimate',
    epsilon1: options.epsilon ?? 1e-5,
  })
  call.epsilon('epsilon', options.epsilon)
  call.estimates(options).affine(1, options.scale, options.shift)
  const [y, mean, variance] = call.results()
  return { y, mean, variance }
}

/**
 * Batch-channel normalisation: batch normalisation by the batch ('batch'), by estimates that it
 * updates first ('estimate') or by given statistics ('frozen'), with scale and shift per channel,
 * and channel normalisation of the result, with channelScale and channelShift per group. Fused: both
 * stages follow from two sums of each (sample, channel), the first stage's result is never stored.
 *
 * Returns the statistics that the first stage made (batchNorm()) or updated (estimatedBatchNorm()),
 * through which no gradient flows, or the given ones when frozen.
 *
 * Cost in passes over the activations: 3 forward, 5 backward. Fused to second order; a third
 * derivative throws ERR_PROGRAM.
 *
 * @param x [N, C, ..] or [N, .., C]
 * @throws ERR_SHAPE when the groups do not divide the channels, for one value a channel in mode
 * 'batch', for groups of one value and for operands that do not fit; ERR_ARGUMENT, ERR_DTYPE;
 * ERR_RANGE at run time for given statistics that are NaN, infinite or (variance) negative, and for
 * a rate outside [0, 1]
 * @see Qiao et al., Micro-Batch Training with Batch-Channel Normalization and Weight
 * Standardization (2019)
 *
 * @example
 * const { y, mean, variance } = batchChannelNorm(x, { mode: 'estimate', mean, variance, rate, groups: 32 })
 */
export function batchChannelNorm(
  x: Tensor,
  options: BatchChannelNormOptions = {},
): NormWithStatistics {
  const own = [
    'mode',
    'groups',
    'channelScale',
    'channelShift',
    'affine',
    'channelEpsilon',
  ] as const
  requireOptions('batchChannelNorm()', options, [...COMMON, ...ESTIMATE, ...own])
  const { mode = 'batch', groups = 32, affine = 'group' } = options
  const call = new Call('batchChannelNorm()', x, options, {
    ...PLAIN,
    stage1: mode,
    groups,
    epsilon1: options.epsilon ?? 1e-5,
    epsilon2: options.channelEpsilon ?? options.epsilon ?? 1e-5,
  })
  call.oneOf('mode', mode, ['batch', 'estimate', 'frozen'])
  call.groups(groups)
  call.epsilon('epsilon', options.epsilon)
  call.epsilon('channelEpsilon', options.channelEpsilon)
  call.oneOf('affine', affine, ['group', 'channel'])
  if (mode === 'estimate') call.estimates(options)
  if (mode === 'frozen') {
    call.constant('mean', options.mean).constant('variance', options.variance)
  }
  call.affine(1, options.scale, options.shift)
  call.affine(2, options.channelScale, options.channelShift, affine)
  const [y, mean, variance] = call.results()
  if (mean) return { y, mean, variance }
  return { y, mean: options.mean as Tensor, variance: options.variance as Tensor }
}
