import { argumentError } from '../../arguments.js'
import { karatFeatureCount } from '../../ops/karat-bases.js'
import type { EdgeBasis } from '../../ops/karat-edges-functions.js'
import { requireOptions } from '../../options.js'
import type { Initializer, Parameter } from '../init.js'
import {
  isSeparable,
  type KaratInit,
  type KaratOptions,
  type KaratSetting,
  karatSetting,
} from './options.js'

/**
 * The tensors of `heads` learnable heads on N tokens:
 *
 * | name | shape | when |
 * |---|---|---|
 * | `a`, `b` | [h, r, N, G] | Fourier basis |
 * | `c` | [h, r, N, J] | another basis of J features |
 * | `w`, `tau`, `scale` | [h, 1, N, r] | wavelets |
 * | `numerator`, `denominator` | [h, 6, N, r], [h, 4, N, r] | rational functions |
 * | `ws`, `wb` | [h, r, N] | `edgeScales` |
 * | `c0` | [h, r] | `latentBias` |
 * | `weight` | [h, N, r] | order 'w-phi' and 'phi-w' |
 *
 * In order 'phi-w' the functions lead from latent p to token n, in 'phi-phi' a second set does
 * (`a2`, `b2`, ..); in order 'full' r is N. Wavelets and rational functions from latents to tokens
 * have [.., r, N] in place of [.., N, r].
 *
 * @throws ERR_ARGUMENT unless `heads` and `tokens` are positive integers; see karatSetting()
 */
export function karatParameters(
  options: Omit<KaratOptions, 'heads'>,
  sizes: { readonly heads: number; readonly tokens: number; readonly prefix?: string },
): Parameter[] {
  requireOptions('karatParameters()', sizes, ['heads', 'tokens', 'prefix'])
  const { heads, tokens, prefix = '' } = sizes
  for (const [name, value] of Object.entries({ heads, tokens })) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw argumentError('karatParameters()', name, 'a positive integer', value)
    }
  }
  if (typeof prefix !== 'string') {
    throw argumentError('karatParameters()', 'prefix', 'a string', prefix)
  }
  const setting = karatSetting(options)
  const { order } = setting
  const r = order === 'full' ? tokens : setting.r
  const fromLatents = order === 'phi-w'
  const list = functions(setting, { heads, tokens, r, fromLatents, suffix: '' })
  if (order === 'phi-phi') {
    list.push(...functions(setting, { heads, tokens, r, fromLatents: true, suffix: '2' }))
  }
  if (setting.latentBias) list.push({ name: 'c0', shape: [heads, r], init: { kind: 'zeros' } })
  if (order === 'w-phi' || order === 'phi-w') {
    const bound = 1 / Math.sqrt(r)
    // Var O = Var V asks for 1 / (r N); for 'phi-w' the latents should spread like the scores.
    const std = order === 'w-phi' ? 1 / Math.sqrt(r * tokens) : 1 / Math.sqrt(tokens)
    const init: Initializer =
      setting.init === 'paper' ? { kind: 'uniform', bound } : { kind: 'normal', std }
    list.push({ name: 'weight', shape: [heads, tokens, r], init })
  }
  return list.map((parameter) => ({ ...parameter, name: prefix + parameter.name }))
}

interface FunctionShape {
  readonly heads: number
  readonly tokens: number
  readonly r: number
  /** From r latents to N tokens, rather than from N tokens to r latents. */
  readonly fromLatents: boolean
  readonly suffix: '' | '2'
}

function functions(setting: KaratSetting, shape: FunctionShape): Parameter[] {
  const { basis, edgeScales, init } = setting
  const { heads, tokens, r, fromLatents, suffix } = shape
  const inputs = fromLatents ? r : tokens
  // From latents to weights, and in 'full', the variance of a weight has to be that of a mean.
  const outputs = fromLatents || setting.order === 'full' ? tokens : 1
  const edge = [heads, r, tokens]
  const unit = 1 / Math.sqrt(inputs * outputs)
  if (!isSeparable(basis)) return edgeTensors(basis, init, shape, unit)
  const J = basis.kind === 'fourier' ? basis.harmonics : karatFeatureCount(basis)
  const hasFrequencies = basis.kind === 'fourier' || basis.kind === 'chebyshev'
  const coefficient: Initializer =
    init === 'paper'
      ? { kind: 'normal', std: 1 }
      : init === 'smooth' && hasFrequencies
        ? { kind: 'normal', std: unit, decay: 2 }
        : { kind: 'normal', std: unit / Math.sqrt(J) }
  const names = basis.kind === 'fourier' ? ['a', 'b'] : ['c']
  const list: Parameter[] = names.map((name) => ({
    name: name + suffix,
    shape: [...edge, J],
    init: coefficient,
  }))
  if (edgeScales) {
    list.push({ name: `ws${suffix}`, shape: edge, init: { kind: 'ones' } })
    const base: Initializer = init === 'paper' ? { kind: 'ones' } : { kind: 'normal', std: unit }
    list.push({ name: `wb${suffix}`, shape: edge, init: base })
  }
  return list
}

/** Weights w of wavelets begin normal, translations at 0, scales at 1; rational coefficients normal. */
function edgeTensors(
  basis: EdgeBasis,
  start: KaratInit,
  { heads, tokens, r, fromLatents, suffix }: FunctionShape,
  unit: number,
): Parameter[] {
  const edge = fromLatents ? [r, tokens] : [tokens, r]
  const normal: Initializer = { kind: 'normal', std: start === 'paper' ? 1 : unit }
  const begins: Readonly<Record<string, Initializer>> = {
    tau: { kind: 'zeros' },
    scale: { kind: 'ones' },
  }
  return edgeParts(basis).map(({ name, count }) => ({
    name: name + suffix,
    shape: [heads, count, ...edge],
    init: begins[name] ?? normal,
  }))
}

/** The tensors behind the parameters of a non-separable edge, in the order of the operation. */
export function edgeParts(basis: EdgeBasis): readonly { name: string; count: number }[] {
  if (basis.kind === 'rational') {
    return [
      { name: 'numerator', count: basis.numerator + 1 },
      { name: 'denominator', count: basis.denominator },
    ]
  }
  return ['w', 'tau', 'scale'].map((name) => ({ name, count: 1 }))
}
