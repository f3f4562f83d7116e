import * as ops from '../ops/index.js'
import { hessianVectorProduct, jvp, vjp } from '../program/functions.js'
import { jvpProgram } from '../program/jvp.js'
import { type Linearized, splitLinear } from '../program/linearize.js'
import { simplify } from '../program/passes/index.js'
import type { Tensor } from '../program/tensor.js'
import { inline, outputList, type TracedFunction, trace } from '../program/trace.js'
import type { Program } from '../program/types.js'
import { gradProgram } from '../program/vjp.js'
import { extraTypes, outerProductProgram } from './outer-products.js'
import { requireLikelihood } from './scores.js'
import {
  type CurvatureKind,
  type CurvatureSetting,
  inputTypes,
  network,
  summedLoss,
} from './setting.js'

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
