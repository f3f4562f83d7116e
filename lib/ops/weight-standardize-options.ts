import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import type { Attributes } from '../program/types.js'
import type { StandardizeForm } from './weight-standardize-reference.js'

/** Settings under which published checkpoints were trained; they are not interchangeable. */
export type StandardizePreset =
  | 'paper'
  | 'official'
  | 'official-bcn'
  | 'bit'
  | 'timm'
  | 'timm-scaled'
  | 'nfnet'

/** The numbers of weight standardisation; tensors (gain, shift) are given beside them. */
export interface StandardizeSettings {
  /** Starting values of the options below. Default 'official-bcn': delta 1, 'in', 1e-5. */
  preset?: StandardizePreset
  /** Variance over I - delta weights: 0 biased, 1 unbiased. Default 1 (0 for form 'max'). */
  delta?: 0 | 1
  /** sigma: sqrt(q + epsilon), sqrt(q) + epsilon, or sqrt(max(I q, epsilon)). Default 'in'. */
  form?: StandardizeForm
  /** Default 1e-5. */
  epsilon?: number
  /** Subtract the mean; without it sigma is made of the mean square. Default true. */
  center?: boolean
  /** Divide by sigma. Default true. */
  scale?: boolean
  /** Constant factor of all results, for example that of an activation. Default 1. */
  factor?: number
  /** A further factor 1 / sqrt(I) with I the weights of a filter. Default false. */
  fanIn?: boolean
}

type Numbers = Required<Omit<StandardizeSettings, 'preset'>>

const DEFAULTS: Numbers = {
  delta: 1,
  form: 'in',
  epsilon: 1e-5,
  center: true,
  scale: true,
  factor: 1,
  fanIn: false,
}

const PRESETS: Readonly<Record<StandardizePreset, Partial<Numbers>>> = {
  paper: { delta: 0, form: 'out' },
  official: { delta: 1, form: 'out' },
  'official-bcn': {},
  bit: { delta: 0, epsilon: 1e-10 },
  timm: { delta: 0, epsilon: 1e-6 },
  'timm-scaled': { delta: 0, epsilon: 1e-6, fanIn: true },
  nfnet: { delta: 0, form: 'max', epsilon: 1e-4 },
}

export const SETTINGS = [
  'preset',
  'delta',
  'form',
  'epsilon',
  'center',
  'scale',
  'factor',
  'fanIn',
] as const

/**
 * The settings with defaults filled in.
 * @throws ERR_ARGUMENT for anything unknown, a negative epsilon, delta 1 with form 'max'
 */
export function standardizeSettings(where: string, settings: StandardizeSettings): Numbers {
  requireOptions(where, settings, SETTINGS)
  const { preset = 'official-bcn' } = settings
  const fail = (what: string): never => {
    throw new LosscapeError('ERR_ARGUMENT', `${where}: ${what}.`)
  }
  if (!Object.hasOwn(PRESETS, preset)) {
    fail(`preset must be one of ${Object.keys(PRESETS).join(', ')}, got ${String(preset)}`)
  }
  const given = Object.fromEntries(Object.entries(settings).filter(([, v]) => v !== undefined))
  const numbers: Numbers = { ...DEFAULTS, ...PRESETS[preset], ...given }
  const { delta, form, epsilon, center, scale, factor, fanIn } = numbers
  if (form !== 'in' && form !== 'out' && form !== 'max') {
    fail(`form must be 'in', 'out' or 'max', got ${String(form)}`)
  }
  if (form === 'max' && settings.delta === undefined) numbers.delta = 0
  else if (form === 'max' && delta !== 0) fail(`form 'max' is of the plain sum: delta must be 0`)
  if (delta !== 0 && delta !== 1) fail(`delta must be 0 or 1, got ${String(delta)}`)
  if (!(Number.isFinite(epsilon) && epsilon >= 0)) {
    fail(`epsilon must be a finite number from 0, got ${String(epsilon)}`)
  }
  if (!Number.isFinite(factor)) fail(`factor must be a finite number, got ${String(factor)}`)
  for (const [name, flag] of Object.entries({ center, scale, fanIn })) {
    if (typeof flag !== 'boolean') fail(`${name} must be true or false, got ${String(flag)}`)
  }
  return numbers
}

/** Attributes of the operation for banks of filters of these numbers of weights. */
export function standardizeAttributes(numbers: Numbers, weights: readonly number[]): Attributes {
  const { delta, form, epsilon, center, scale, factor, fanIn } = numbers
  return {
    delta,
    form,
    epsilon,
    center: Number(center),
    scale: Number(scale),
    factors: weights.map((size) => (fanIn ? factor / Math.sqrt(size) : factor)),
  }
}
