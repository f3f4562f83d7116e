import { argumentError, isShape, requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import { elements } from '../program/shape.js'
import type { Tensor } from '../program/tensor.js'
import type { Shape, TensorType } from '../program/types.js'
import { atOnce, inSlices } from '../slices.js'
import { initialParameters, type Parameter } from './init.js'
import { ParameterLayout } from './layout.js'

/** Parameter tensors by name, as a model's `apply` sees them. */
export type TensorMap = Readonly<Record<string, Tensor>>

/**
 * What normalisation over a batch uses: the statistics of the samples before it, which couple them,
 * or the `frozen` ones of the state, under which every sample stands alone.
 */
export type StatisticsMode = 'frozen' | 'batch'

/** What a model's `apply` is given beside parameters and samples. */
export interface ApplyContext {
  /** Dropout and the like are active. */
  readonly training: boolean
  /** Random key of the step; present when the model is `random` and `training`. */
  readonly key: Tensor | null
  /** State tensors σ by name; {} for a model without. */
  readonly state: TensorMap
  /** 'batch' in training, 'frozen' in evaluation; analyses choose. */
  readonly statistics: StatisticsMode
  /**
   * The optimiser's learning rate at this step, an f32 scalar, for rates of estimates; null outside
   * training, and for a model without state.
   */
  readonly lr: Tensor | null
  /**
   * Declares the new value σ' of a state tensor, of its shape and at most once a call; training
   * stores it after the step, everything else drops it. No gradient flows through it.
   */
  readonly update: (name: string, value: Tensor) => void
}

/** How {@link Model.apply} is called: what of an {@link ApplyContext} its caller decides. */
export interface ApplyOptions {
  readonly training: boolean
  readonly key: Tensor | null
  /** Default 'batch' when training, else 'frozen'. */
  readonly statistics?: StatisticsMode
  readonly lr?: Tensor | null
  /** Gets new values of the state; without it they are dropped. */
  readonly update?: (name: string, value: Tensor) => void
}

/** What a model is made of; see {@link defineModel}. */
export interface ModelDefinition {
  /** Reads as a model string where there is one, `mlp:784-256-10`. */
  readonly name: string
  /** Shape of one sample. */
  readonly input: Shape
  /** Shape of one output: [C] for logits. */
  readonly output: Shape
  readonly parameters: readonly Parameter[]
  /** Tensors that are not learned but carried along, σ: running statistics, estimates. */
  readonly state?: readonly Parameter[]
  /**
   * With statistics 'batch', the answer to one sample depends on the others of its batch. Default
   * false. Batches are then never padded.
   */
  readonly couplesSamples?: boolean
  /** Draws random numbers when training (dropout). Default false. */
  readonly random?: boolean
  /** Outputs [B, ...output] for samples x [B, ...input]. */
  readonly apply: (parameters: TensorMap, x: Tensor, context: ApplyContext) => Tensor
  /** What a run folder records to build the model again. */
  readonly config?: Readonly<Record<string, unknown>>
}

/**
 * A pure function f(θ, σ, x, key) of parameters, state and samples, with the layouts of the flat
 * vectors θ and σ.
 */
export class Model {
  readonly name: string
  readonly input: Shape
  readonly output: Shape
  readonly parameters: readonly Parameter[]
  readonly layout: ParameterLayout
  readonly state: readonly Parameter[]
  /** Of σ; of size 0 for a model without state. */
  readonly stateLayout: ParameterLayout
  readonly couplesSamples: boolean
  readonly random: boolean
  readonly config: Readonly<Record<string, unknown>>
  private readonly definition: ModelDefinition

  constructor(definition: ModelDefinition) {
    this.definition = definition
    this.name = definition.name
    this.input = definition.input
    this.output = definition.output
    this.parameters = definition.parameters
    this.layout = new ParameterLayout(definition.parameters)
    this.state = definition.state ?? []
    this.stateLayout = new ParameterLayout(this.state, 'state')
    this.couplesSamples = definition.couplesSamples ?? false
    this.random = definition.random ?? false
    this.config = definition.config ?? { model: definition.name }
  }

  /** n, the number of parameters. */
  get size(): number {
    return this.layout.size
  }

  /** Types of what `apply` takes before the samples: θ.., σ.. */
  get tensorTypes(): TensorType[] {
    const entries = [...this.layout.entries, ...this.stateLayout.entries]
    return entries.map(({ shape }) => ({ dtype: 'f32', shape }))
  }

  /**
   * Writes the model's operations to the current trace.
   *
   * @param tensors θ.., σ.. in the order of their layouts
   * @throws ERR_SHAPE when tensors, outputs or an update misfit; ERR_ARGUMENT for an update of a
   * state tensor that does not exist, or a second one
   */
  apply(tensors: readonly Tensor[], x: Tensor, options: ApplyOptions): Tensor {
    const { layout, stateLayout } = this
    const count = layout.entries.length
    if (tensors.length !== count + stateLayout.entries.length) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `Model '${this.name}' takes ${count} parameter and ${stateLayout.entries.length} state tensors, got ${tensors.length}.`,
      )
    }
    const { training, key, statistics = training ? 'batch' : 'frozen', lr = null } = options
    const y = this.definition.apply(named(layout, tensors.slice(0, count)), x, {
      training,
      key,
      state: named(stateLayout, tensors.slice(count)),
      statistics,
      lr,
      update: this.updater(options.update),
    })
    const expected = [x.shape[0], ...this.output]
    if (y.shape.join() !== expected.join()) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `Model '${this.name}' declared outputs [${expected}], its apply() returned [${y.shape}].`,
      )
    }
    return y
  }

  private updater(take: ApplyOptions['update']): ApplyContext['update'] {
    const seen = new Set<string>()
    return (name, value) => {
      const { shape } = this.stateLayout.entry(name)
      if (seen.has(name)) {
        throw new LosscapeError(
          'ERR_ARGUMENT',
          `Model '${this.name}' updates state '${name}' twice in one call.`,
        )
      }
      seen.add(name)
      if (value.shape.join() !== shape.join()) {
        throw new LosscapeError(
          'ERR_SHAPE',
          `State '${name}' of model '${this.name}' has shape [${shape}], its update [${value.shape}].`,
        )
      }
      take?.(name, value)
    }
  }

  /**
   * Start vector θ for a seed (default 0). Takes 60 to 100 ns a parameter of the calling thread:
   * see {@link initAsync} for large models in a service.
   */
  init(seed = 0): Float64Array {
    requireArguments('init()', { seed })
    return atOnce(initialParameters(this.parameters, this.layout, seed))
  }

  /**
   * The same start vector, made in slices of some milliseconds.
   * @throws ERR_ABORTED
   */
  async initAsync(
    seed = 0,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<Float64Array> {
    requireArguments('initAsync()', { seed })
    requireOptions('initAsync()', options, ['signal'])
    return inSlices(initialParameters(this.parameters, this.layout, seed), options.signal)
  }

  /** The state σ before any training; empty for a model without. */
  initState(): Float64Array {
    return atOnce(initialParameters(this.state, this.stateLayout, 0))
  }
}

function named(layout: ParameterLayout, tensors: readonly Tensor[]): TensorMap {
  return Object.fromEntries(layout.names.map((name, i) => [name, tensors[i]]))
}

/**
 * A model of one's own: declare parameters, write the function.
 *
 * @example
 * const linear = defineModel({
 *   name: 'linear', input: [4], output: [3],
 *   parameters: [{ name: 'weight', shape: [3, 4], init: { kind: 'normal', std: 0.1 } }],
 *   apply: ({ weight }, x) => ops.matmul(x, weight, { transB: true }),
 * })
 *
 * @throws ERR_ARGUMENT for repeated names or shapes that are not positive integers
 */
export function defineModel(definition: ModelDefinition): Model {
  requireOptions('define()', definition, [
    ...(['name', 'input', 'output', 'parameters', 'random', 'apply', 'config'] as const),
    ...(['state', 'couplesSamples'] as const),
  ])
  const { name, apply, parameters, state = [], couplesSamples = false } = definition
  requireArguments('define()', { name, apply })
  for (const [what, tensors] of Object.entries({ parameters, state })) {
    if (!Array.isArray(tensors) || !tensors.every((t) => typeof t?.name === 'string')) {
      throw argumentError('define()', what, 'a list of { name, shape, init }', tensors)
    }
  }
  if (typeof couplesSamples !== 'boolean') {
    throw argumentError('define()', 'couplesSamples', 'true or false', couplesSamples)
  }
  const names = new Set(parameters.map((parameter) => parameter.name))
  const both = state.find((tensor) => names.has(tensor.name))
  if (both) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `'${both.name}' of model '${name}' is both a parameter and state.`,
    )
  }
  const shapes: [string, Shape][] = [
    ['input', definition.input],
    ['output', definition.output],
    ...[...parameters, ...state].map(({ name, shape }): [string, Shape] => [name, shape]),
  ]
  for (const [name, shape] of shapes) {
    if (!isShape(shape)) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `'${name}' of model '${definition.name}' has shape [${String(shape)}]; expected positive integers.`,
      )
    }
  }
  if (elements(definition.output) < 1 || definition.parameters.length === 0) {
    throw new LosscapeError('ERR_ARGUMENT', `Model '${definition.name}' has no parameters.`)
  }
  return new Model(definition)
}
