import { argumentError, isShape, requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import * as ops from '../ops/index.js'
import { requireOptions } from '../options.js'
import { elements } from '../program/shape.js'
import type { Tensor } from '../program/tensor.js'
import type { Shape } from '../program/types.js'
import type { Initializer, Parameter } from './init.js'
import { defineModel, type Model } from './model.js'

export const ACTIVATIONS = {
  relu: ops.relu,
  'leaky-relu': (x: Tensor): Tensor => ops.leakyRelu(x),
  tanh: ops.tanh,
  sigmoid: ops.sigmoid,
  softplus: ops.softplus,
  gelu: (x: Tensor): Tensor => ops.gelu(x),
  'gelu-tanh': (x: Tensor): Tensor => ops.gelu(x, 'tanh'),
  silu: ops.silu,
  identity: (x: Tensor): Tensor => x,
} as const

export type Activation = keyof typeof ACTIVATIONS

/** Weights of the linear layers; biases follow with `pytorch`, are normal with `normal`, else 0. */
export type MlpInit =
  | 'pytorch'
  | 'kaiming-uniform'
  | 'kaiming-normal'
  | 'xavier-uniform'
  | 'xavier-normal'
  | { readonly kind: 'normal'; readonly std: number }

export interface MlpOptions {
  /** Shape of one sample, or its number of features; flattened. */
  readonly input: Shape | number
  /** Widths of the hidden layers; [] is a linear model. */
  readonly hidden: readonly number[]
  /** Outputs per sample. */
  readonly classes: number
  /** Default 'relu'. */
  readonly activation?: Activation
  /** Default true. */
  readonly bias?: boolean
  /** Layer normalisation before every activation. Default false. */
  readonly layerNorm?: boolean
  /** Probability with which hidden units are dropped in training. Default 0. */
  readonly dropout?: number
  /** Default 'pytorch': U(-1/√in, 1/√in) for weights and biases. */
  readonly init?: MlpInit
}

/**
 * Multilayer perceptron: x → linear → [layer norm] → activation → [dropout] → .. → linear.
 * Parameters `layers.I.weight` [out, in], `layers.I.bias` [out], `norms.I.weight`, `norms.I.bias`.
 *
 * @throws ERR_ARGUMENT for widths that are not positive integers or an unknown activation
 */
export function mlp(options: MlpOptions): Model {
  requireArguments('mlp()', { options })
  const {
    hidden,
    classes,
    activation = 'relu',
    bias = true,
    layerNorm = false,
    dropout = 0,
    init = 'pytorch',
  } = options
  requireOptions('mlp()', options, [
    ...(['input', 'hidden', 'classes', 'activation', 'bias', 'layerNorm'] as const),
    ...(['dropout', 'init'] as const),
  ])
  if (!Array.isArray(hidden)) {
    throw argumentError('mlp()', 'hidden', 'a list of widths, [] for none', hidden)
  }
  const input = typeof options.input === 'number' ? [options.input] : options.input
  if (!Array.isArray(input)) {
    throw argumentError('mlp()', 'input', 'the shape of a sample, or its features', options.input)
  }
  const widths = [elements(input), ...hidden, classes]
  if (!isShape([...input, ...widths])) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `An MLP needs positive integer widths, got ${widths.map(String).join('-')}.`,
    )
  }
  const activate = Object.hasOwn(ACTIVATIONS, activation) ? ACTIVATIONS[activation] : null
  if (!activate) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `Unknown activation '${activation}'; expected one of ${Object.keys(ACTIVATIONS).join(', ')}.`,
    )
  }
  if (!(dropout >= 0 && dropout < 1)) {
    throw new LosscapeError('ERR_ARGUMENT', `dropout must satisfy 0 <= p < 1, got ${dropout}.`)
  }
  const depth = widths.length - 1
  const parameters: Parameter[] = []
  for (let i = 0; i < depth; i++) {
    const [fanIn, fanOut] = [widths[i], widths[i + 1]]
    const [weight, shift] = layerInit(init, fanIn)
    parameters.push({ name: `layers.${i}.weight`, shape: [fanOut, fanIn], init: weight })
    if (bias) parameters.push({ name: `layers.${i}.bias`, shape: [fanOut], init: shift })
    if (layerNorm && i < depth - 1) {
      parameters.push({ name: `norms.${i}.weight`, shape: [fanOut], init: { kind: 'ones' } })
      parameters.push({ name: `norms.${i}.bias`, shape: [fanOut], init: { kind: 'zeros' } })
    }
  }
  const name = `mlp:${widths.join('-')}`
  return defineModel({
    name,
    input,
    output: [classes],
    parameters,
    random: dropout > 0,
    config: { model: name, input, activation, bias, layerNorm, dropout, init },
    apply(p, x, { training, key }) {
      let a = ops.reshape(x, [x.shape[0], widths[0]])
      for (let i = 0; i < depth; i++) {
        a = ops.matmul(a, p[`layers.${i}.weight`], { transB: true })
        if (bias) a = ops.add(a, p[`layers.${i}.bias`])
        if (i === depth - 1) break
        if (layerNorm) {
          a = ops.layerNorm(a, { scale: p[`norms.${i}.weight`], shift: p[`norms.${i}.bias`] })
        }
        a = ops.tap(`layers.${i}`, activate(a))
        if (training && key) a = ops.dropout(a, dropout, key, i)
      }
      return a
    },
  })
}

function layerInit(init: MlpInit, fanIn: number): [weight: Initializer, bias: Initializer] {
  if (init === 'pytorch') {
    const uniform = { kind: 'uniform', bound: 1 / Math.sqrt(fanIn) } as const
    return [uniform, uniform]
  }
  if (typeof init !== 'string') {
    if (init?.kind === 'normal') return [init, init]
    throw argumentError('mlp()', 'init', "a name, or { kind: 'normal', std }", init)
  }
  const gain = init.startsWith('kaiming') ? Math.SQRT2 : 1
  return [{ kind: init, gain }, { kind: 'zeros' }]
}
