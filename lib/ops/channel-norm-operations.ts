import { defineOperation, type MaybeTensor } from '../program/registry.js'
import type { Tensor } from '../program/tensor.js'
import type { Shape, TensorType } from '../program/types.js'
import {
  evaluateNorm,
  evaluateNormJvp,
  evaluateNormVjp,
  evaluateNormVjpJvp,
  secondDerivative,
} from './channel-norm-composed.js'
import {
  type ByName,
  curvatureOf,
  curvedNames,
  hasAny,
  jvpOf,
  mapped,
  named,
  type Point,
  plus,
  pointAt,
  pointOf,
  spread,
  sumLeading,
  tangentAxes,
  thirdDerivative,
  vjpOf,
} from './channel-norm-rules.js'
import {
  activeNames,
  attributesOf,
  checkHead,
  expectOperand,
  headNames,
  type NormAttributes,
  namedShape,
} from './channel-norm-shapes.js'
import { zerosLike } from './constant.js'
import { broadcastTo } from './movement.js'

/*
 * Normalisation of activations with channels, closed to second order. x.. stands for the head
 * x [, mean, variance] [, rate] [, warm] [, scale1, shift1] [, scale2, shift2] [, residual]:
 *
 *   channel_norm          x..                     -> y, moments [, mean, variance]
 *   channel_norm_vjp      x.., moments, dy        -> dx [, dscale1, dshift1] [, ..2] [, dresidual]
 *   channel_norm_jvp      x.., moments, ẋ..       -> ẏ
 *   channel_norm_vjp_jvp  x.., moments, dy, ẋ.., dẏ -> dẋ ..
 *
 * moments [.., N, 3, C] are those of each sample and channel; everything else follows from them.
 * ẋ.. are tangents of x, the affine parameters and (not in a second derivative) the residual; they
 * may have leading axes. Derivatives have the residual in their head only where there is a ReLU.
 * Given statistics and rates are constants of every derivative, and so are the results behind the
 * moments: their public functions stop gradients there.
 */

const FAMILY = 'channel_norm'

defineOperation({
  name: 'channel_norm',
  batching: 'batch',
  auxiliary: [1],
  family: FAMILY,
  type(inputs, raw) {
    const attributes = attributesOf(raw)
    checkHead('channel_norm', inputs, attributes)
    const [x] = inputs
    const like = (name: string): TensorType => ({
      dtype: x.dtype,
      shape: namedShape(name, x, attributes),
    })
    const { stage1 } = attributes
    const fresh = stage1 === 'batch' || stage1 === 'estimate'
    return [like('x'), like('moments'), ...(fresh ? [like('mean'), like('variance')] : [])]
  },
  evaluate: evaluateNorm,
  jvp({ inputs, outputs, attributes: raw }, tangents) {
    const attributes = attributesOf(raw)
    const t = named(headNames(attributes), tangents)
    const point = pointAt(inputs, outputs[1], attributes)
    const own = hasAny(t, activeNames(point.attributes)) ? jvpOf(point, t) : null
    const apart = point.attributes.residual === attributes.residual ? null : t.residual
    return [plus(own, apart), ...outputs.slice(1).map(() => null)]
  },
  vjp({ inputs, outputs, attributes: raw }, [dy]) {
    const attributes = attributesOf(raw)
    if (!dy) return inputs.map(() => null)
    const point = pointAt(inputs, outputs[1], attributes)
    const gradients = vjpOf(point, dy)
    const apart = point.attributes.residual === attributes.residual ? null : dy
    return headNames(attributes).map(
      (name) => gradients[name] ?? (name === 'residual' ? apart : null),
    )
  },
  vmap(inputs, batched, attributes, size) {
    const all = attributesOf(attributes)
    return mapped('channel_norm', inputs, batched, all, size, inputs.length)
  },
})

/** Checks head, moments and, if there is one, the cotangent; returns where the tangents begin. */
function checkPoint(
  name: string,
  inputs: readonly TensorType[],
  attributes: NormAttributes,
  cotangent: boolean,
): number {
  checkHead(name, inputs, attributes)
  const [x] = inputs
  const n = headNames(attributes).length
  expectOperand(name, 'moments', inputs[n], namedShape('moments', x, attributes), x)
  if (cotangent) expectOperand(name, 'a cotangent', inputs[n + 1], x.shape, x)
  return n + 1 + Number(cotangent)
}

/** Checks tangents of the named operands from `first` on; returns their leading axes. */
function checkTangents(
  name: string,
  inputs: readonly TensorType[],
  attributes: NormAttributes,
  first: number,
  names: readonly string[],
): Shape {
  const [x] = inputs
  const axes = inputs[first].shape.slice(0, inputs[first].shape.length - x.shape.length)
  for (const [i, operand] of names.entries()) {
    const shape = [...axes, ...namedShape(operand, x, attributes)]
    expectOperand(name, `a tangent of ${operand}`, inputs[first + i], shape, x)
  }
  return axes
}

const gradientTypes = (x: TensorType, attributes: NormAttributes, axes: Shape): TensorType[] =>
  activeNames(attributes).map((name) => ({
    dtype: x.dtype,
    shape: [...axes, ...namedShape(name, x, attributes)],
  }))

/** Gradients of the head, in the order of all operands. */
const inHead = (inputs: readonly Tensor[], point: Point, gradients: ByName): MaybeTensor[] => {
  const names = headNames(point.attributes)
  return inputs.map((_, i) => gradients[names[i]] ?? null)
}

defineOperation({
  name: 'channel_norm_vjp',
  batching: 'batch',
  family: FAMILY,
  type(inputs, raw) {
    const attributes = attributesOf(raw)
    checkPoint('channel_norm_vjp', inputs, attributes, true)
    return gradientTypes(inputs[0], attributes, [])
  },
  evaluate: evaluateNormVjp,
  jvp(rule, tangents) {
    const point = pointOf(rule)
    const names = activeNames(point.attributes)
    const t = named(headNames(point.attributes), tangents)
    const dyDot = tangents.at(-1) ?? null
    const moves = hasAny(t, curvedNames(point.attributes))
    const g = moves
      ? curvatureOf(point, point.own[0], t, dyDot)
      : dyDot
        ? vjpOf(point, dyDot)
        : ({} as ByName)
    return names.map((name) => g[name] ?? null)
  },
  // <u, Jᵀ dy> = <dy, J u>: its gradient is J u for dy and, for the head, the symmetric second
  // derivative of <dy, y> along u. The residual moves no derivative.
  vjp(rule, cotangents, needed) {
    const point = pointOf(rule)
    const { attributes } = point
    const u = named(activeNames(attributes), cotangents)
    if (!hasAny(u, activeNames(attributes))) return rule.inputs.map(() => null)
    const wantsHead = needed.slice(0, headNames(attributes).length).some(Boolean)
    const bends = wantsHead && hasAny(u, curvedNames(attributes))
    const bend = bends ? curvatureOf(point, point.own[0], u, null) : {}
    const gradients = inHead(rule.inputs, point, { ...bend, residual: null })
    gradients[gradients.length - 1] = needed.at(-1) ? jvpOf(point, u) : null
    return gradients
  },
  vmap(inputs, batched, attributes, size) {
    const all = attributesOf(attributes)
    return mapped('channel_norm_vjp', inputs, batched, all, size, inputs.length)
  },
})

/** All tangents of the active operands, zeros written out, for the composed second derivative. */
function full(point: Point, t: ByName, axes: Shape): Tensor[] {
  const names = headNames(point.attributes)
  return activeNames(point.attributes).map((name) => {
    const like = point.head[names.indexOf(name)]
    return t[name] ?? zerosLike({ dtype: like.dtype, shape: [...axes, ...like.shape] })
  })
}

defineOperation({
  name: 'channel_norm_jvp',
  batching: 'batch',
  family: FAMILY,
  type(inputs, raw) {
    const attributes = attributesOf(raw)
    const first = checkPoint('channel_norm_jvp', inputs, attributes, false)
    const names = activeNames(attributes)
    const axes = checkTangents('channel_norm_jvp', inputs, attributes, first, names)
    return [{ dtype: inputs[0].dtype, shape: [...axes, ...inputs[0].shape] }]
  },
  evaluate: evaluateNormJvp,
  jvp(rule, tangents) {
    const point = pointOf(rule)
    const names = activeNames(point.attributes)
    const along = named(names, point.own)
    const axes = tangentAxes(point, along)
    const moved = named(headNames(point.attributes), tangents)
    const own = named(names, tangents.slice(point.head.length + 1))
    const straight = hasAny(own, names)
      ? jvpOf(
          point,
          Object.fromEntries(names.map((name, i) => [name, own[name] ?? zerosLike(point.own[i])])),
        )
      : null
    if (!hasAny(moved, curvedNames(point.attributes))) return [straight]
    const wide = spread(point, axes)
    const b = full(point, moved, []).map((t) => broadcastTo(t, [...axes, ...t.shape]))
    return [plus(straight, secondDerivative(wide.head, wide.attributes, point.own, b))]
  },
  vjp(rule, [c], needed) {
    const point = pointOf(rule)
    if (!c) return rule.inputs.map(() => null)
    const names = activeNames(point.attributes)
    const n = point.head.length
    const along = named(names, point.own)
    const axes = tangentAxes(point, along)
    const wide = spread(point, axes)
    const bend = needed.slice(0, n).some(Boolean) ? curvatureOf(wide, c, along, null) : {}
    const straight = needed.slice(n + 1).some(Boolean) ? vjpOf(wide, c) : {}
    const gradients = inHead(rule.inputs, point, { ...bend, residual: null })
    return gradients.map((g, i) => {
      if (i > n) return straight[names[i - n - 1]] ?? null
      return g && sumLeading(g, axes)
    })
  },
  vmap(inputs, batched, attributes, size) {
    const all = attributesOf(attributes)
    const first = headNames(all).length + 1
    return mapped('channel_norm_jvp', inputs, batched, all, size, first)
  },
})

defineOperation({
  name: 'channel_norm_vjp_jvp',
  batching: 'batch',
  family: FAMILY,
  type(inputs, raw) {
    const attributes = attributesOf(raw)
    const name = 'channel_norm_vjp_jvp'
    const first = checkPoint(name, inputs, attributes, true)
    const names = curvedNames(attributes)
    const axes = checkTangents(name, inputs, attributes, first, names)
    const [x] = inputs
    const last = inputs[first + names.length]
    expectOperand(name, 'a tangent of the cotangent', last, [...axes, ...x.shape], x)
    return gradientTypes(x, attributes, axes)
  },
  evaluate: evaluateNormVjpJvp,
  // With the head fixed it is linear in (dy, dẏ) together and in (ẋ.., dẏ) together.
  jvp(rule, tangents) {
    const point = pointOf(rule)
    const { attributes, own } = point
    const n = point.head.length
    if (hasAny(named(headNames(attributes), tangents), curvedNames(attributes))) thirdDerivative()
    const names = curvedNames(attributes)
    const along = named(names, own.slice(1, -1))
    const dyTangent = tangents[n + 1]
    const moved = named(names, tangents.slice(n + 2, -1))
    const dyDotTangent = tangents.at(-1) ?? null
    const first = dyTangent ? curvatureOf(point, dyTangent, along, null) : {}
    const moves = dyDotTangent !== null || hasAny(moved, names)
    const second = moves ? curvatureOf(point, own[0], moved, dyDotTangent) : {}
    return activeNames(attributes).map((name) => plus(first[name] ?? null, second[name] ?? null))
  },
  vjp(rule, cotangents, needed) {
    const point = pointOf(rule)
    const { attributes, own } = point
    const n = point.head.length
    const active = activeNames(attributes)
    const u = named(active, cotangents)
    if (!hasAny(u, active)) return rule.inputs.map(() => null)
    const curved = headNames(attributes).map((name) => curvedNames(attributes).includes(name))
    if (needed.slice(0, n).some((is, i) => is && curved[i])) thirdDerivative()
    const names = curvedNames(attributes)
    const along = named(names, own.slice(1, -1))
    const axes = tangentAxes(point, along)
    const bends = hasAny(u, names)
    const wantsTangents = needed.slice(n + 2, -1).some(Boolean)
    const bend = bends && wantsTangents ? curvatureOf(point, own[0], u, null) : {}
    return rule.inputs.map((_, i) => {
      if (!needed[i]) return null
      if (i === n + 1) {
        if (!bends) return null
        const wide = spread(point, axes)
        const [a, b] = [full(point, along, axes), full(point, u, axes)]
        return sumLeading(secondDerivative(wide.head, wide.attributes, a, b), axes)
      }
      if (i === rule.inputs.length - 1) return jvpOf(point, u)
      return bend[names[i - n - 2]] ?? null
    })
  },
  vmap(inputs, batched, attributes, size) {
    const all = attributesOf(attributes)
    const first = headNames(all).length + 2
    return mapped('channel_norm_vjp_jvp', inputs, batched, all, size, first)
  },
})
