import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import { defineOperation, type MaybeTensor, type RuleContext } from '../program/registry.js'
import { range } from '../program/shape.js'
import { emit, emitOne, requireTensors, type Tensor } from '../program/tensor.js'
import type { Attributes, Shape } from '../program/types.js'
import { add } from './elementwise.js'
import { type EdgeBasis, edgeFrequency, edgeParameters } from './karat-edges-functions.js'
import { evaluateEdges } from './karat-edges-reference.js'
import { edgeHeadCount, edgeTypes, mapEdges } from './karat-edges-shapes.js'
import { broadcastTo, reshape } from './movement.js'
import { sum } from './reduce.js'
import { scoreScale } from './score-scale.js'

/*
 * Kolmogorov-Arnold scores whose functions differ by edge, closed to second order. With x the head
 * (q, k, theta), z its result, and t, u tangents of q, k and theta with a leading axis R:
 *
 *   karat_edges          x [, mask]                -> z
 *   karat_edges_vjp      x [, mask], g             -> Jᵀ g                  (dq, dk, dtheta)
 *   karat_edges_jvp      x [, mask], t             -> J t
 *   karat_edges_vjp_jvp  x [, mask], g, t, dg      -> (D² <g, z>) t + Jᵀ dg (of q, k, theta)
 *   karat_edges_jvp_jvp  x [, mask], t, u          -> D² z (t, u)
 *
 * All but the first are linear in what follows the head, so that their derivatives along it are
 * operations of the family again; those along the head of the last two do not exist.
 */

const FAMILY = 'karat_edges'

type Tensors = readonly Tensor[]

const one = (t: Tensor): Tensor => reshape(t, [1, ...t.shape])
const first = (t: Tensor): Tensor => reshape(t, t.shape.slice(1))
const zeros = (like: Tensor, shape: Shape): Tensor =>
  emitOne('constant', [], { data: [0], dtype: like.dtype, shape })
const sumOf = (a: MaybeTensor, b: MaybeTensor): MaybeTensor => (a && b ? add(a, b) : (a ?? b))

/** Tangents where they are null, too; [R, ..] when `R` is given. */
function filled(tangents: readonly MaybeTensor[], like: Tensors, R?: number): Tensor[] {
  const lead = R === undefined ? [] : [R]
  return like.map((x, i) => tangents[i] ?? zeros(x, [...lead, ...x.shape]))
}

/** The operands of a rule: head (q, k, theta [, mask]), what is differentiated of it, and others. */
function partsOf({ inputs, attributes }: RuleContext) {
  const n = edgeHeadCount(attributes)
  return { head: inputs.slice(0, n), point: inputs.slice(0, 3), own: inputs.slice(n), n }
}

const zeroCotangent = ([q, , theta]: Tensors, R: number, attributes: Attributes): Tensor => {
  const [B, a, b] = q.shape
  const [H, N] = attributes.layout === 'bnhd' ? [b, a] : [a, b]
  return zeros(q, [R, B, H, N, theta.shape[4]])
}

const vjpOf = (head: Tensors, g: Tensor, attributes: Attributes): Tensor[] =>
  emit('karat_edges_vjp', [...head, g], attributes)

const jvpOf = (head: Tensors, t: Tensors, attributes: Attributes): Tensor =>
  emitOne('karat_edges_jvp', [...head, ...t], attributes)

/** (D² <g, z>) t + Jᵀ dg. */
const curvatureOf = (
  head: Tensors,
  g: Tensor,
  t: Tensors,
  dg: Tensor | null,
  attributes: Attributes,
): Tensor[] => {
  const last = dg ?? zeroCotangent(head, t[0].shape[0], attributes)
  return emit('karat_edges_vjp_jvp', [...head, g, ...t, last], attributes)
}

const bendOf = (head: Tensors, t: Tensors, u: Tensors, attributes: Attributes): Tensor =>
  emitOne('karat_edges_jvp_jvp', [...head, ...t, ...u], attributes)

/** {@link curvatureOf} with one g for every tangent: g [R, ..], t [R, ..]. */
function curvatures(head: Tensors, g: Tensor, t: Tensors, attributes: Attributes): Tensor[] {
  const [R] = g.shape
  if (R === 1) return curvatureOf(head, first(g), t, null, attributes)
  const none = zeroCotangent(head, 1, attributes)
  const apart = t.map((x) => reshape(x, [R, 1, ...x.shape.slice(1)]))
  const operands = [...head, g, ...apart, none]
  const batched = operands.map((_, i) => i >= head.length && i < operands.length - 1)
  return mapEdges('karat_edges_vjp_jvp', operands, batched, attributes, R).map((y) =>
    reshape(y, [R, ...y.shape.slice(2)]),
  )
}

function thirdDerivative(name: string): never {
  throw new LosscapeError(
    'ERR_PROGRAM',
    `'${name}' has no further derivative: the karat_edges family is closed to second order. A basis of features, karatLatent(), or compositions of elementwise operations go further.`,
  )
}

/** Results for all operands: `point` of q, k and theta, none of the mask, then `own`. */
const spread = (n: number, point: readonly MaybeTensor[], own: readonly MaybeTensor[]) => [
  ...range(n).map((i) => point[i] ?? null),
  ...own,
]

function define(
  name: string,
  rules: Pick<Parameters<typeof defineOperation>[0], 'jvp' | 'vjp'>,
): void {
  defineOperation({
    name,
    batching: 'merge',
    family: FAMILY,
    type: (inputs, attributes) => edgeTypes(name, inputs, attributes),
    evaluate: (inputs, types, attributes, results) =>
      evaluateEdges(name, inputs, types, attributes, results),
    vmap: (inputs, batched, attributes, size) => mapEdges(name, inputs, batched, attributes, size),
    ...rules,
  })
}

define('karat_edges', {
  jvp(rule, tangents) {
    const { head, point } = partsOf(rule)
    return [first(jvpOf(head, filled(tangents, point).map(one), rule.attributes))]
  },
  vjp(rule, [g]) {
    const { head, n } = partsOf(rule)
    return spread(n, g ? vjpOf(head, g, rule.attributes) : [], [])
  },
})

define('karat_edges_vjp', {
  jvp(rule, tangents) {
    const { head, point, own, n } = partsOf(rule)
    const t = filled(tangents, point).map(one)
    const dg = tangents[n]
    return curvatureOf(head, own[0], t, dg && one(dg), rule.attributes).map(first)
  },
  vjp(rule, cotangents, needed) {
    const { head, point, own, n } = partsOf(rule)
    if (!cotangents.some(Boolean)) return rule.inputs.map(() => null)
    const u = filled(cotangents, point).map(one)
    const bend = needed.slice(0, 3).some(Boolean)
      ? curvatureOf(head, own[0], u, null, rule.attributes).map(first)
      : []
    return spread(n, bend, [needed[n] ? first(jvpOf(head, u, rule.attributes)) : null])
  },
})

define('karat_edges_jvp', {
  jvp(rule, tangents) {
    const { head, point, own, n } = partsOf(rule)
    const [R] = own[0].shape
    const along = tangents.slice(n)
    const straight = along.some(Boolean)
      ? jvpOf(head, filled(along, point, R), rule.attributes)
      : null
    if (!tangents.slice(0, 3).some(Boolean)) return [straight]
    const u = filled(tangents, point).map((x) => broadcastTo(one(x), [R, ...x.shape]))
    return [sumOf(bendOf(head, own, u, rule.attributes), straight)]
  },
  vjp(rule, [c], needed) {
    const { head, own, n } = partsOf(rule)
    if (!c) return rule.inputs.map(() => null)
    const bend = needed.slice(0, 3).some(Boolean)
      ? curvatures(head, c, own, rule.attributes).map((y) => sum(y, [0]))
      : []
    const pulled = needed.slice(n).some(Boolean)
      ? vjps(head, c, rule.attributes)
      : [null, null, null]
    return spread(n, bend, pulled)
  },
})

/** Jᵀ g for every g of [R, ..]. */
function vjps(head: Tensors, g: Tensor, attributes: Attributes): Tensor[] {
  const [R] = g.shape
  if (R === 1) return vjpOf(head, first(g), attributes).map(one)
  const batched = [...head.map(() => false), true]
  return mapEdges('karat_edges_vjp', [...head, g], batched, attributes, R)
}

define('karat_edges_vjp_jvp', {
  jvp(rule, tangents) {
    const { head, point, own, n } = partsOf(rule)
    if (tangents.slice(0, 3).some(Boolean)) thirdDerivative('karat_edges_vjp_jvp')
    const [g, ...t] = own
    const [dg, ...dt] = tangents.slice(n)
    const [R] = t[0].shape
    const a = dg ? curvatureOf(head, dg, t.slice(0, 3), null, rule.attributes) : []
    const b = dt.some(Boolean)
      ? curvatureOf(head, g, filled(dt, point, R), dt[3], rule.attributes)
      : []
    return range(3).map((i) => sumOf(a[i] ?? null, b[i] ?? null))
  },
  vjp(rule, cotangents, needed) {
    const { head, point, own, n } = partsOf(rule)
    if (!cotangents.some(Boolean)) return rule.inputs.map(() => null)
    if (needed.slice(0, 3).some(Boolean)) thirdDerivative('karat_edges_vjp_jvp')
    const [g, ...t] = own
    const c = filled(cotangents, point, t[0].shape[0])
    const [forG, ...forT] = needed.slice(n)
    const bend = forG ? sum(bendOf(head, t.slice(0, 3), c, rule.attributes), [0]) : null
    const curved = forT.slice(0, 3).some(Boolean)
      ? curvatureOf(head, g, c, null, rule.attributes)
      : [null, null, null]
    return spread(n, [], [bend, ...curved, forT[3] ? jvpOf(head, c, rule.attributes) : null])
  },
})

define('karat_edges_jvp_jvp', {
  jvp(rule, tangents) {
    const { head, point, own, n } = partsOf(rule)
    if (tangents.slice(0, 3).some(Boolean)) thirdDerivative('karat_edges_jvp_jvp')
    const [R] = own[0].shape
    const moved = (tangent: readonly MaybeTensor[], other: Tensors): MaybeTensor =>
      tangent.some(Boolean) ? bendOf(head, filled(tangent, point, R), other, rule.attributes) : null
    return [
      sumOf(
        moved(tangents.slice(n, n + 3), own.slice(3)),
        moved(tangents.slice(n + 3), own.slice(0, 3)),
      ),
    ]
  },
  vjp(rule, [c], needed) {
    const { head, own, n } = partsOf(rule)
    if (!c) return rule.inputs.map(() => null)
    if (needed.slice(0, 3).some(Boolean)) thirdDerivative('karat_edges_jvp_jvp')
    const pulled = (wanted: readonly boolean[], other: Tensors): readonly MaybeTensor[] =>
      wanted.some(Boolean) ? curvatures(head, c, other, rule.attributes) : [null, null, null]
    return spread(
      n,
      [],
      [
        ...pulled(needed.slice(n, n + 3), own.slice(3)),
        ...pulled(needed.slice(n + 3), own.slice(0, 3)),
      ],
    )
  },
})

export interface KaratEdgesOptions {
  /** The functions of the edges. */
  readonly basis: EdgeBasis
  /** Factor of the scores. Default 1 / sqrt(D). */
  readonly scale?: number
  /** [B, M], u8 or i32: keys with 0 take no part, whatever they hold. */
  readonly keyMask?: Tensor
  /** Axes of q and k: [B, H, N, D] (default) or [B, N, H, D]. */
  readonly layout?: 'bhnd' | 'bnhd'
}

/**
 * The first layer of a Kolmogorov-Arnold attention whose functions are not sums of shared
 * features: z_np = sum_m phi(scale q_n . k_m; theta_mp), every edge (key m, latent number p) with
 * parameters of its own ({@link EdgeBasis} gives phi and their order). Fused, analytic to second
 * order; a third derivative throws ERR_PROGRAM. Scores of NaN give NaN in their rows, infinite ones
 * add 0 in wavelets (and to tangents; gradients of an infinite q or k are NaN) and NaN in rational
 * units. Masked keys have gradients 0 whatever queries hold.
 *
 * Cost: the functions dominate, B H N M r times 15 to 60 operations, about three times that for a
 * gradient and as much again for a Hessian product: where a basis is separable, karatLatent() is
 * several times faster. Memory: operands and results; no [N, M] tensor, and none of edges.
 *
 * @param q [B, H, N, D], or [B, N, H, D] with layout 'bnhd'
 * @param k [B, H, M, D], or [B, M, H, D]
 * @param parameters [E, H, P, M, r], P = 10 for 'rational', 3 for wavelets; sample b takes set
 * floor(b E / B), so E = 1 is shared by the batch
 * @returns [B, H, N, r]
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_ARGUMENT
 * @see Maity, Hitsman, Li and Dutta, Kolmogorov-Arnold Attention (arXiv 2503.10632), table of
 * bases; wavelets as in Bozorgasl and Chen, Wav-KAN (arXiv 2405.12832)
 *
 * @example
 * const z = karatEdges(q, k, parameters, { basis: { kind: 'dog' }, layout: 'bnhd' })
 */
export function karatEdges(
  q: Tensor,
  k: Tensor,
  parameters: Tensor,
  options: KaratEdgesOptions,
): Tensor {
  requireOptions('karatEdges()', options, ['basis', 'scale', 'keyMask', 'layout'])
  const { basis, keyMask, layout = 'bhnd' } = options
  const count = edgeParameters(basis)
  const refuse = (what: string, got: unknown): never => {
    throw new LosscapeError('ERR_ARGUMENT', `karatEdges() expected ${what}, got ${String(got)}.`)
  }
  requireTensors('karatEdges()', { q, k, parameters })
  if (keyMask !== undefined) requireTensors('karatEdges()', { keyMask })
  if (layout !== 'bhnd' && layout !== 'bnhd') refuse("layout 'bhnd' or 'bnhd'", layout)
  const scale = scoreScale('karatEdges()', q, options.scale)
  if (parameters.shape[2] !== undefined && parameters.shape[2] !== count) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `karatEdges() expected ${count} parameters an edge for basis '${basis.kind}', [E, H, ${count}, M, r], got [${parameters.shape}].`,
    )
  }
  return emitOne('karat_edges', keyMask ? [q, k, parameters, keyMask] : [q, k, parameters], {
    basis: basis.kind,
    omega: edgeFrequency(basis),
    scale,
    layout,
    masked: Number(keyMask !== undefined),
  })
}
