import type { Model } from '../../lib/nn/model.js'
import * as ops from '../../lib/ops/index.js'
import { evaluate, hessianVectorProduct, trace, valueAndGrad } from '../../lib/program/index.js'
import type { Tensor } from '../../lib/program/tensor.js'
import type { Program } from '../../lib/program/types.js'
import { normals } from '../../lib/random/index.js'

/** Standard normal numbers from a stream of their own. */
export const gaussian = (seed: number, n: number): Float64Array =>
  normals(seed, 77, 0, n, new Float64Array(n))

/** The tensors of a parameter vector. */
export const split = (model: Model, theta: Float64Array): Float64Array[] =>
  model.layout.names.map((name) => model.layout.view(theta, name))

const join = (parts: readonly Float64Array[]): Float64Array =>
  Float64Array.from(parts.flatMap((part) => [...part]))

/** Logits of samples x, in float64 by the reference evaluator. */
export function logits(model: Model, theta: Float64Array, x: ArrayLike<number>): Float64Array {
  return evaluate(applyProgram(model, x), [...split(model, theta), x])[0]
}

export function applyProgram(model: Model, x: ArrayLike<number>): Program {
  const size = model.input.reduce((n, d) => n * d, 1)
  const shapes = model.layout.entries.map(({ shape }) => shape)
  return trace(
    (...args) =>
      model.apply(args.slice(0, -1), args[args.length - 1], { training: false, key: null }),
    [...shapes, [x.length / size, ...model.input]],
  )
}

/** A loss of the logits whose every derivative is busy. */
const lossOf = (y: Tensor): Tensor => ops.sum(ops.mul(ops.tanh(y), ops.add(y, 0.3)))

/** Loss, gradient and Hessian product of a model at θ, in float64. */
export class Curvature {
  readonly gradient: Program
  readonly product: Program
  private readonly value: Program

  constructor(
    private readonly model: Model,
    private readonly x: ArrayLike<number>,
  ) {
    const size = model.input.reduce((n, d) => n * d, 1)
    const shapes = model.layout.entries.map(({ shape }) => shape)
    const n = shapes.length
    const input = [x.length / size, ...model.input]
    const loss = (...args: Tensor[]): Tensor =>
      lossOf(model.apply(args.slice(0, n), args[n], { training: false, key: null }))
    const selection = shapes.map((_, i) => i)
    this.value = trace(loss, [...shapes, input])
    this.gradient = trace(
      (...args) => valueAndGrad(loss, selection)(...args).gradient,
      [...shapes, input],
    )
    this.product = trace(
      (...args) => hessianVectorProduct(loss)(args.slice(0, n + 1), args.slice(n + 1)),
      [...shapes, input, ...shapes],
    )
  }

  loss(theta: Float64Array): number {
    return evaluate(this.value, [...split(this.model, theta), this.x])[0][0]
  }

  grad(theta: Float64Array): Float64Array {
    return join(evaluate(this.gradient, [...split(this.model, theta), this.x]))
  }

  hvp(theta: Float64Array, v: Float64Array): Float64Array {
    return join(
      evaluate(this.product, [...split(this.model, theta), this.x, ...split(this.model, v)]),
    )
  }
}

export const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let total = 0
  for (let i = 0; i < a.length; i++) total += a[i] * b[i]
  return total
}

export const axpy = (x: Float64Array, step: number, d: Float64Array): Float64Array =>
  x.map((v, i) => v + step * d[i])

export const largest = (a: ArrayLike<number>): number =>
  Array.from(a).reduce((m, v) => Math.max(m, Math.abs(v)), 0)

/** Largest difference over the largest element of b. */
export const relative = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  largest(Array.from(a, (v, i) => v - b[i])) / Math.max(largest(b), 1e-300)

/** Derivative of f along u by central differences of fourth order: error h⁴ |f⁗'| / 30. */
export function difference(
  f: (theta: Float64Array) => Float64Array,
  theta: Float64Array,
  u: Float64Array,
  h = 1e-4,
): Float64Array {
  const [far, near, back, behind] = [2, 1, -1, -2].map((step) => f(axpy(theta, step * h, u)))
  return near.map((_, i) => (8 * (near[i] - back[i]) - (far[i] - behind[i])) / (12 * h))
}
