import { argumentError } from '../../arguments.js'
import { LosscapeError } from '../../errors.js'
import { requireOptions } from '../../options.js'

/**
 * Normalisation of activations:
 *
 * | kind | statistics | parameters of `NAME` | state |
 * |---|---|---|---|
 * | `bn` | of the batch per channel | `weight`, `bias` [C] | `running_mean`, `running_var` [C] |
 * | `gn` | per sample and group of channels | `weight`, `bias` [C] | |
 * | `ln` | per sample (one group) | `weight`, `bias` [C] | |
 * | `in` | per sample and channel | `weight`, `bias` [C] | |
 * | `bcn` | `bn`, then per sample and group | `pbn.weight`, `pbn.bias` [C], `weight`, `bias` [G] | `pbn.running_mean`, `pbn.running_var` [C] |
 * | `bcn-micro` | the same with running estimates in place of the batch's | as `bcn` | as `bcn` |
 * | `none` | convolutions with biases instead | | |
 */
export type NormKind = 'bn' | 'gn' | 'ln' | 'in' | 'bcn' | 'bcn-micro' | 'none'

/** A kind with settings; each kind takes only those that mean something to it. */
export interface NormSettings {
  readonly kind: NormKind
  /** G of gn, bcn, bcn-micro; must divide the channels of every layer. Default: the model's. */
  readonly groups?: number
  /** Added to variances, inside the root. Default 1e-5. */
  readonly epsilon?: number
  /** Share of the new batch in the running averages of bn and bcn. Default 0.1. */
  readonly momentum?: number
  /**
   * Share of the new batch in the estimates of bcn-micro, or 'lr': the learning rate of the step
   * (at most 1). Default 0.1.
   */
  readonly rate?: number | 'lr'
  /**
   * The first step of bcn-micro takes the mean and the biased variance of its batch as estimates,
   * whatever the rate. Default true; without it they move from (0, 1), over about 1 / rate steps in
   * which activations are far from normalised.
   */
  readonly warmStart?: boolean
  /** Statistics of bn, bcn and bcn-micro never change, in training neither. Default false. */
  readonly frozen?: boolean
}

export type NormOption = NormKind | NormSettings

/** Settings with all defaults filled in. */
export type Norm = NormSettings & { readonly epsilon: number; readonly groups: number }

const FIELDS: Readonly<Record<NormKind, readonly (keyof NormSettings)[]>> = {
  bn: ['epsilon', 'momentum', 'frozen'],
  gn: ['groups', 'epsilon'],
  ln: ['epsilon'],
  in: ['epsilon'],
  bcn: ['groups', 'epsilon', 'momentum', 'frozen'],
  'bcn-micro': ['groups', 'epsilon', 'rate', 'warmStart', 'frozen'],
  none: [],
}

export const NORM_KINDS = Object.keys(FIELDS) as NormKind[]

/** Statistics over a batch: outputs of a sample depend on the others of its step. */
export const usesBatch = ({ kind, frozen }: Norm): boolean =>
  (kind === 'bn' || kind === 'bcn' || kind === 'bcn-micro') && frozen !== true

/**
 * The settings of a norm, checked.
 *
 * @param groups of the model, where the option leaves them open
 * @throws ERR_ARGUMENT for unknown kinds, settings of other kinds and values out of range, a rate of
 * 0 among them: what the published code does, whose estimates therefore never leave (0, 1)
 */
export function resolveNorm(where: string, option: NormOption, groups: number): Norm {
  const given = typeof option === 'string' ? { kind: option } : option
  if (typeof given !== 'object' || given === null || !NORM_KINDS.includes(given.kind)) {
    const what = `one of ${NORM_KINDS.join(', ')}, or an object with that kind`
    throw argumentError(where, 'norm', what, typeof given === 'object' ? given?.kind : given)
  }
  const { kind } = given
  requireOptions(`${where}: norm '${kind}'`, given, ['kind', ...FIELDS[kind]])
  const has = (name: keyof NormSettings): boolean => FIELDS[kind].includes(name)
  const norm: Norm = {
    kind,
    groups: given.groups ?? groups,
    epsilon: given.epsilon ?? 1e-5,
    ...(has('momentum') && { momentum: given.momentum ?? 0.1 }),
    ...(has('rate') && { rate: given.rate ?? 0.1, warmStart: given.warmStart ?? true }),
    ...(has('frozen') && { frozen: given.frozen ?? false }),
  }
  requireNorm(where, norm)
  return norm
}

function requireNorm(where: string, norm: Norm): void {
  const { kind, groups, epsilon, momentum = 0.1, rate = 0.1, warmStart, frozen } = norm
  const fail = (name: string, what: string, got: unknown): never => {
    throw argumentError(`${where}: norm '${kind}'`, name, what, got)
  }
  if (!(Number.isSafeInteger(groups) && groups >= 1)) {
    fail('groups', 'a positive integer', groups)
  }
  if (!(Number.isFinite(epsilon) && epsilon > 0)) fail('epsilon', 'a positive number', epsilon)
  if (!(momentum > 0 && momentum <= 1)) fail('momentum', 'a number 0 < m <= 1', momentum)
  for (const [name, flag] of Object.entries({ warmStart, frozen })) {
    if (flag !== undefined && typeof flag !== 'boolean') fail(name, 'true or false', flag)
  }
  if (rate === 0 && frozen !== true) {
    fail('rate', 'above 0, or frozen: true for estimates that never change', rate)
  }
  if (rate !== 'lr' && !(rate >= 0 && rate <= 1)) fail('rate', "a number 0 < r <= 1, or 'lr'", rate)
}

/** What a configuration records: the kind with the settings that it takes. */
export function normConfig(norm: Norm): NormSettings {
  const fields = FIELDS[norm.kind].map((name) => [name, norm[name]])
  return { kind: norm.kind, ...Object.fromEntries(fields) }
}

/**
 * G of a layer with C channels.
 * @throws ERR_ARGUMENT unless the groups divide the channels: which others fit is the user's choice
 */
export function groupsOf(where: string, { kind, groups }: Norm, channels: number): number {
  if (channels % groups === 0) return groups
  const fitting = Array.from({ length: Math.min(channels, 64) }, (_, i) => i + 1)
    .filter((g) => channels % g === 0)
    .join(', ')
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `Norm '${kind}' of '${where}' cannot part ${channels} channels in ${groups} groups; ` +
      `choose norm: { kind: '${kind}', groups: G } with G of ${fitting}.`,
  )
}
