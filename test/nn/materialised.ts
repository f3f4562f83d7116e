import * as ops from '../../lib/ops/index.js'
import type { Tensor } from '../../lib/program/tensor.js'

/**
 * Attention with every N x M tensor written out, in primitive operations: the oracle of the fused
 * operations. Same arguments as theirs.
 */
export type KaratBase = 'zero' | 'identity' | 'silu' | 'gelu'
export type KaratBasis =
  | { readonly kind: 'fourier'; readonly harmonics: number }
  | { readonly kind: 'chebyshev'; readonly degree: number }
  | { readonly kind: 'rational'; readonly numerator: number; readonly denominator: number }
  | { readonly kind: 'mexican-hat' }

type Layout = 'bhnd' | 'bnhd'

interface LatentOptions {
  readonly basis: KaratBasis
  readonly base?: KaratBase
  readonly scale?: number
  readonly keyMask?: Tensor
  readonly layout?: Layout
}

export const toHeads = (x: Tensor, layout: Layout = 'bhnd'): Tensor =>
  layout === 'bhnd' ? x : ops.transpose(x, [0, 2, 1, 3])

function scores(q: Tensor, k: Tensor, scale: number | undefined, layout?: Layout): Tensor {
  const a = toHeads(q, layout)
  const s = scale ?? 1 / Math.sqrt(a.shape[3])
  return ops.mul(ops.matmul(a, toHeads(k, layout), { transB: true }), s)
}

export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: {
    readonly scale?: number
    readonly causal?: boolean
    readonly keyMask?: Tensor
    readonly bias?: Tensor
    readonly layout?: Layout
  } = {},
): Tensor {
  const { bias, layout, keyMask } = options
  const plain = scores(q, k, options.scale, layout)
  const x = bias ? ops.add(plain, bias) : plain
  const values = toHeads(v, layout)
  if (!keyMask) return toHeads(ops.matmul(ops.softmax(x), values), layout)
  const [batch, , , keys] = x.shape
  const kept = ops.broadcastTo(ops.reshape(ops.ne(keyMask, 0), [batch, 1, 1, keys]), x.shape)
  const p = ops.where(kept, ops.softmax(ops.where(kept, x, -1e30)), 0)
  return toHeads(ops.matmul(p, values), layout)
}

/** Features [B, H, N, M] of the scores, in the order of the fused operation. */
export function features(x: Tensor, basis: KaratBasis, base: KaratBase = 'zero'): Tensor[] {
  if (basis.kind !== 'fourier') throw new Error('the oracle has the Fourier basis only')
  const m = Array.from({ length: basis.harmonics }, (_, i) => i + 1)
  const list = [...m.map((n) => ops.cos(ops.mul(x, n))), ...m.map((n) => ops.sin(ops.mul(x, n)))]
  if (base === 'identity') list.push(x)
  if (base === 'silu') list.push(ops.silu(x))
  if (base === 'gelu') list.push(ops.gelu(x))
  return list
}

export function karatLatent(q: Tensor, k: Tensor, c: Tensor, options: LatentOptions): Tensor {
  const x = scores(q, k, options.scale, options.layout)
  const all = features(x, options.basis, options.base)
  const [E, H, , M, r] = c.shape
  const terms = all.map((f, j) => {
    const mask = options.keyMask
    const kept = mask
      ? ops.mul(f, ops.cast(ops.ne(ops.reshape(mask, [mask.shape[0], 1, 1, M]), 0), 'f32'))
      : f
    const cj = ops.reshape(ops.slice(c, [0, 0, j, 0, 0], [E, H, 1, M, r]), [E, H, M, r])
    return ops.matmul(kept, cj)
  })
  return terms.reduce((s, t) => ops.add(s, t))
}

export function karatEdges(q: Tensor, k: Tensor, c: Tensor, options: LatentOptions): Tensor {
  const x = scores(q, k, options.scale, options.layout)
  const [, H, , M, r] = c.shape
  const [B, , N] = x.shape
  const part = (i: number): Tensor =>
    ops.reshape(ops.slice(c, [0, 0, i, 0, 0], [1, H, 1, M, r]), [1, H, 1, M, r])
  const u = ops.div(ops.sub(ops.reshape(x, [B, H, N, M, 1]), part(1)), part(2))
  const u2 = ops.mul(u, u)
  const hat = ops.mul(ops.sub(u2, 1), ops.exp(ops.mul(u2, -0.5)))
  const scaled = ops.mul(hat, 2 / (Math.sqrt(3) * Math.PI ** 0.25))
  return ops.sum(ops.mul(scaled, part(0)), [3])
}

/** Euclidean projection of the rows on the simplex, by its sorted formula without a sort. */
export function simplexProject(x: Tensor): Tensor {
  const n = x.shape.at(-1) as number
  const column = ops.reshape(x, [...x.shape, 1])
  const row = ops.reshape(x, [...x.shape.slice(0, -1), 1, n])
  const above = ops.cast(ops.ge(row, column), 'f32')
  const count = ops.sum(above, [-1])
  const total = ops.sum(ops.mul(above, row), [-1])
  const active = ops.gt(ops.mul(x, count), ops.sub(total, 1))
  const kept = ops.cast(active, 'f32')
  const rho = ops.sum(kept, [-1], true)
  const lambda = ops.div(ops.sub(ops.sum(ops.mul(x, kept), [-1], true), 1), rho)
  return ops.relu(ops.sub(x, lambda))
}

export function featureCount(basis: KaratBasis): number {
  if (basis.kind === 'fourier') return 2 * basis.harmonics
  if (basis.kind === 'chebyshev') return basis.degree
  throw new Error('not separable')
}
