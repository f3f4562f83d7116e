import * as ops from '../ops/index.js'
import { vjp } from '../program/functions.js'
import { simplify } from '../program/passes/index.js'
import { inline, outputList, type TracedFunction, trace } from '../program/trace.js'
import type { Program, TensorType } from '../program/types.js'
import { vmapProgram } from '../program/vmap.js'
import { squareRows } from './factor-rows.js'
import { outputRoot } from './roots.js'
import { requireLikelihood } from './scores.js'
import { type CurvatureSetting, inputTypes, network } from './setting.js'

const SELECTOR: TensorType = { dtype: 'i32', shape: [1] }

/** Indices of the selected parameters. */
function chosenOf({ selected }: CurvatureSetting): number[] {
  return selected.flatMap((is, i) => (is ? [i] : []))
}

/**
 * Σ_i w_i J_iᵀ q_i of vector number `selector` of each sample's {@link outputRoot}: a program of
 * θ.., x, y, w, selector, with one output per selected parameter tensor.
 */
export function rootSumProgram(setting: CurvatureSetting, what: string): Program {
  const likelihood = requireLikelihood(setting.loss, what)
  const f = network(setting)
  return simplify(
    trace(
      (...args) => {
        const [x, y, w, selector] = args.slice(-4)
        const point = [...args.slice(0, -4), x]
        const { values, pullback } = vjp(f, point, chosenOf(setting))
        const q = outputRoot(likelihood, values[0], y, selector)
        const weighted = ops.mul(q, ops.reshape(w, [-1, 1]))
        return pullback(ops.reshape(weighted, values[0].shape))
      },
      [...inputTypes(setting), SELECTOR],
    ),
  )
}

/**
 * Σ_i w_i (J_iᵀ q_i)², element by element, as {@link rootSumProgram} otherwise. From squares of
 * cotangents and activations where every parameter is used once; else from the gradients of all
 * samples of a batch, `expanded`.
 */
export function rootSquaresProgram(
  setting: CurvatureSetting,
  what: string,
): { program: Program; expanded: boolean } {
  const likelihood = requireLikelihood(setting.loss, what)
  const f = network(setting)
  const chosen = chosenOf(setting)
  const rootOf: TracedFunction = (...args) => {
    const [x, y, , selector] = args.slice(-4)
    const [z] = outputList(f(...args.slice(0, -4), x))
    return outputRoot(likelihood, z, y, selector)
  }
  const types = [...inputTypes(setting), SELECTOR]
  let expanded = false
  const program = simplify(
    trace((...args) => {
      const [q] = outputList(rootOf(...args))
      const [x, , w] = args.slice(-4)
      const point = [...args.slice(0, -4), x]
      const pull: TracedFunction = (...inner) => {
        const [root, factor] = inner.slice(-2)
        const seed = ops.mul(root, ops.reshape(factor, [-1, 1]))
        const { values, pullback } = vjp(f, inner.slice(0, -2), chosen)
        return pullback(ops.reshape(seed, values[0].shape))
      }
      const all = [...point, q, w]
      const squares = squareRows(trace(pull, all), all.length - 1)
      if (squares) return inline(squares, all)
      expanded = true
      const rows = all.slice(point.length - 1)
      const one = rows.map(({ dtype, shape }) => ({ dtype, shape: [1, ...shape.slice(1)] }))
      const single = trace(pull, [...point.slice(0, -1), ...one])
      const batched = all.map((_, i) => i >= point.length - 1)
      const each = vmapProgram(single, batched, setting.batch)
      const lifted = rows.map((t) => ops.reshape(t, [t.shape[0], 1, ...t.shape.slice(1)]))
      // The weights are 0 and 1, their own squares.
      const gradients = inline(each, [...point.slice(0, -1), ...lifted])
      return gradients.map((g) => ops.sum(ops.mul(g, g), [0]))
    }, types),
  )
  return { program, expanded }
}
