import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import { defineOperation } from '../program/registry.js'
import { emit, requireTensors, type Tensor } from '../program/tensor.js'
import { type Attributes, formatType, type Shape, type TensorType } from '../program/types.js'
import {
  evaluateAttention,
  evaluateAttentionJvp,
  evaluateAttentionVjp,
  evaluateAttentionVjpJvp,
} from './attention-reference.js'
import {
  curvatureOf,
  headTangents,
  jvpOf,
  listed,
  mapped,
  needsHead,
  partsOf,
  spread,
  sumLeading,
  sums,
  tangentsFrom,
  thirdDerivative,
  vjpOf,
  withBias,
} from './attention-rules.js'
import { secondDerivative } from './attention-second.js'
import {
  attentionSizes,
  expectShape,
  headCount,
  lineShape,
  tangentAxes,
  tokenShape,
} from './attention-shapes.js'
import { zerosLike } from './constant.js'
import { scoreScale } from './score-scale.js'

/*
 * Softmax attention, closed to second order. With S = scale Q Kᵀ + bias (-∞ where a key is hidden),
 * P = exp(S - lse) and o = P V; x.. stands for the head q, k, v [, bias] [, mask]:
 *
 *   attention          x..                      -> o, lse
 *   attention_vjp      x.., o, lse, dO          -> dQ, dK, dV [, dBias]
 *   attention_jvp      x.., o, lse, ẋ..         -> ȯ, l̇se
 *   attention_vjp_jvp  x.., o, lse, dO, ẋ.., ȯ, l̇se, dȮ -> dQ̇, dK̇, dV̇ [, dḂias]
 *
 * o and lse are functions of the head, not operands of their own: no rule asks for their tangents
 * or gives them cotangents. Tangents ẋ may have leading axes that x has not (all the same). The
 * bias has a tangent and a gradient where `biasActive`.
 */

const FAMILY = 'attention'

defineOperation({
  name: 'attention',
  batching: 'merge',
  auxiliary: [1],
  family: FAMILY,
  type(inputs, attributes) {
    const sizes = attentionSizes('attention', inputs, attributes)
    const { dtype } = inputs[0]
    return [
      { dtype, shape: tokenShape(sizes, sizes.queries, sizes.valueWidth) },
      { dtype, shape: lineShape(sizes) },
    ]
  },
  evaluate: evaluateAttention,
  jvp({ inputs, outputs, attributes }, tangents) {
    const t = headTangents(inputs, attributes, tangents)
    if (!t) return [null, null]
    const parts = { head: inputs, o: outputs[0], lse: outputs[1], own: [] }
    return [jvpOf(parts, attributes, t)[0], null]
  },
  vjp({ inputs, outputs, attributes }, [dOut], needed) {
    if (!dOut) return inputs.map(() => null)
    const parts = { head: inputs, o: outputs[0], lse: outputs[1], own: [] }
    const biasActive = attributes.bias === 1 && needed[3]
    const gradients = vjpOf(parts, attributes, dOut, biasActive)
    return inputs.map((_, i) => gradients[i] ?? null)
  },
  vmap(inputs, batched, attributes, size) {
    return mapped('attention', inputs, batched, attributes, size, inputs.length)
  },
})

/** Checks o, lse and, if `cotangent`, dO behind the head. */
function checkDerivative(
  name: string,
  inputs: readonly TensorType[],
  attributes: Attributes,
  cotangent: boolean,
) {
  const sizes = attentionSizes(name, inputs, attributes)
  const n = headCount(attributes)
  const o = tokenShape(sizes, sizes.queries, sizes.valueWidth)
  expectShape(name, 'o', inputs[n], o)
  expectShape(name, 'lse', inputs[n + 1], lineShape(sizes))
  if (cotangent) expectShape(name, 'the cotangent of o', inputs[n + 2], o)
  return { sizes, o, first: n + 2 + Number(cotangent) }
}

/** Checks tangents of the head from operand `first` on; returns their leading axes. */
function checkTangents(
  name: string,
  inputs: readonly TensorType[],
  attributes: Attributes,
  first: number,
): number[] {
  const axes = tangentAxes(inputs[0], inputs[first])
  for (let i = 0; i < 3 + Number(attributes.biasActive === 1); i++) {
    expectShape(
      name,
      'tangents of q, k, v and the bias with the same leading axes',
      inputs[first + i],
      [...axes, ...inputs[i].shape],
    )
  }
  return axes
}

/** Types like those of q, k, v and the bias where it is active. */
const gradientTypes = (
  inputs: readonly TensorType[],
  attributes: Attributes,
  axes: Shape,
): TensorType[] =>
  inputs
    .slice(0, 3 + Number(attributes.biasActive === 1))
    .map(({ dtype, shape }) => ({ dtype, shape: [...axes, ...shape] }))

defineOperation({
  name: 'attention_vjp',
  batching: 'merge',
  family: FAMILY,
  type(inputs, attributes) {
    checkDerivative('attention_vjp', inputs, attributes, true)
    return gradientTypes(inputs, attributes, [])
  },
  evaluate: evaluateAttentionVjp,
  jvp(rule, tangents) {
    const { attributes, outputs } = rule
    const parts = partsOf(rule)
    const [dOut] = parts.own
    const dOutDot = tangents.at(-1) ?? null
    const t = headTangents(parts.head, attributes, tangents)
    const biasActive = attributes.biasActive === 1
    if (!t) return dOutDot ? vjpOf(parts, attributes, dOutDot, biasActive) : outputs.map(() => null)
    const moving = withBias(parts.head, t, biasActive)
    return curvatureOf(parts, attributes, dOut, moving, dOutDot).slice(0, outputs.length)
  },
  // <u, Jᵀ dO> = <dO, J u>: its gradient is J u for dO and, for the head, the symmetric second
  // derivative of <dO, o> along u.
  vjp(rule, cotangents, needed) {
    const { attributes, inputs } = rule
    const parts = partsOf(rule)
    const t = headTangents(parts.head, attributes, cotangents)
    if (!t) return inputs.map(() => null)
    const wantsBias = attributes.bias === 1 && needed[3]
    const bend = needsHead(attributes, needed)
      ? curvatureOf(parts, attributes, parts.own[0], withBias(parts.head, t, wantsBias), null)
      : []
    const straight = needed.at(-1) ? jvpOf(parts, attributes, t)[0] : null
    return inputs.map((_, i) => (i === inputs.length - 1 ? straight : (bend[i] ?? null)))
  },
  vmap(inputs, batched, attributes, size) {
    return mapped('attention_vjp', inputs, batched, attributes, size, inputs.length)
  },
})

defineOperation({
  name: 'attention_jvp',
  batching: 'merge',
  auxiliary: [1],
  family: FAMILY,
  type(inputs, attributes) {
    const { sizes, o, first } = checkDerivative('attention_jvp', inputs, attributes, false)
    const axes = checkTangents('attention_jvp', inputs, attributes, first)
    const { dtype } = inputs[0]
    return [
      { dtype, shape: [...axes, ...o] },
      { dtype, shape: [...axes, ...lineShape(sizes)] },
    ]
  },
  evaluate: evaluateAttentionJvp,
  jvp(rule, tangents) {
    const { attributes } = rule
    const parts = partsOf(rule)
    const own = tangents.slice(parts.head.length + 2)
    const zeros = own.map((t, i) => t ?? zerosLike(parts.own[i]))
    const straight = own.some(Boolean)
      ? jvpOf(parts, attributes, tangentsFrom(zeros, attributes))[0]
      : null
    const moved = headTangents(parts.head, attributes, tangents)
    const along = tangentsFrom(parts.own, attributes)
    const bend = moved && secondDerivative(parts.head, attributes, along, moved)
    return [sums([straight], [bend])[0], null]
  },
  vjp(rule, [c], needed) {
    const { attributes, inputs } = rule
    if (!c) return inputs.map(() => null)
    const parts = partsOf(rule)
    const n = parts.head.length
    const axes = tangentAxes(inputs[0], parts.own[0])
    const wide = spread(parts, axes)
    const along = tangentsFrom(parts.own, attributes)
    const wantsBias = attributes.bias === 1 && needed[3]
    const bend = needsHead(attributes, needed)
      ? curvatureOf(wide, attributes, c, withBias(wide.head, along, wantsBias), null)
      : []
    const straight = needed.slice(n + 2).some(Boolean)
      ? vjpOf(wide, attributes, c, attributes.biasActive === 1)
      : []
    return inputs.map((_, i) => {
      if (i >= n + 2) return straight[i - n - 2] ?? null
      return bend[i] && i < n ? sumLeading(bend[i], axes) : null
    })
  },
  vmap(inputs, batched, attributes, size) {
    return mapped('attention_jvp', inputs, batched, attributes, size, headCount(attributes) + 2)
  },
})

defineOperation({
  name: 'attention_vjp_jvp',
  batching: 'merge',
  family: FAMILY,
  type(inputs, attributes) {
    const name = 'attention_vjp_jvp'
    const { sizes, o, first } = checkDerivative(name, inputs, attributes, true)
    const axes = checkTangents(name, inputs, attributes, first)
    const last = first + 3 + Number(attributes.biasActive === 1)
    expectShape(name, 'the tangent of o', inputs[last], [...axes, ...o])
    expectShape(name, 'the tangent of lse', inputs[last + 1], [...axes, ...lineShape(sizes)])
    expectShape(name, 'the tangent of the cotangent', inputs[last + 2], [...axes, ...o])
    return gradientTypes(inputs, attributes, axes)
  },
  evaluate: evaluateAttentionVjpJvp,
  // With the head fixed it is linear in (dO, dȮ) together and in (ẋ, dȮ) together.
  jvp(rule, tangents) {
    const { attributes, outputs } = rule
    if (needsHead(attributes, tangents)) thirdDerivative('attention_vjp_jvp')
    const parts = partsOf(rule)
    const n = parts.head.length + 2
    const [dOut, ...own] = parts.own
    const count = 3 + Number(attributes.biasActive === 1)
    const along = tangentsFrom(own, attributes)
    const dOutTangent = tangents[n]
    const tangentsOfAlong = tangents.slice(n + 1, n + 1 + count)
    const dOutDotTangent = tangents.at(-1) ?? null
    const first = dOutTangent ? curvatureOf(parts, attributes, dOutTangent, along, null) : []
    const moves = tangentsOfAlong.some(Boolean) || dOutDotTangent !== null
    const zeros = tangentsOfAlong.map((t, i) => t ?? zerosLike(own[i]))
    const second = moves
      ? curvatureOf(parts, attributes, dOut, tangentsFrom(zeros, attributes), dOutDotTangent)
      : []
    return sums(
      outputs.map((_, i) => first[i] ?? null),
      second,
    )
  },
  vjp(rule, cotangents, needed) {
    const { attributes, inputs } = rule
    if (needsHead(attributes, needed) && cotangents.some(Boolean)) {
      thirdDerivative('attention_vjp_jvp')
    }
    const parts = partsOf(rule)
    const n = parts.head.length + 2
    const [dOut, ...own] = parts.own
    const along = tangentsFrom(own, attributes)
    const axes = tangentAxes(inputs[0], along.q)
    const u = headTangents(
      listed(along),
      { ...attributes, bias: attributes.biasActive },
      cotangents,
    )
    if (!u) return inputs.map(() => null)
    const count = listed(along).length
    const full = along.bias && !u.bias ? { ...u, bias: zerosLike(along.bias) } : u
    const bend = needed.slice(n + 1, n + 1 + count).some(Boolean)
      ? curvatureOf(parts, attributes, dOut, full, null)
      : []
    return inputs.map((_, i) => {
      if (!needed[i]) return null
      if (i === n) return sumLeading(secondDerivative(parts.head, attributes, along, u), axes)
      if (i === inputs.length - 1) return jvpOf(parts, attributes, u)[0]
      return bend[i - n - 1] ?? null
    })
  },
  vmap(inputs, batched, attributes, size) {
    return mapped('attention_vjp_jvp', inputs, batched, attributes, size, headCount(attributes) + 3)
  },
})

export interface AttentionOptions {
  /** Factor of the scores. Default 1 / sqrt(D). */
  scale?: number
  /**
   * Query i sees the keys 0 to i only, whose keys and values must all be finite: a weight of 0 does
   * not take away a NaN. Default false.
   */
  causal?: boolean
  /** [B, M], u8 or i32: keys with 0 take no part, whatever they hold. */
  keyMask?: Tensor
  /**
   * Added to the scores: [B or 1, H or 1, N, M]; -Infinity hides a key, which must be finite, from a
   * query.
   */
  bias?: Tensor
  /** Axes of q, k and v: [B, H, N, D] (default) or [B, N, H, D]. */
  layout?: 'bhnd' | 'bnhd'
}

/**
 * Softmax attention of H heads: o_n = sum_m P_nm v_m with P = softmax(scale q kᵀ + bias) over the
 * keys m. Fused, so that no [N, M] tensor is in memory (but for a bias and its gradient), and
 * analytic to second order: gradients and Hessian products are fused as well. A third derivative
 * throws ERR_PROGRAM; D²o in two forward directions is composed of matrix products.
 *
 * A query that sees no key gives 0 with zero derivatives. Scores that are not finite give NaN in
 * their rows.
 *
 * Cost for N queries, M keys and widths D, in multiply-adds per batch and head: forward 2 N M D,
 * gradient 5 N M D, Hessian product 12 N M D besides.
 *
 * @param q [B, H, N, D], or [B, N, H, D] with layout 'bnhd'
 * @param k [B, H, M, D], or [B, M, H, D]
 * @param v [B, H, M, E], or [B, M, H, E]
 * @returns [B, H, N, E], or [B, N, H, E]
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_ARGUMENT
 * @see Vaswani et al., Attention Is All You Need (2017), equation 1; tile by tile as in Dao et al.,
 * FlashAttention (2022)
 *
 * @example
 * const o = attention(q, k, v, { causal: true, layout: 'bnhd' })
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  requireOptions('attention()', options, ['scale', 'causal', 'keyMask', 'bias', 'layout'])
  requireTensors('attention()', { q, k, v })
  for (const [i, x] of [q, k, v].entries()) requireTokens('qkv'[i], x)
  const { keyMask, bias, causal = false, layout = 'bhnd' } = options
  const scale = scoreScale('attention()', q, options.scale)
  const refuse = (what: string, got: unknown): never => {
    throw new LosscapeError('ERR_ARGUMENT', `attention() expected ${what}, got ${String(got)}.`)
  }
  if (typeof causal !== 'boolean') refuse('true or false for causal', causal)
  if (layout !== 'bhnd' && layout !== 'bnhd') refuse("layout 'bhnd' or 'bnhd'", layout)
  if (bias !== undefined) requireTensors('attention()', { bias })
  if (keyMask !== undefined) requireTensors('attention()', { keyMask })
  const operands = [q, k, v]
  if (bias) operands.push(bias)
  if (keyMask) operands.push(keyMask)
  return emit('attention', operands, {
    scale,
    layout,
    causal: Number(causal),
    bias: Number(bias !== undefined),
    mask: Number(keyMask !== undefined),
  })[0]
}

function requireTokens(letter: string, x: Tensor): void {
  if (x.rank !== 4) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `attention() expected four axes [B, H, N, D] (or [B, N, H, D]) for ${letter}, got ${formatType(x)}.`,
    )
  }
}
