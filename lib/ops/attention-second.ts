import { range } from '../program/shape.js'
import type { Tensor } from '../program/tensor.js'
import type { Attributes } from '../program/types.js'
import { iota } from './constant.js'
import { add, eq, gt, logicalOr, mul, sub, where } from './elementwise.js'
import { matmul } from './matmul.js'
import { reshape, transpose } from './movement.js'
import { softmax, sum } from './reduce.js'

/** Tangents of q, k, v and, where it has one, of the bias; leading axes broadcast. */
export interface HeadTangents {
  readonly q: Tensor
  readonly k: Tensor
  readonly v: Tensor
  readonly bias: Tensor | null
}

/**
 * The second derivative of attention in two directions, D²o[a, b], like o. No kernel has it: it is
 * the one form that symmetry does not give, and only a forward derivative of a forward derivative
 * (or the gradient of a Hessian product) asks for it. Composed of matrix products, so it holds the
 * scores [.., H, N, M] in memory and differentiates to any order.
 */
export function secondDerivative(
  head: readonly Tensor[],
  attributes: Attributes,
  a: HeadTangents,
  b: HeadTangents,
): Tensor {
  const tokensFirst = attributes.layout === 'bnhd'
  const heads = (x: Tensor): Tensor => (tokensFirst ? swapTokens(x) : x)
  const scale = attributes.scale as number
  const [q, k, v] = head.slice(0, 3).map(heads)
  const products = (x: Tensor, y: Tensor): Tensor => mul(matmul(x, y, { transB: true }), scale)
  const slope = (t: HeadTangents): Tensor => {
    const s = add(products(heads(t.q), k), products(q, heads(t.k)))
    return t.bias ? add(s, t.bias) : s
  }
  const p = probabilities(q, k, head, attributes)
  const sa = slope(a)
  const sb = slope(b)
  const sab = add(products(heads(a.q), heads(b.k)), products(heads(b.q), heads(a.k)))
  const rowSum = (x: Tensor): Tensor => sum(x, [-1], true)
  const pa = mul(p, sa)
  const pb = mul(p, sub(sb, rowSum(mul(p, sb))))
  const weights = add(mul(pb, sa), mul(p, sab))
  const va = heads(a.v)
  const vb = heads(b.v)
  const ob = add(matmul(pb, v), matmul(p, vb))
  const moved = add(add(matmul(weights, v), matmul(pa, vb)), matmul(pb, va))
  const mean = add(mul(rowSum(weights), matmul(p, v)), mul(rowSum(pa), ob))
  return heads(sub(moved, mean))
}

/** [.., N, H, D] and [.., H, N, D] into each other. */
function swapTokens(x: Tensor): Tensor {
  const axes = range(x.rank)
  return transpose(x, [...axes.slice(0, -3), x.rank - 2, x.rank - 3, x.rank - 1])
}

function probabilities(
  q: Tensor,
  k: Tensor,
  head: readonly Tensor[],
  attributes: Attributes,
): Tensor {
  let s = mul(matmul(q, k, { transB: true }), attributes.scale as number)
  if (attributes.bias === 1) s = add(s, head[3])
  const [n, m] = s.shape.slice(-2)
  const hidden: Tensor[] = []
  if (attributes.causal === 1) hidden.push(gt(iota([n, m], 1), iota([n, m], 0)))
  if (attributes.mask === 1) {
    const mask = head[head.length - 1]
    hidden.push(eq(reshape(mask, [...mask.shape.slice(0, -1), 1, 1, m]), 0))
  }
  if (hidden.length === 0) return softmax(s)
  const any = hidden.reduce(logicalOr)
  // Finite, so that a row that sees no key has no NaN; its probabilities are then made zero.
  return where(any, 0, softmax(where(any, -1e30, s)))
}
