import * as ops from '../ops/index.js'
import { jvp, vjp } from '../program/functions.js'
import { simplify } from '../program/passes/index.js'
import { elements } from '../program/shape.js'
import type { Tensor } from '../program/tensor.js'
import { inline, outputList, type TracedFunction, trace } from '../program/trace.js'
import type { Program, TensorType } from '../program/types.js'
import { factorRows } from './factor-rows.js'
import { drawnScores, flatten, noisePerDraw, requireLikelihood, residuals } from './scores.js'
import { type CurvatureKind, type CurvatureSetting, inputTypes, network } from './setting.js'

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

/**
 * Σ_i w_i g_i (g_iᵀ v - ḡᵀ v) of gradients g_i = J_iᵀ r_i: with true targets and ḡ = 0 the empirical
 * Fisher; with the mean gradient the covariance (centring one factor is enough, since Σ (g_i - ḡ) = 0,
 * and loses no digits to a difference of two products); with drawn targets the Monte-Carlo Fisher.
 *
 * With one gradient per sample, nothing but products of cotangents (kept) and activations (kept)
 * with v and with g_iᵀ v is left: 2 products per weight matrix where Jᵀ Q J v takes 4.
 */
export function outerProductProgram(kind: CurvatureKind, setting: CurvatureSetting): Program {
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
