import type { ApplyOptions, Model } from '../../../lib/nn/model.js'
import * as ops from '../../../lib/ops/index.js'
import { evaluate, hessianVectorProduct, trace, valueAndGrad } from '../../../lib/program/index.js'
import type { Tensor } from '../../../lib/program/tensor.js'
import type { Program, Shape } from '../../../lib/program/types.js'
import { split } from '../support.js'

type Vector = Float64Array

export const views = (model: Model, state: Vector): Vector[] =>
  model.stateLayout.names.map((name) => model.stateLayout.view(state, name))

const joined = (parts: readonly ArrayLike<number>[]): Vector =>
  Float64Array.from(parts.flatMap((part) => Array.from(part)))

/** How one pass is made. */
export type Way = Partial<Pick<ApplyOptions, 'training' | 'statistics'>> & { readonly lr?: number }

const options = ({ training = false, statistics }: Way, lr: Tensor | null): ApplyOptions => ({
  ...{ training, key: null, lr },
  ...(statistics && { statistics }),
})

function shapesOf(model: Model, x: ArrayLike<number>): Shape[] {
  const size = model.input.reduce((n, d) => n * d, 1)
  return [...model.tensorTypes.map(({ shape }) => shape), [x.length / size, ...model.input]]
}

/** One pass: from (θ.., σ.., x [, lr]) to (outputs, updates of σ..). */
export function passProgram(model: Model, x: ArrayLike<number>, way: Way = {}) {
  const names: string[] = []
  const program = trace(
    (...args) => {
      const updates: Tensor[] = []
      const lr = way.lr === undefined ? null : (args.pop() as Tensor)
      const y = model.apply(args.slice(0, -1), args[args.length - 1], {
        ...options(way, lr),
        update(name, value) {
          names.push(name)
          updates.push(value)
        },
      })
      return [y, ...updates]
    },
    [...shapesOf(model, x), ...(way.lr === undefined ? [] : [[]])],
  )
  const run = (inputs: readonly ArrayLike<number>[]): Vector[] => evaluate(program, inputs)
  return { program, names, run }
}

/** Outputs, and the state that the pass leaves, in float64 by the reference evaluator. */
export function pass(
  model: Model,
  theta: Vector,
  state: Vector,
  x: ArrayLike<number>,
  way: Way = {},
): { outputs: Vector; state: Vector } {
  const { names, run } = passProgram(model, x, way)
  const inputs = [...split(model, theta), ...views(model, state), x]
  const [outputs, ...updates] = run(way.lr === undefined ? inputs : [...inputs, [way.lr]])
  const next = state.slice()
  for (const [i, name] of names.entries()) {
    next.set(updates[i], model.stateLayout.entry(name).offset)
  }
  return { outputs, state: next }
}

/** Gradient and Hessian products of a busy loss of the outputs. */
export class Curvature {
  private readonly shapes: Shape[]

  constructor(
    private readonly model: Model,
    private readonly state: Vector,
    private readonly x: ArrayLike<number>,
    private readonly way: Way = {},
  ) {
    this.shapes = shapesOf(model, x)
  }

  private readonly loss = (...args: Tensor[]): Tensor => {
    const y = this.model.apply(args.slice(0, -1), args[args.length - 1], options(this.way, null))
    return ops.sum(ops.mul(ops.tanh(y), ops.add(y, 0.3)))
  }

  private get inputs(): ArrayLike<number>[] {
    return [...views(this.model, this.state), this.x]
  }

  get gradient(): Program {
    const wanted = this.model.layout.entries.map((_, i) => i)
    return trace((...args) => valueAndGrad(this.loss, wanted)(...args).gradient, this.shapes)
  }

  get product(): Program {
    const [all, learned] = [this.shapes.length, this.model.layout.entries.length]
    return trace(
      (...args) => hessianVectorProduct(this.loss)(args.slice(0, all), args.slice(all)),
      [...this.shapes, ...this.shapes.slice(0, learned)],
    )
  }

  grad(theta: Vector): Vector {
    return joined(evaluate(this.gradient, [...split(this.model, theta), ...this.inputs]))
  }

  hvp(theta: Vector, v: Vector): Vector {
    const inputs = [...split(this.model, theta), ...this.inputs, ...split(this.model, v)]
    return joined(evaluate(this.product, inputs))
  }
}
