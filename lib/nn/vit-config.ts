import { argumentError, isShape, requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import type { Shape } from '../program/types.js'
import type { AttentionChoice } from './attention/options.js'

/** Width, depth and heads of the published sizes. */
export const VIT_SIZES = {
  tiny: { width: 192, depth: 12, heads: 3 },
  small: { width: 384, depth: 12, heads: 6 },
  base: { width: 768, depth: 12, heads: 12 },
} as const

export type VitSize = keyof typeof VIT_SIZES

/** Options of all transformers; the others' defaults are their own. */
export interface TransformerOptions {
  /** Hidden width of the MLPs over D. Default 4. */
  readonly mlpRatio?: number
  /** Default 1000. */
  readonly classes?: number
  /** Probability with which units are dropped in training. Default 0. */
  readonly dropout?: number
  /**
   * Stochastic depth: probability with which a sample skips a branch of the last block, falling
   * linearly to 0 in the first. Default 0.
   */
  readonly dropPath?: number
  /** Biases of queries, keys and values. */
  readonly qkvBias?: boolean
  /** Of the layer normalisations. */
  readonly epsilon?: number
}

export const TRANSFORMER_DEFAULTS = {
  mlpRatio: 4,
  classes: 1000,
  dropout: 0,
  dropPath: 0,
  attention: 'softmax',
} as const

/**
 * Options over their defaults, which name all that there are.
 * @throws ERR_ARGUMENT for others
 */
export function withDefaults<T extends object>(where: string, options: Partial<T>, defaults: T): T {
  requireOptions<Partial<T>>(where, options, Object.keys(defaults) as (keyof T & string)[])
  const given = Object.entries(options).filter(([, value]) => value !== undefined)
  return { ...defaults, ...Object.fromEntries(given) }
}

/** How to build a vision transformer; every option overrides its size's. */
export interface VitOptions extends TransformerOptions {
  /** 'tiny' (default), 'small' or 'base', at 224 x 224 with patches of 16. */
  readonly size?: VitSize
  /** Shape of an image [C, H, W]. Default [3, 224, 224]. */
  readonly input?: Shape
  /** Edge of a patch in pixels; must divide H and W. Default 16. */
  readonly patch?: number
  /** D, a multiple of `heads`. */
  readonly width?: number
  /** L, blocks. */
  readonly depth?: number
  readonly heads?: number
  /** What the head sees: a class token (default), or the mean of the patches without one. */
  readonly pooling?: 'token' | 'mean'
  /** Default 'learned'; 'sinusoidal' is a fixed pattern of sines of row and column. */
  readonly positions?: 'learned' | 'sinusoidal'
  /** Default true. */
  readonly qkvBias?: boolean
  /** Default 1e-6. */
  readonly epsilon?: number
  /** Default 'softmax'. */
  readonly attention?: AttentionChoice
}

/** Options with all defaults filled in. */
export type VitConfig = Required<Omit<VitOptions, 'size'>>

/** @throws ERR_ARGUMENT, ERR_SHAPE; see vit() */
export function vitConfig(options: VitOptions): VitConfig {
  requireArguments('vit()', { options })
  const { size = 'tiny' } = options
  if (!Object.hasOwn(VIT_SIZES, size)) {
    throw argumentError('vit()', 'size', `one of ${Object.keys(VIT_SIZES).join(', ')}`, size)
  }
  const { size: _, ...config } = withDefaults<Required<VitOptions>>('vit()', options, {
    size,
    ...TRANSFORMER_DEFAULTS,
    ...VIT_SIZES[size],
    input: [3, 224, 224],
    patch: 16,
    pooling: 'token',
    positions: 'learned',
    qkvBias: true,
    epsilon: 1e-6,
  })
  requireImage('vit()', config.input, config.patch)
  requireCounts('vit()', config, ['patch', 'width', 'depth', 'heads', 'classes'])
  requireTransformer('vit()', config)
  requireOneOf('vit()', 'pooling', config.pooling, ['token', 'mean'])
  requireOneOf('vit()', 'positions', config.positions, ['learned', 'sinusoidal'])
  if (config.positions === 'sinusoidal' && config.width % 4 !== 0) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `Sinusoidal positions need a width that is a multiple of 4, got ${config.width}.`,
    )
  }
  return config
}

/** N, tokens of a block. */
export function vitTokens({ input, patch, pooling }: VitConfig): number {
  return (input[1] / patch) * (input[2] / patch) + (pooling === 'token' ? 1 : 0)
}

/** @throws ERR_ARGUMENT, ERR_SHAPE unless `input` is [C, H, W] and whole patches fill it */
export function requireImage(where: string, input: Shape, patch: number): void {
  if (!isShape(input) || input.length !== 3) {
    const got = Array.isArray(input) ? `[${input}]` : String(input)
    throw new LosscapeError('ERR_SHAPE', `${where} expected images of shape [C, H, W], got ${got}.`)
  }
  if (!(Number.isSafeInteger(patch) && patch >= 1)) {
    throw argumentError(where, 'patch', 'a positive integer', patch)
  }
  if (input[1] % patch !== 0 || input[2] % patch !== 0) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `${where}: patches of ${patch} x ${patch} do not fill images of ${input[1]} x ${input[2]}.`,
    )
  }
}

/** @throws ERR_ARGUMENT naming the first that is no positive integer */
export function requireCounts<T extends object>(
  where: string,
  config: T,
  names: readonly (keyof T & string)[],
): void {
  for (const name of names) {
    const value = config[name] as unknown
    if (!Number.isSafeInteger(value) || (value as number) < 1) {
      throw argumentError(where, name, 'a positive integer', value)
    }
  }
}

/** What all transformers check. */
export function requireTransformer(
  where: string,
  config: Pick<
    VitConfig,
    'width' | 'heads' | 'mlpRatio' | 'dropout' | 'dropPath' | 'epsilon' | 'qkvBias'
  >,
): void {
  const { width, heads, mlpRatio, epsilon, qkvBias } = config
  if (width % heads !== 0) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${where}: the width ${width} is no multiple of ${heads} heads.`,
    )
  }
  const hidden = Math.round(width * mlpRatio)
  if (!(Number.isSafeInteger(hidden) && hidden >= 1)) {
    const what = `a positive number that gives the MLPs hidden units (round(${width} mlpRatio) of them)`
    throw argumentError(where, 'mlpRatio', what, mlpRatio)
  }
  for (const name of ['dropout', 'dropPath'] as const) {
    const rate = config[name]
    if (!(rate >= 0 && rate < 1)) {
      throw argumentError(where, name, 'a probability 0 <= p < 1', rate)
    }
  }
  if (!(epsilon > 0 && Number.isFinite(epsilon))) {
    throw argumentError(where, 'epsilon', 'a positive number', epsilon)
  }
  if (typeof qkvBias !== 'boolean') throw argumentError(where, 'qkvBias', 'true or false', qkvBias)
}

/** @throws ERR_ARGUMENT naming the choices */
export function requireOneOf(
  where: string,
  name: string,
  value: unknown,
  known: readonly string[],
): void {
  if (typeof value === 'string' && known.includes(value)) return
  throw argumentError(where, name, `one of ${known.join(', ')}`, value)
}
