import { newArray } from '../allocation.js'
import { argumentError } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { elements } from '../program/shape.js'
import type { Shape } from '../program/types.js'
import { fillSlices, normals, stream, uniforms } from '../random/index.js'
import { ranges, type Slices } from '../slices.js'
import type { ParameterLayout } from './layout.js'

/**
 * How a tensor begins. With fan_in = shape[1..] and fan_out = shape[0] (times kernel size) of a
 * weight [out, in, ..]:
 *
 * | kind | distribution |
 * |---|---|
 * | `zeros`, `ones` | constant |
 * | `identity` | 1 on the diagonal of the last two axes, else 0 |
 * | `values` | the given numbers, row-major |
 * | `normal` | N(0, std²); with `decay` N(0, (std / m^decay)²), m = 1, 2, .. along the last axis |
 * | `uniform` | U(-bound, bound) |
 * | `kaiming-uniform` | U(-b, b), b = gain √(3 / fan_in) |
 * | `kaiming-normal` | N(0, gain² / fan_in) |
 * | `xavier-uniform` | U(-b, b), b = gain √(6 / (fan_in + fan_out)) |
 * | `xavier-normal` | N(0, 2 gain² / (fan_in + fan_out)) |
 *
 * `gain` defaults to √2 (ReLU) for Kaiming and 1 for Xavier.
 */
export type Initializer =
  | { readonly kind: 'zeros' | 'ones' | 'identity' }
  | { readonly kind: 'values'; readonly values: readonly number[] }
  | { readonly kind: 'normal'; readonly std: number; readonly decay?: number }
  | { readonly kind: 'uniform'; readonly bound: number }
  | {
      readonly kind: 'kaiming-uniform' | 'kaiming-normal' | 'xavier-uniform' | 'xavier-normal'
      readonly gain?: number
    }

const KINDS: readonly string[] = [
  ...['zeros', 'ones', 'identity', 'values', 'normal', 'uniform'],
  ...['kaiming-uniform', 'kaiming-normal', 'xavier-uniform', 'xavier-normal'],
]

/** A tensor of a model, learned or of its state. */
export interface Parameter {
  readonly name: string
  readonly shape: Shape
  readonly init: Initializer
}

function fans(name: string, shape: Shape): { fanIn: number; fanOut: number } {
  if (shape.length < 2) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `Parameter '${name}' of shape [${shape}] has no fan: Kaiming and Xavier need at least two axes.`,
    )
  }
  const kernel = elements(shape.slice(2))
  return { fanIn: shape[1] * kernel, fanOut: shape[0] * kernel }
}

/** @throws ERR_ARGUMENT for an unknown kind or a scale that is not a non-negative number */
function requireInit(name: string, init: Initializer): void {
  if (typeof init !== 'object' || init === null) {
    throw argumentError(`Parameter '${name}'`, 'init', 'an object with a kind', init)
  }
  const scale = init.kind === 'normal' ? init.std : init.kind === 'uniform' ? init.bound : 1
  const gain = 'gain' in init ? (init.gain ?? 1) : 1
  if (KINDS.includes(init.kind) && Number.isFinite(scale) && scale >= 0 && Number.isFinite(gain)) {
    return
  }
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `Parameter '${name}' has no usable initialisation: ${JSON.stringify(init)}. Kinds: ${KINDS.join(', ')}; normal needs std, uniform needs bound.`,
  )
}

function* fillOne(
  { name, shape, init }: Parameter,
  out: Float64Array,
  seed: number,
  index: number,
): Slices<void> {
  function* draw(kind: 'uniform' | 'normal', scale: number): Slices<void> {
    yield* fillSlices(kind === 'uniform' ? uniforms : normals, seed, stream('init', index), out)
    for (const [from, to] of ranges(out.length, 2 ** 18)) {
      for (let i = from; i < to; i++) {
        out[i] = kind === 'uniform' ? scale * (2 * out[i] - 1) : scale * out[i]
      }
      yield
    }
  }
  requireInit(name, init)
  switch (init.kind) {
    case 'zeros':
      out.fill(0)
      return
    case 'ones':
      out.fill(1)
      return
    case 'identity': {
      const [rows, columns] = shape.slice(-2)
      for (let i = 0; i < out.length; i++) {
        out[i] = Math.floor(i / columns) % rows === i % columns ? 1 : 0
      }
      return
    }
    case 'values':
      if (init.values.length !== out.length) {
        throw new LosscapeError(
          'ERR_SHAPE',
          `Parameter '${name}' of shape [${shape}] begins with ${init.values.length} values.`,
        )
      }
      out.set(init.values)
      return
    case 'normal': {
      yield* draw('normal', init.std)
      const { decay = 0 } = init
      const width = shape.at(-1) ?? 1
      if (decay !== 0) for (let i = 0; i < out.length; i++) out[i] /= (1 + (i % width)) ** decay
      return
    }
    case 'uniform':
      yield* draw('uniform', init.bound)
      return
  }
  const { fanIn, fanOut } = fans(name, shape)
  const kaiming = init.kind.startsWith('kaiming')
  const gain = init.gain ?? (kaiming ? Math.SQRT2 : 1)
  const variance = (gain * gain) / (kaiming ? fanIn : (fanIn + fanOut) / 2)
  if (init.kind.endsWith('uniform')) yield* draw('uniform', Math.sqrt(3 * variance))
  else yield* draw('normal', Math.sqrt(variance))
}

/**
 * The start vector θ of a model: tensor i is drawn from stream i of the seed, so the same seed
 * gives the same numbers on every machine. Computed in float64, rounded once by the caller.
 */
export function* initialParameters(
  parameters: readonly Parameter[],
  layout: ParameterLayout,
  seed: number,
): Slices<Float64Array> {
  const theta = newArray(Float64Array, layout.size, 'The parameters of the model')
  for (const [i, parameter] of parameters.entries()) {
    yield* fillOne(parameter, layout.view(theta, parameter.name), seed, i)
  }
  return theta
}
