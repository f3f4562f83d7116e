import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import { defineOperation, type MaybeTensor } from '../program/registry.js'
import { range } from '../program/shape.js'
import { emit, emitOne, requireTensors, type Tensor } from '../program/tensor.js'
import type { Attributes, TensorType } from '../program/types.js'
import { zerosLike } from './constant.js'
import { add } from './elementwise.js'
import { basisAttributes, type KaratBase, type KaratBasis } from './karat-bases.js'
import { KaratReference } from './karat-latent-reference.js'
import { headCount, karatSizes, latentShape, tangentCount } from './karat-latent-shapes.js'
import { batching, merge } from './karat-latent-vmap.js'
import { broadcastTo, reshape } from './movement.js'
import { sum } from './reduce.js'
import { scoreScale } from './score-scale.js'

/*
 * Latent values of Kolmogorov-Arnold attention, closed to second order. With scores
 * x = scale q kᵀ, features f_j and coefficients C_j, all per sample and head:
 *
 *   karat_latent          q, k, C [, mask]               -> Z = sum_j f_j(x) C_j
 *   karat_latent_vjp      .., dZ                         -> dq, dk, dC
 *   karat_latent_jvp      .., q̇, k̇, Ċ [R]                -> Ż
 *   karat_latent_vjp_jvp  .., dZ, q̇, k̇, Ċ, dŻ [R]        -> dq̇, dk̇, dĊ
 *   karat_latent_jvp_jvp  .., q̇, k̇, Ċ, q̈, k̈, C̈ [R]       -> D²Z[˙, ¨], tangent by tangent
 */

const FAMILY = 'karat_latent'

type Maybes = readonly MaybeTensor[]

const one = (t: Tensor): Tensor => reshape(t, [1, ...t.shape])
const first = (t: Tensor): Tensor => reshape(t, t.shape.slice(1))
const plus = (a: MaybeTensor, b: MaybeTensor): MaybeTensor => (a && b ? add(a, b) : (a ?? b))

/** Splits operands into q, k, C [, mask] and the operation's own. */
function parts(inputs: readonly Tensor[], attributes: Attributes) {
  const n = headCount(attributes)
  return { head: inputs.slice(0, n), own: inputs.slice(n) }
}

/** The part of tangents or flags that belongs to q, k, C, and the part behind the mask. */
function split<T>(
  all: readonly T[],
  attributes: Attributes,
): { x: readonly T[]; own: readonly T[] } {
  return { x: all.slice(0, 3), own: all.slice(headCount(attributes)) }
}

/** Tangents where some may be missing: zeros stand for those. */
function whole(tangents: Maybes, like: readonly TensorType[], lead: readonly number[]): Tensor[] {
  return tangents.map(
    (t, i) => t ?? zerosLike({ dtype: like[i].dtype, shape: [...lead, ...like[i].shape] }),
  )
}

const vjpOf = (head: readonly Tensor[], dz: Tensor, attributes: Attributes): Tensor[] =>
  emit('karat_latent_vjp', [...head, dz], attributes)

/** Ż for tangents with a leading R. */
const jvpOf = (head: readonly Tensor[], x: readonly Tensor[], attributes: Attributes): Tensor =>
  emitOne('karat_latent_jvp', [...head, ...x], attributes)

/** dq̇, dk̇, dĊ for tangents with a leading R. */
const bendOf = (
  head: readonly Tensor[],
  dz: Tensor,
  x: readonly Tensor[],
  dzDot: Tensor,
  attributes: Attributes,
): Tensor[] => emit('karat_latent_vjp_jvp', [...head, dz, ...x, dzDot], attributes)

const some = (tangents: Maybes): boolean => tangents.some((t) => t !== null)

function thirdDerivative(name: string): never {
  throw new LosscapeError(
    'ERR_PROGRAM',
    `'${name}' has no further derivative: the karat_latent family is closed to second order. Compose the layer of matmul(), cos() and sin() to differentiate it further.`,
  )
}

/**
 * sum over tangents r of the derivative of <c_r, Ż_r> with respect to q, k and C: dZ differs from
 * tangent to tangent here, so tangents become samples and each gets its set of coefficients.
 */
function pulledThrough(
  head: readonly Tensor[],
  x: readonly Tensor[],
  c: Tensor,
  attributes: Attributes,
): Tensor[] {
  const count = c.shape[0]
  const repeated = head.map((t) => merge(broadcastTo(t, [count, ...t.shape])))
  const tangents = x.map((t) => one(merge(t)))
  const dz = merge(c)
  return bendOf(repeated, dz, tangents, one(zerosLike(dz)), attributes).map((t, i) =>
    sum(reshape(t, [count, ...head[i].shape]), [0]),
  )
}

/** The shapes of q, k, C and Z. */
function shapesOf(inputs: readonly TensorType[], sizes: ReturnType<typeof karatSizes>) {
  return [...inputs.slice(0, 3).map((t) => t.shape), latentShape(sizes)]
}

defineOperation({
  name: 'karat_latent',
  batching: 'merge',
  family: FAMILY,
  type(inputs, attributes) {
    const sizes = karatSizes('karat_latent', inputs, attributes)
    return [{ dtype: inputs[0].dtype, shape: latentShape(sizes) }]
  },
  evaluate: (inputs, types, attributes) => [
    new KaratReference(inputs, types, attributes).forward(),
  ],
  jvp({ inputs, attributes }, tangents) {
    const { x } = split(tangents, attributes)
    return [first(jvpOf(inputs, whole(x, inputs, []).map(one), attributes))]
  },
  vjp({ inputs, attributes }, [dz]) {
    if (!dz) return inputs.map(() => null)
    return inputs.map((_, i) => i).map(pick(vjpOf(inputs, dz, attributes)))
  },
  vmap: batching('karat_latent', 0, false),
})

/** Gradients of q, k, C in the order of the operands; a mask has none. */
function pick(gradients: readonly Tensor[]): (i: number) => MaybeTensor {
  return (i) => (i < 3 ? gradients[i] : null)
}

defineOperation({
  name: 'karat_latent_vjp',
  batching: 'merge',
  family: FAMILY,
  type(inputs, attributes) {
    const sizes = karatSizes('karat_latent_vjp', inputs, attributes)
    const dz = inputs[headCount(attributes)]
    tangentCount('karat_latent_vjp', [{ ...dz, shape: [1, ...dz.shape] }], [latentShape(sizes)])
    return inputs.slice(0, 3).map(({ dtype, shape }) => ({ dtype, shape }))
  },
  evaluate: (inputs, types, attributes) => new KaratReference(inputs, types, attributes).vjp(),
  jvp({ inputs, attributes }, tangents) {
    const { head, own } = parts(inputs, attributes)
    const {
      x,
      own: [dzDot],
    } = split(tangents, attributes)
    if (!some(x)) return vjpOf(head, dzDot as Tensor, attributes)
    const directions = whole(x, inputs, []).map(one)
    return bendOf(head, own[0], directions, one(dzDot ?? zerosLike(own[0])), attributes).map(first)
  },
  vjp({ inputs, attributes }, cotangents, needed) {
    const { head, own } = parts(inputs, attributes)
    const u = whole(cotangents, inputs, []).map(one)
    const n = head.length
    const bend = needed.slice(0, 3).some(Boolean)
      ? bendOf(head, own[0], u, one(zerosLike(own[0])), attributes).map(first)
      : []
    return inputs.map((_, i) => {
      if (i === n) return needed[n] ? first(jvpOf(head, u, attributes)) : null
      return bend[i] ?? null
    })
  },
  vmap: batching('karat_latent_vjp', 1, false),
})

defineOperation({
  name: 'karat_latent_jvp',
  batching: 'merge',
  family: FAMILY,
  type(inputs, attributes) {
    const sizes = karatSizes('karat_latent_jvp', inputs, attributes)
    const own = inputs.slice(headCount(attributes))
    const count = tangentCount('karat_latent_jvp', own, shapesOf(inputs, sizes))
    return [{ dtype: inputs[0].dtype, shape: [count, ...latentShape(sizes)] }]
  },
  evaluate(inputs, types, attributes, [result]) {
    return [new KaratReference(inputs, types, attributes).jvp(result.shape[0])]
  },
  jvp({ inputs, attributes }, tangents) {
    const { head, own } = parts(inputs, attributes)
    const { x, own: moved } = split(tangents, attributes)
    const count = own[0].shape[0]
    const line = some(moved) ? jvpOf(head, whole(moved, inputs, [count]), attributes) : null
    if (!some(x)) return [line]
    const spread = whole(x, inputs, []).map((t) => broadcastTo(t, [count, ...t.shape]))
    const bend = emitOne('karat_latent_jvp_jvp', [...head, ...own, ...spread], attributes)
    return [plus(bend, line)]
  },
  vjp({ inputs, attributes }, [c], needed) {
    const { head, own } = parts(inputs, attributes)
    if (!c) return inputs.map(() => null)
    const n = head.length
    const bend = needed.slice(0, 3).some(Boolean) ? pulledThrough(head, own, c, attributes) : []
    const line = needed.slice(n).some(Boolean) ? transposed(head, c, attributes) : []
    return inputs.map((_, i) => (i < n ? (bend[i] ?? null) : (line[i - n] ?? null)))
  },
  vmap: batching('karat_latent_jvp', 0, true),
})

/** dq, dk, dC of every tangent's own dZ, [R, ..]: the primal work is done once. */
function transposed(head: readonly Tensor[], c: Tensor, attributes: Attributes): Tensor[] {
  if (c.shape[0] === 1) return vjpOf(head, first(c), attributes).map(one)
  const none = head
    .slice(0, 3)
    .map((t) => zerosLike({ dtype: t.dtype, shape: [c.shape[0], ...t.shape] }))
  const dz = zerosLike({ dtype: c.dtype, shape: c.shape.slice(1) })
  return bendOf(head, dz, none, c, attributes)
}

defineOperation({
  name: 'karat_latent_vjp_jvp',
  batching: 'merge',
  family: FAMILY,
  type(inputs, attributes) {
    const name = 'karat_latent_vjp_jvp'
    const sizes = karatSizes(name, inputs, attributes)
    const [dz, ...tangents] = inputs.slice(headCount(attributes))
    tangentCount(name, [{ ...dz, shape: [1, ...dz.shape] }], [latentShape(sizes)])
    const count = tangentCount(name, tangents, shapesOf(inputs, sizes))
    return inputs.slice(0, 3).map(({ dtype, shape }) => ({ dtype, shape: [count, ...shape] }))
  },
  evaluate(inputs, types, attributes, [result]) {
    return new KaratReference(inputs, types, attributes).vjpJvp(result.shape[0])
  },
  // Linear in the tangents together, and in dZ together with its tangent.
  jvp({ inputs, attributes }, tangents) {
    const {
      head,
      own: [dz, q, k, c, dzDot],
    } = parts(inputs, attributes)
    const {
      x,
      own: [dzMoved, ...moved],
    } = split(tangents, attributes)
    if (some(x)) thirdDerivative('karat_latent_vjp_jvp')
    const like = [...head.slice(0, 3), dz]
    const line = some(moved) ? whole(moved, like, [q.shape[0]]) : null
    const along = line && bendOf(head, dz, line.slice(0, 3), line[3], attributes)
    const across = dzMoved && bendOf(head, dzMoved, [q, k, c], zerosLike(dzDot), attributes)
    return range(3).map((i) => plus(along?.[i] ?? null, across?.[i] ?? null))
  },
  vjp({ inputs, attributes }, cotangents, needed) {
    const {
      head,
      own: [dz, ...tangents],
    } = parts(inputs, attributes)
    const n = head.length
    if (needed.slice(0, 3).some(Boolean)) thirdDerivative('karat_latent_vjp_jvp')
    const u = whole(cotangents, inputs, [tangents[0].shape[0]])
    // Symmetric in its tangents: the same form again.
    const bend = needed.slice(n + 1, n + 4).some(Boolean)
      ? bendOf(head, dz, u, zerosLike(tangents[3]), attributes)
      : []
    return inputs.map((_, i) => {
      if (!needed[i]) return null
      if (i === n) {
        const second = [...head, ...tangents.slice(0, 3), ...u]
        return sum(emitOne('karat_latent_jvp_jvp', second, attributes), [0])
      }
      return i === n + 4 ? jvpOf(head, u, attributes) : bend[i - n - 1]
    })
  },
  vmap: batching('karat_latent_vjp_jvp', 1, true),
})

defineOperation({
  name: 'karat_latent_jvp_jvp',
  batching: 'merge',
  family: FAMILY,
  type(inputs, attributes) {
    const name = 'karat_latent_jvp_jvp'
    const sizes = karatSizes(name, inputs, attributes)
    const own = inputs.slice(headCount(attributes))
    const shapes = inputs.slice(0, 3).map((t) => t.shape)
    const count = tangentCount(name, own, [...shapes, ...shapes])
    return [{ dtype: inputs[0].dtype, shape: [count, ...latentShape(sizes)] }]
  },
  evaluate(inputs, types, attributes, [result]) {
    return [new KaratReference(inputs, types, attributes).jvpJvp(result.shape[0])]
  },
  // Linear in either direction.
  jvp({ inputs, attributes }, tangents) {
    const { head, own } = parts(inputs, attributes)
    const { x, own: moved } = split(tangents, attributes)
    if (some(x)) thirdDerivative('karat_latent_jvp_jvp')
    const count = own[0].shape[0]
    const terms = [0, 3].map((at) => {
      const part = moved.slice(at, at + 3)
      if (!some(part)) return null
      const both = [...own]
      both.splice(at, 3, ...whole(part, inputs, [count]))
      return emitOne('karat_latent_jvp_jvp', [...head, ...both], attributes)
    })
    return [plus(terms[0], terms[1])]
  },
  vjp: () => thirdDerivative('karat_latent_jvp_jvp'),
  vmap: batching('karat_latent_jvp_jvp', 0, true),
})

export interface KaratLatentOptions {
  /** The features of a score. */
  basis: KaratBasis
  /** One more feature behind them. Default 'zero': none. */
  base?: KaratBase
  /** Factor of the scores. Default 1 / sqrt(D). */
  scale?: number
  /** [B, M] u8 or i32: keys with 0 take no part in any sum and are not read. */
  keyMask?: Tensor
  /** Axes of q and k: [B, H, N, D], or [B, N, H, D]. Default 'bhnd'. */
  layout?: 'bhnd' | 'bnhd'
}

/**
 * Latent values of Kolmogorov-Arnold attention: learned functions of the scores of a query with all
 * keys, summed. With x = scale q_n · k_m
 *
 *     Z[b, h, n, p] = sum_m sum_j f_j(x) C[e, h, j, m, p],   e = floor(b E / B)
 *
 * The features f_j are those of `basis`, then that of `base`. The attention itself is
 * `matmul(Z, matmul(W, V, { transA: true }))`, which never forms the N x N weights.
 *
 * Features exist for a tile of rows and keys in the first-level cache only: working memory does not
 * grow with the features, and nothing of size N x M is stored. About 2 N M (D + J r) FLOPs per
 * sample and head forward, three times that backward. Rows are neither normalised nor positive.
 * Non-finite scores give NaN in their row. Derivatives exist to second order.
 *
 * @param q [B, H, N, D]
 * @param k [B, H, M, D]
 * @param coefficients [E, H, J, M, r] with J = karatFeatureCount(basis, base); E divides B: one set
 *   for all samples (E = 1, the usual), or one for each (E = B)
 * @returns Z [B, H, N, r]
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_ARGUMENT (an unknown basis, G of 0, a scale that is not finite)
 * @see Maity, Hitsman, Li, Dutta, Kolmogorov-Arnold Attention, arXiv 2503.10632, equations of
 *   Fourier-KArAt; the sum over features before the projector is theirs, tiling is ours
 */
export function karatLatent(
  q: Tensor,
  k: Tensor,
  coefficients: Tensor,
  options: KaratLatentOptions,
): Tensor {
  requireTensors('karatLatent()', { q, k, coefficients })
  requireOptions('karatLatent()', options, ['basis', 'base', 'scale', 'keyMask', 'layout'])
  const { basis, base = 'zero', keyMask, layout = 'bhnd' } = options
  if (keyMask !== undefined) requireTensors('karatLatent()', { keyMask })
  const scale = scoreScale('karatLatent()', q, options.scale)
  if (layout !== 'bhnd' && layout !== 'bnhd') {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `layout must be 'bhnd' or 'bnhd', got ${String(layout)}.`,
    )
  }
  return emitOne('karat_latent', [q, k, coefficients, ...(keyMask ? [keyMask] : [])], {
    ...basisAttributes(basis, base),
    scale,
    layout,
    masked: Number(keyMask !== undefined),
  })
}
