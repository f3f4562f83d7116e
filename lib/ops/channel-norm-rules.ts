import { LosscapeError } from '../errors.js'
import type { MaybeTensor, RuleContext } from '../program/registry.js'
import { range } from '../program/shape.js'
import { emit, emitOne, type Tensor } from '../program/tensor.js'
import type { Shape } from '../program/types.js'
import { activeNames, attributesOf, headNames, type NormAttributes } from './channel-norm-shapes.js'
import { zerosLike } from './constant.js'
import { add } from './elementwise.js'
import { broadcastTo, transpose } from './movement.js'
import { sum } from './reduce.js'

/* What the derivative rules and vmap of the channel_norm family are made of. */

/** Tangents or gradients by the name of their operand; absent for zero. */
export type ByName = Readonly<Record<string, MaybeTensor>>

/** A point: the head as the derivatives read it, and the moments that the forward pass left. */
export interface Point {
  readonly head: readonly Tensor[]
  readonly moments: Tensor
  readonly attributes: NormAttributes
}

/** The point of a derivative of the family, and its operands behind the moments. */
export function pointOf({ inputs, attributes: raw }: RuleContext): Point & { own: Tensor[] } {
  const attributes = attributesOf(raw)
  const n = headNames(attributes).length
  return { head: inputs.slice(0, n), moments: inputs[n], attributes, own: inputs.slice(n + 1) }
}

/** What the derivatives need of a forward call: without ReLU they do not depend on the residual. */
export function pointAt(inputs: readonly Tensor[], moments: Tensor, all: NormAttributes): Point {
  if (!all.residual || all.relu) return { head: inputs, moments, attributes: all }
  return { head: inputs.slice(0, -1), moments, attributes: { ...all, residual: 0 } }
}

export const named = (names: readonly string[], values: readonly MaybeTensor[]): ByName =>
  Object.fromEntries(names.map((name, i) => [name, values[i] ?? null]))

const operandOf = ({ head, attributes }: Point, name: string): Tensor =>
  head[headNames(attributes).indexOf(name)]

/** Tangents as operands, zeros written out; the residual has none in a second derivative. */
function listed(point: Point, t: ByName, axes: Shape, names: readonly string[]): Tensor[] {
  return names.map((name) => {
    const like = operandOf(point, name)
    return t[name] ?? zerosLike({ dtype: like.dtype, shape: [...axes, ...like.shape] })
  })
}

export const curvedNames = (attributes: NormAttributes): string[] =>
  activeNames(attributes).filter((name) => name !== 'residual')

export const hasAny = (t: ByName, names: readonly string[]): boolean => names.some((n) => t[n])

/** Axes that tangents have before their own. */
export function tangentAxes(point: Point, t: ByName): Shape {
  for (const name of activeNames(point.attributes)) {
    const tangent = t[name]
    if (tangent) return tangent.shape.slice(0, tangent.rank - operandOf(point, name).rank)
  }
  return []
}

export function jvpOf(point: Point, t: ByName): Tensor {
  const { head, moments, attributes } = point
  const tangents = listed(point, t, tangentAxes(point, t), activeNames(attributes))
  return emitOne('channel_norm_jvp', [...head, moments, ...tangents], attributes)
}

export function vjpOf({ head, moments, attributes }: Point, dy: Tensor): ByName {
  return named(
    activeNames(attributes),
    emit('channel_norm_vjp', [...head, moments, dy], attributes),
  )
}

/** The tangents of the gradients of dy along t and dẏ (null: zero). */
export function curvatureOf(point: Point, dy: Tensor, t: ByName, dyDot: MaybeTensor): ByName {
  const { head, moments, attributes } = point
  const names = curvedNames(attributes)
  const axes = dyDot ? dyDot.shape.slice(0, dyDot.rank - dy.rank) : tangentAxes(point, t)
  const moving = dyDot ?? zerosLike({ dtype: dy.dtype, shape: [...axes, ...dy.shape] })
  return named(
    activeNames(attributes),
    emit(
      'channel_norm_vjp_jvp',
      [...head, moments, dy, ...listed(point, t, axes, names), moving],
      attributes,
    ),
  )
}

export function plus(a: MaybeTensor, b: MaybeTensor): MaybeTensor {
  return a && b ? add(a, b) : (a ?? b)
}

export const sumLeading = (x: Tensor, axes: Shape): Tensor =>
  axes.length === 0 ? x : sum(x, range(axes.length))

/** The point once for every index of the axes that tangents or cotangents have. */
export function spread(point: Point, axes: Shape): Point {
  if (axes.length === 0) return point
  const all = (x: Tensor): Tensor => broadcastTo(x, [...axes, ...x.shape])
  const attributes = { ...point.attributes, lead: point.attributes.lead + axes.length }
  return { head: point.head.map(all), moments: all(point.moments), attributes }
}

export function thirdDerivative(): never {
  throw new LosscapeError(
    'ERR_PROGRAM',
    "'channel_norm_vjp_jvp' has no further derivative with respect to the activations or the affine parameters: the channel_norm family is closed to second order. Write it with moments(), mul() and add() to differentiate it further.",
  )
}

/**
 * vmap of the whole family. Tangents alone are mapped to more tangents; anything else to a leading
 * axis of every operand.
 */
export function mapped(
  name: string,
  inputs: readonly Tensor[],
  batched: readonly boolean[],
  attributes: NormAttributes,
  size: number,
  firstTangent: number,
): Tensor[] {
  const repeat = (x: Tensor, i: number): Tensor =>
    batched[i] ? x : broadcastTo(x, [size, ...x.shape])
  const head = inputs.slice(0, firstTangent)
  const tangents = inputs.slice(firstTangent).map((x, i) => repeat(x, firstTangent + i))
  if (!batched.slice(0, firstTangent).some(Boolean)) {
    return emit(name, [...head, ...tangents], attributes)
  }
  // Axes of tangents stand before those of the batches.
  const axes =
    tangents.length === 0 ? 0 : tangents[0].rank - 1 - inputs[0].rank + Number(batched[0])
  const turn = (x: Tensor, from: number, to: number): Tensor => {
    if (axes === 0) return x
    const order = range(x.rank)
    order.splice(to, 0, ...order.splice(from, 1))
    return transpose(x, order)
  }
  const results = emit(name, [...head.map(repeat), ...tangents.map((x) => turn(x, 0, axes))], {
    ...attributes,
    lead: attributes.lead + 1,
  })
  return results.map((x) => turn(x, axes, 0))
}
