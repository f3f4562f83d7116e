import { requireOptions } from '../options.js'
import { checkOption } from './check.js'

/**
 * Exponential moving average of the parameters: after step t = 0, 1, ..., avg += (1 - d)(θ - avg),
 * starting from the start vector.
 */
export interface EmaOptions {
  /** d in [0, 1). */
  readonly decay: number
  /** Takes min(d, (1 + t) / (10 + t)), so that short runs forget their start. Default false. */
  readonly warmup?: boolean
}

/** A decay, or options. */
export type EmaSpec = number | EmaOptions

/** @throws ERR_ARGUMENT */
export function resolveEma(spec: EmaSpec): Required<EmaOptions> {
  const options = typeof spec === 'number' ? { decay: spec } : spec
  requireOptions('ema', options, ['decay', 'warmup'])
  const { decay, warmup = false } = options
  checkOption(decay >= 0 && decay < 1, 'Training', 'the decay of ema to be in [0, 1)', decay)
  checkOption(typeof warmup === 'boolean', 'Training', 'warmup of ema to be true or false', warmup)
  return { decay, warmup }
}
