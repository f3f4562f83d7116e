import { LosscapeError } from '../../errors.js'
import * as ops from '../../ops/index.js'
import type { Tensor } from '../../program/tensor.js'
import type { Shape } from '../../program/types.js'
import type { Initializer, Parameter } from '../init.js'
import { type ApplyContext, defineModel, type Model, type TensorMap } from '../model.js'
import { type Norm, usesBatch } from './norm-options.js'
import {
  applyNorm,
  COUNTER,
  type NormEnd,
  type NormPass,
  type NormPlace,
  normParameters,
  normState,
} from './norms.js'
import { estimateRate } from './rate.js'
import { gainName, type Standardization, standardizeFilters } from './standardize.js'
import { type Filter, register, type Structure } from './structure.js'

/** Part of a network: writes its operations on x [B, H, W, C]. */
export type Layer = (x: Tensor, pass: Pass, end?: NormEnd) => Tensor

/** One pass through a network: weights as the convolutions use them. */
export interface Pass extends NormPass {
  readonly weights: TensorMap
}

export interface ConvolutionOptions {
  readonly inputs: number
  readonly outputs: number
  /** Edge of the square kernel. */
  readonly kernel: number
  /** Default 1. */
  readonly stride?: number
  /** Default 1; padding keeps the size at stride 1. */
  readonly dilation?: number
  /** Default: what keeps the size at stride 1. */
  readonly padding?: number
  /** Default 1. */
  readonly groups?: number
  /** Default: only in a network without norms. */
  readonly bias?: boolean
  /** Default Kaiming normal, fan-out, gain √2. */
  readonly init?: Initializer
  /** Of the bias. Default zeros. */
  readonly biasInit?: Initializer
  /** The norm directly behind it, before anything else: what `fold` can fold. */
  readonly norm?: string
  /** Takes part in weight standardisation, as some norm follows. Default true. */
  readonly standardized?: boolean
}

/**
 * Collects what the layers of a convolutional network declare, in order, and hands back layers
 * that apply it: parameters under torchvision's names, state of the norms, and the filters that
 * weight standardisation takes, all in one operation a pass.
 */
export class Builder {
  readonly parameters: Parameter[] = []
  readonly state: Parameter[] = []
  readonly filters: Filter[] = []

  constructor(
    readonly norm: Norm,
    readonly ws: Standardization | null,
  ) {}

  /** Whether a convolution before a norm has a bias by default. */
  get hasBias(): boolean {
    return this.norm.kind === 'none'
  }

  convolution(name: string, options: ConvolutionOptions): Layer {
    const { inputs, outputs, kernel, stride = 1, dilation = 1, groups = 1, norm } = options
    const { bias = this.hasBias, padding = (dilation * (kernel - 1)) / 2 } = options
    const { standardized = true } = options
    const weight = `${name}.weight`
    const shape = [outputs, inputs / groups, kernel, kernel]
    if (!shape.every((d) => Number.isSafeInteger(d) && d >= 1) || outputs % groups !== 0) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `Convolution '${name}' would take ${inputs} to ${outputs} channels in ${groups} groups; ` +
          'choose a width that gives whole numbers.',
      )
    }
    if (standardized && this.ws && shape[1] * kernel * kernel < 2) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `Filters of '${name}' have one weight, which weight standardisation would make 0; ` +
          'choose ws: false, or more channels.',
      )
    }
    const init: Initializer = options.init ?? {
      kind: 'normal',
      std: Math.sqrt(2 / (outputs * kernel * kernel)),
    }
    this.parameters.push({ name: weight, shape, init })
    const zeros: Initializer = { kind: 'zeros' }
    if (bias) {
      this.parameters.push({
        name: `${name}.bias`,
        shape: [outputs],
        init: options.biasInit ?? zeros,
      })
    }
    if (standardized) {
      this.filters.push({ name: weight, norm, bias })
      if (this.ws?.gain) {
        this.parameters.push({ name: gainName(weight), shape: [outputs], init: { kind: 'ones' } })
      }
    }
    return (x, { weights, parameters }) => {
      const y = ops.convolution(x, weights[weight], {
        ...{ stride, padding, dilation, groups },
        layout: 'nhwc',
      })
      return bias ? ops.add(y, parameters[`${name}.bias`]) : y
    }
  }

  /** The norm alone; the last of a residual branch may begin with scale 0. */
  normalization(name: string, channels: number, zero = false): Layer {
    const place: NormPlace = { name, channels, zero }
    this.parameters.push(...normParameters(this.norm, place))
    this.state.push(...normState(this.norm, place))
    return (x, pass, end) => applyNorm(this.norm, name, x, pass, end)
  }

  /** A convolution and the norm behind it. */
  normalized(
    name: string,
    norm: string,
    options: Omit<ConvolutionOptions, 'norm'> & { readonly zero?: boolean },
  ): Layer {
    const { zero = false, ...rest } = options
    const convolve = this.convolution(name, { ...rest, norm })
    const normalize = this.normalization(norm, options.outputs, zero)
    return (x, pass, end) => normalize(convolve(x, pass), pass, end)
  }

  /** x Wᵀ + b over the last axis, begun as PyTorch begins linear layers unless `init` says. */
  linear(name: string, outputs: number, inputs: number, std?: number): Layer {
    const uniform: Initializer = { kind: 'uniform', bound: 1 / Math.sqrt(inputs) }
    const normal: Initializer = { kind: 'normal', std: std ?? 0 }
    this.parameters.push(
      {
        name: `${name}.weight`,
        shape: [outputs, inputs],
        init: std === undefined ? uniform : normal,
      },
      {
        name: `${name}.bias`,
        shape: [outputs],
        init: std === undefined ? uniform : { kind: 'zeros' },
      },
    )
    return (x, { parameters: p }) =>
      ops.add(ops.matmul(x, p[`${name}.weight`], { transB: true }), p[`${name}.bias`])
  }

  /** The model of everything declared so far; images [B, C, H, W] reach `forward` as [B, H, W, C]. */
  model(definition: {
    readonly name: string
    readonly input: Shape
    readonly output: Shape
    readonly random?: boolean
    readonly config: Readonly<Record<string, unknown>>
    readonly forward: (x: Tensor, pass: Pass) => Tensor
    /** The same network with other norms or without standardisation, for `fold`. */
    readonly rebuild: Structure['rebuild']
  }): Model {
    const { forward, rebuild, name, config, ...rest } = definition
    const { norm, ws } = this
    const state: Parameter[] =
      this.state.length > 0
        ? [...this.state, { name: COUNTER, shape: [], init: { kind: 'zeros' } }]
        : []
    const model = defineModel({
      ...rest,
      name,
      parameters: this.parameters,
      state,
      couplesSamples: this.state.length > 0 && usesBatch(norm),
      config: { model: name, ...config },
      apply: (parameters, images, context) => {
        const x = ops.transpose(images, [0, 2, 3, 1])
        return forward(x, this.begin(parameters, context))
      },
    })
    register(model, { filters: this.filters, norm, ws, rebuild })
    return model
  }

  private begin(parameters: TensorMap, context: ApplyContext): Pass {
    const { filters, norm, ws } = this
    const weights = ws ? standardizeFilters(parameters, filters, ws) : parameters
    const live = this.state.length > 0 && usesBatch(norm) && context.statistics === 'batch'
    if (live) context.update(COUNTER, ops.add(context.state[COUNTER], 1))
    const estimate = live && norm.kind === 'bcn-micro' ? estimateRate(norm, context) : null
    return { parameters, weights, context, estimate }
  }
}
