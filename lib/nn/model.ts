import { argumentError, isShape, requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import { elements } from '../program/shape.js'
import type { Tensor } from '../program/tensor.js'
import type { Shape } from '../program/types.js'
import { atOnce, inSlices } from '../slices.js'
import { initialParameters, type Parameter } from './init.js'
import { ParameterLayout } from './layout.js'

/** Parameter tensors by name, as a model's `apply` sees them. */
export type TensorMap = Readonly<Record<string, Tensor>>

export interface ApplyContext {
  /** Dropout and the like are active. */
  readonly training: boolean
  /** Random key of the step; present when the model is `random` and `training`. */
  readonly key: Tensor | null
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
  /** Draws random numbers when training (dropout). Default false. */
  readonly random?: boolean
  /** Outputs [B, ...output] for samples x [B, ...input]. */
  readonly apply: (parameters: TensorMap, x: Tensor, context: ApplyContext) => Tensor
  /** What a run folder records to build the model again. */
  readonly config?: Readonly<Record<string, unknown>>
}

/** A pure function of parameters and samples, with the layout of its flat parameter vector. */
export class Model {
  readonly name: string
  readonly input: Shape
  readonly output: Shape
  readonly parameters: readonly Parameter[]
  readonly layout: ParameterLayout
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
    this.random = definition.random ?? false
    this.config = definition.config ?? { model: definition.name }
  }

  /** n, the number of parameters. */
  get size(): number {
    return this.layout.size
  }

  /** Writes the model's operations to the current trace. Throws ERR_SHAPE when outputs misfit. */
  apply(parameters: readonly Tensor[], x: Tensor, context: ApplyContext): Tensor {
    const named = Object.fromEntries(this.layout.names.map((name, i) => [name, parameters[i]]))
    const y = this.definition.apply(named, x, context)
    const expected = [x.shape[0], ...this.output]
    if (y.shape.join() !== expected.join()) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `Model '${this.name}' declared outputs [${expected}], its apply() returned [${y.shape}].`,
      )
    }
    return y
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
  ])
  const { name, apply, parameters: tensors } = definition
  requireArguments('define()', { name, apply })
  if (!Array.isArray(tensors) || !tensors.every((t) => typeof t?.name === 'string')) {
    throw argumentError('define()', 'parameters', 'a list of { name, shape, init }', tensors)
  }
  const shapes: [string, Shape][] = [
    ['input', definition.input],
    ['output', definition.output],
    ...definition.parameters.map(({ name, shape }): [string, Shape] => [name, shape]),
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
