import { LosscapeError } from '../errors.js'
import type { MaybeTensor, RuleContext } from '../program/registry.js'
import { range } from '../program/shape.js'
import { emit, type Tensor } from '../program/tensor.js'
import type { Attributes, Shape } from '../program/types.js'
import type { HeadTangents } from './attention-second.js'
import { headCount } from './attention-shapes.js'
import { zerosLike } from './constant.js'
import { add } from './elementwise.js'
import { broadcastTo, reshape, transpose } from './movement.js'
import { sum } from './reduce.js'

/* What the derivative rules and vmap of the attention family (attention.ts) are made of. */

/** The operands of the derivative family by name. */
export interface Parts {
  readonly head: readonly Tensor[]
  readonly o: Tensor
  readonly lse: Tensor
  /** The operands behind lse. */
  readonly own: readonly Tensor[]
}

export function partsOf({ inputs, attributes }: RuleContext): Parts {
  const n = headCount(attributes)
  return { head: inputs.slice(0, n), o: inputs[n], lse: inputs[n + 1], own: inputs.slice(n + 2) }
}

const active = (attributes: Attributes, biasActive: boolean): Attributes => ({
  ...attributes,
  biasActive: Number(biasActive),
})

/** Tangents of the head as operands: q, k, v and the bias if it has one. */
export const listed = (t: HeadTangents): Tensor[] =>
  t.bias ? [t.q, t.k, t.v, t.bias] : [t.q, t.k, t.v]

export const tangentsFrom = (list: readonly Tensor[], attributes: Attributes): HeadTangents => ({
  q: list[0],
  k: list[1],
  v: list[2],
  bias: attributes.biasActive === 1 ? list[3] : null,
})

/** Zero tangents written out; null when all are zero. A bias without tangent stays without. */
export function headTangents(
  head: readonly Tensor[],
  attributes: Attributes,
  tangents: readonly MaybeTensor[],
): HeadTangents | null {
  const bias = attributes.bias === 1 ? (tangents[3] ?? null) : null
  if (!tangents[0] && !tangents[1] && !tangents[2] && !bias) return null
  const [q, k, v] = [0, 1, 2].map((i) => tangents[i] ?? zerosLike(head[i]))
  return { q, k, v, bias }
}

export const jvpOf = ({ head, o, lse }: Parts, attributes: Attributes, t: HeadTangents): Tensor[] =>
  emit('attention_jvp', [...head, o, lse, ...listed(t)], active(attributes, t.bias !== null))

export const vjpOf = (
  { head, o, lse }: Parts,
  attributes: Attributes,
  dOut: Tensor,
  biasActive: boolean,
): Tensor[] => emit('attention_vjp', [...head, o, lse, dOut], active(attributes, biasActive))

/** The tangent of the gradients dO along t and dȮ (null: zero); o and lse move with t. */
export function curvatureOf(
  parts: Parts,
  attributes: Attributes,
  dOut: Tensor,
  t: HeadTangents,
  dOutDot: MaybeTensor,
): Tensor[] {
  const [oDot, lseDot] = jvpOf(parts, attributes, t)
  return emit(
    'attention_vjp_jvp',
    [
      ...parts.head,
      parts.o,
      parts.lse,
      dOut,
      ...listed(t),
      oDot,
      lseDot,
      dOutDot ?? zerosLike(oDot),
    ],
    active(attributes, t.bias !== null),
  )
}

/** With a tangent for the bias, zero if need be. */
export const withBias = (
  head: readonly Tensor[],
  t: HeadTangents,
  wanted: boolean,
): HeadTangents => (wanted && !t.bias ? { ...t, bias: zerosLike(head[3]) } : t)

export function sums(a: readonly MaybeTensor[], b: readonly MaybeTensor[]): MaybeTensor[] {
  return a.map((x, i) => {
    const y = b[i] ?? null
    return x && y ? add(x, y) : (x ?? y)
  })
}

export function thirdDerivative(name: string): never {
  throw new LosscapeError(
    'ERR_PROGRAM',
    `'${name}' has no further derivative with respect to q, k, v or the bias: the attention family is closed to second order. Write it with matmul() and softmax() to differentiate it further.`,
  )
}

/** Integer operands have no tangent, so any here is the caller's mistake. */
export function needsHead(
  attributes: Attributes,
  needed: readonly (boolean | MaybeTensor)[],
): boolean {
  return needed.slice(0, 3 + (attributes.bias as number)).some(Boolean)
}

/** The head and its results repeated along the leading axes that tangents or cotangents have. */
export function spread(parts: Parts, axes: Shape): Parts {
  if (axes.length === 0) return parts
  const all = (x: Tensor): Tensor => broadcastTo(x, [...axes, ...x.shape])
  return { ...parts, head: parts.head.map(all), o: all(parts.o), lse: all(parts.lse) }
}

export const sumLeading = (x: Tensor, axes: Shape): Tensor =>
  axes.length === 0 ? x : sum(x, range(axes.length))

/**
 * vmap of the whole family. Tangents alone are mapped to more tangents; anything else to more
 * batches, where operands that are not mapped are repeated.
 */
export function mapped(
  name: string,
  inputs: readonly Tensor[],
  batched: readonly boolean[],
  attributes: Attributes,
  size: number,
  firstTangent: number,
): Tensor[] {
  const repeat = (x: Tensor, i: number): Tensor =>
    batched[i] ? x : broadcastTo(x, [size, ...x.shape])
  const heads = inputs.slice(0, firstTangent)
  const tangents = inputs.slice(firstTangent).map((x, i) => repeat(x, firstTangent + i))
  if (!batched.slice(0, firstTangent).some(Boolean)) {
    return emit(name, [...heads, ...tangents], attributes)
  }
  const sharesBias = attributes.bias === 1 && attributes.biasActive !== 1 && !batched[3]
  const head = heads.map((x, i) =>
    i === 3 && sharesBias ? reshape(x, [1, ...x.shape]) : repeat(x, i),
  )
  // Axes of tangents stand before the batch.
  const axes = tangents.length === 0 ? 0 : tangents[0].rank - head[0].rank
  const turn = (x: Tensor, from: number, to: number): Tensor => {
    if (axes === 0) return x
    const order = range(x.rank)
    order.splice(to, 0, ...order.splice(from, 1))
    return transpose(x, order)
  }
  const results = emit(name, [...head, ...tangents.map((x) => turn(x, 0, axes))], attributes)
  return results.map((x) => turn(x, axes, 0))
}
