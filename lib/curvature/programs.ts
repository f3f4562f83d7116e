import type { DataSet } from '../data/dataset.js'
import { batchTypes, normalizeBatch } from '../nn/batch.js'
import type { Loss } from '../nn/loss.js'
import type { Model } from '../nn/model.js'
import * as ops from '../ops/index.js'
import { hessianVectorProduct, jvp, vjp } from '../program/functions.js'
import { jvpProgram } from '../program/jvp.js'
import { type Linearized, splitLinear } from '../program/linearize.js'
import { simplify } from '../program/passes/index.js'
import { elements } from '../program/shape.js'
import type { Tensor } from '../program/tensor.js'
import { inline, outputList, type TracedFunction, trace } from '../program/trace.js'
import type { Program, TensorType } from '../program/types.js'
import { gradProgram } from '../program/vjp.js'
import { factorRows } from './factor-rows.js'
import { drawnScores, flatten, noisePerDraw, requireLikelihood, residuals } from './scores.js'

/** Which matrix a product is taken with; specification 2.2 (H = G + F) and 2.3. */
export type CurvatureKind =
  | 'hessian'
  | 'gauss-newton'
  | 'remainder'
  | 'fisher'
  | 'fisher-monte-carlo'
  | 'empirical-fisher'
  | 'gradient-covariance'

export interface CurvatureSetting {
  readonly model: Model
  readonly loss: Loss
  readonly set: DataSet
  readonly batch: number
  /** Per parameter tensor: part of the matrix (a block by name), or held fixed. */
  readonly selected: readonly boolean[]
  /** Multiple of the identity added to the batch's matrix. Default 0. */
  readonly shift?: number
  /** Targets drawn per sample, of the Monte-Carlo Fisher. Default 1. */
  readonly draws?: number
}

/** Inputs in order: parameters, samples, targets, weights. */
export function inputTypes({ model, set, batch }: CurvatureSetting): TensorType[] {
  const { x, y, w } = batchTypes(set, batch)
  const parameters = model.layout.entries.map(({ shape }): TensorType => ({ dtype: 'f32', shape }))
  return [...parameters, x, y, w]
}

/**
 * Further inputs of a kind, after the weights. Monte-Carlo Fisher: noise [B, S, ..] of the draws;
 * gradient covariance: the mean gradient, per selected parameter tensor.
 */
export function extraTypes(kind: CurvatureKind, setting: CurvatureSetting): TensorType[] {
  const { model, loss, batch, selected, draws = 1 } = setting
  if (kind === 'gradient-covariance') {
    const entries = model.layout.entries.filter((_, i) => selected[i])
    return entries.map(({ shape }) => ({ dtype: 'f32', shape }))
  }
  if (kind !== 'fisher-monte-carlo') return []
  const likelihood = requireLikelihood(loss, 'The Monte-Carlo Fisher')
  const per = noisePerDraw(likelihood, elements(model.output))
  const shape = likelihood.family === 'gaussian' ? [batch, draws, per] : [batch, draws]
  return [{ dtype: 'f32', shape }]
}

/** Outputs (logits) of the network without dropout: f(θ.., x). */
export function network({ model, set }: CurvatureSetting): TracedFunction {
  return (...args) => {
    const x = args[args.length - 1]
    return model.apply(args.slice(0, -1), normalizeBatch(x, set, model), {
      training: false,
      key: null,
    })
  }
}

/** Weighted sum of the losses of a batch: s(z, y, w) = Σ w_i ℓ(z_i, y_i). */
function summedLoss({ loss }: CurvatureSetting): TracedFunction {
  return (z, y, w) => ops.sum(ops.mul(loss.perSample(z, y), w))
}

/** Sum of the batch's losses as a program of θ.., x, y, w. */
export function lossProgram(setting: CurvatureSetting): Program {
  const f = network(setting)
  const s = summedLoss(setting)
  return simplify(
    trace((...args) => {
      const [x, y, w] = args.slice(-3)
      const z = outputList(f(...args.slice(0, -3), x))[0]
      return s(z, y, w)
    }, inputTypes(setting)),
  )
}

/** Sum of losses and its gradient in the selected parameters. */
export function gradientProgram(setting: CurvatureSetting): Program {
  return simplify(gradProgram(lossProgram(setting), [...setting.selected, false, false, false]))
}

/** The product with the sum over a batch of the chosen matrix, split at the vector. */
export function curvatureProgram(kind: CurvatureKind, setting: CurvatureSetting): Linearized {
  const plain = productProgram(kind, setting)
  const primal = setting.selected.length + 3 + extraTypes(kind, setting).length
  const program = setting.shift ? shifted(plain, primal, setting.shift) : plain
  return splitLinear(
    program,
    program.inputs.map((_, i) => i >= primal),
  )
}

function productProgram(kind: CurvatureKind, setting: CurvatureSetting): Program {
  switch (kind) {
    case 'hessian':
      return hessianProgram(setting)
    case 'gauss-newton':
    case 'remainder':
      return splitProgram(kind, setting)
    case 'fisher':
      // E_ŷ[s sᵀ] over the likelihood's targets is the loss's Hessian in the outputs.
      requireLikelihood(setting.loss, 'The Fisher matrix')
      return splitProgram('gauss-newton', setting)
    default:
      return outerProductProgram(kind, setting)
  }
}

/** A v + shift v, where the vector v is the inputs from `first` on. */
function shifted(program: Program, first: number, shift: number): Program {
  return trace(
    (...args) => inline(program, args).map((av, i) => ops.add(av, ops.mul(args[first + i], shift))),
    program.inputs,
  )
}

/** Forward over reverse: the tangent of the gradient. */
function hessianProgram(setting: CurvatureSetting): Program {
  const gradient = gradientProgram(setting)
  const gradientOnly = { ...gradient, outputs: gradient.outputs.slice(1) }
  const product = jvpProgram(gradientOnly, [...setting.selected, false, false, false])
  return simplify({ ...product, outputs: product.outputs.slice(gradientOnly.outputs.length) })
}

/**
 * The two halves of the Hessian. With z = f(θ, x), r = ∇_z s and Q = ∇²_z s:
 * Gauss-Newton Jᵀ Q J v, and the remainder d/dε J(θ + ε v)ᵀ r with r held fixed, which loses no
 * digits to a difference of two products.
 */
function splitProgram(kind: 'gauss-newton' | 'remainder', setting: CurvatureSetting): Program {
  const f = network(setting)
  const s = summedLoss(setting)
  const types = inputTypes(setting)
  const count = setting.selected.length
  const chosen = setting.selected.flatMap((is, i) => (is ? [i] : []))
  const vectors = chosen.map((i) => types[i])
  return simplify(
    trace(
      (...args) => {
        const theta = args.slice(0, count)
        const [x, y, w] = args.slice(count, count + 3)
        const v = args.slice(count + 3)
        const direction: (Tensor | null)[] = theta.map((_, i) => v[chosen.indexOf(i)] ?? null)
        if (kind === 'gauss-newton') {
          const { values, tangents } = jvp(f, [...theta, x], [...direction, null])
          const [curved] = hessianVectorProduct(s)([values[0], y, w], tangents)
          return vjp(f, [...theta, x], chosen).pullback(curved)
        }
        const [z] = outputList(f(...theta, x))
        const [r] = vjp(s, [z, y, w], [0]).pullback(ops.constant(1, { dtype: z.dtype, shape: [] }))
        const transposed: TracedFunction = (...inner) =>
          vjp(f, inner.slice(0, -1), chosen).pullback(inner[inner.length - 1])
        return jvp(transposed, [...theta, x, r], [...direction, null, null]).tangents
      },
      [...types, ...vectors],
    ),
  )
}

/**
 * Σ_i w_i g_i (g_iᵀ v - ḡᵀ v) of gradients g_i = J_iᵀ r_i: with true targets and ḡ = 0 the empirical
 * Fisher; with the mean gradient the covariance (centring one factor is enough, since Σ (g_i - ḡ) = 0,
 * and loses no digits to a difference of two products); with drawn targets the Monte-Carlo Fisher.
 *
 * With one gradient per sample, nothing but products of cotangents (kept) and activations (kept)
 * with v and with g_iᵀ v is left: 2 products per weight matrix where Jᵀ Q J v takes 4.
 */
function outerProductProgram(kind: CurvatureKind, setting: CurvatureSetting): Program {
  const { loss, batch, draws = 1 } = setting
  const f = network(setting)
  const types = inputTypes(setting)
  const extra = extraTypes(kind, setting)
  const count = setting.selected.length
  const chosen = setting.selected.flatMap((is, i) => (is ? [i] : []))
  const isDrawn = kind === 'fisher-monte-carlo'
  return simplify(
    trace(
      (...args) => {
        const theta = args.slice(0, count)
        const [x, y, w] = args.slice(count, count + 3)
        const more = args.slice(count + 3, count + 3 + extra.length)
        const v = args.slice(count + 3 + extra.length)
        const [z] = outputList(f(...theta, x))
        if (!isDrawn) {
          const mean = kind === 'gradient-covariance' ? innerProduct(more, v) : null
          const r = residuals(loss, z, y)
          return outer(f, [...theta, x], chosen, r, v, (dots) =>
            ops.mul(mean ? ops.sub(dots, mean) : dots, w),
          )
        }
        const likelihood = requireLikelihood(loss, 'The Monte-Carlo Fisher')
        const scores = drawnScores(likelihood, z, more[0])
        const own = likelihood.family === 'categorical' && likelihood.weight?.(y, z)
        const weight = own ? ops.mul(own, w) : w
        if (draws === 1) {
          const r = ops.reshape(scores, [batch, scores.shape[2]])
          return outer(f, [...theta, x], chosen, r, v, (dots) => ops.mul(dots, weight))
        }
        const direction: (Tensor | null)[] = theta.map((_, i) => v[chosen.indexOf(i)] ?? null)
        const u = flatten(jvp(f, [...theta, x], [...direction, null]).tangents[0])
        const dots = ops.sum(ops.mul(scores, ops.reshape(u, [batch, 1, u.shape[1]])), [2], true)
        const mixed = ops.sum(ops.mul(scores, dots), [1])
        const curved = ops.mul(mixed, ops.reshape(ops.mul(weight, 1 / draws), [batch, 1]))
        return vjp(f, [...theta, x], chosen).pullback(ops.reshape(curved, z.shape))
      },
      [...types, ...extra, ...chosen.map((i) => types[i])],
    ),
  )
}

/** Σ_i c_i g_i with c = weigh(g_iᵀ v), where g_i = J_iᵀ r_i. */
function outer(
  f: TracedFunction,
  primals: readonly Tensor[],
  chosen: readonly number[],
  r: Tensor,
  v: readonly Tensor[],
  weigh: (dots: Tensor) => Tensor,
): readonly Tensor[] {
  const c: Tensor = ops.constant(0, { dtype: r.dtype, shape: [r.shape[0]] })
  const args = [...primals, r, c]
  const combined: TracedFunction = (...inner) => {
    const [score, factor] = inner.slice(-2)
    const seed = ops.mul(score, ops.reshape(factor, [-1, 1]))
    const { values, pullback } = vjp(f, inner.slice(0, -2), chosen)
    return pullback(ops.reshape(seed, values[0].shape))
  }
  const rows = factorRows(trace(combined, args), args.length - 1)
  const run: TracedFunction = (...inner) => inline(rows, inner)
  const [dots] = vjp(run, args, [args.length - 1]).pullback(v)
  return inline(rows, [...primals, r, weigh(dots)])
}

function innerProduct(a: readonly Tensor[], b: readonly Tensor[]): Tensor {
  return a.map((t, i) => ops.sum(ops.mul(t, b[i]))).reduce((s, t) => ops.add(s, t))
}
