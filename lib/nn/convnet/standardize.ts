import { argumentError } from '../../arguments.js'
import * as ops from '../../ops/index.js'
import {
  SETTINGS,
  type StandardizePreset,
  type StandardizeSettings,
  standardizeSettings,
} from '../../ops/weight-standardize-options.js'
import { requireOptions } from '../../options.js'
import type { TensorMap } from '../model.js'
import type { Filter } from './structure.js'

/** Weight standardisation of a network: numbers or a preset, and learnable gains. */
export interface StandardizationSettings extends StandardizeSettings {
  /** A factor per filter, `NAME.gain` [O], that begins at 1. Default true for nfnet and timm-scaled. */
  readonly gain?: boolean
}

/** true is the default of weightStandardize(): unbiased variance, epsilon 1e-5 inside the root. */
export type StandardizationOption = boolean | StandardizePreset | StandardizationSettings

export interface Standardization extends StandardizationSettings {
  readonly gain: boolean
}

/** @throws ERR_ARGUMENT for unknown presets and settings */
export function resolveStandardization(
  where: string,
  option: StandardizationOption,
): Standardization | null {
  if (option === false) return null
  const given: StandardizationSettings =
    option === true ? {} : typeof option === 'string' ? { preset: option } : option
  if (typeof given !== 'object' || given === null) {
    throw argumentError(where, 'ws', 'true, false, a preset or options', option)
  }
  const label = `${where}: weight standardisation`
  requireOptions(label, given, [...SETTINGS, 'gain'])
  const { gain = given.preset === 'nfnet' || given.preset === 'timm-scaled', ...settings } = given
  if (typeof gain !== 'boolean') throw argumentError(label, 'gain', 'true or false', gain)
  standardizeSettings(label, settings)
  return { ...settings, gain }
}

/** `conv1.gain` of `conv1.weight`, as timm names it. */
export const gainName = (weight: string): string => weight.replace(/weight$/, 'gain')

/** Weights by name as the convolutions use them: all filters in one operation. */
export function standardizeFilters(
  parameters: TensorMap,
  filters: readonly Filter[],
  { gain, ...settings }: Standardization,
): TensorMap {
  const weights = ops.weightStandardize(
    filters.map(({ name }) => parameters[name]),
    { ...settings, ...(gain && { gain: filters.map(({ name }) => parameters[gainName(name)]) }) },
  )
  return {
    ...parameters,
    ...Object.fromEntries(filters.map(({ name }, i) => [name, weights[i]])),
  }
}
