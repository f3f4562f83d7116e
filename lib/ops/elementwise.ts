import { LosscapeError } from '../errors.js'
import { defineOperation, type MaybeTensor } from '../program/registry.js'
import { broadcastShapes, sameShape } from '../program/shape.js'
import { emitOne, Tensor } from '../program/tensor.js'
import { type DType, formatType, isFloat, type TensorType } from '../program/types.js'
import { constant } from './constant.js'
import { erf as erfReference } from './erf.js'
import { broadcastTo } from './movement.js'

/** A tensor or a number that stands for a tensor filled with it. */
export type Operand = Tensor | number

interface ElementwiseRule {
  readonly name: string
  readonly scalar: (...args: number[]) => number
  /** Result dtype; default: the operands' common float type. */
  readonly dtype?: DType
  /**
   * The tangent of the result due to operand `index`, or its cotangent: both are `t` times the
   * partial derivative, which is all that an elementwise operation needs for either mode.
   */
  readonly partial?: (
    index: number,
    t: Tensor,
    inputs: readonly Tensor[],
    output: Tensor,
  ) => MaybeTensor
  /** Operands that must share one dtype; default all. `where` excludes its condition. */
  readonly typed?: readonly number[]
  readonly integers?: boolean
}

function elementwiseType(rule: ElementwiseRule, inputs: readonly TensorType[]): TensorType[] {
  const [first] = inputs
  for (const type of inputs) {
    if (!sameShape(type.shape, first.shape)) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `'${rule.name}' expected operands of one shape, got ${inputs.map(formatType).join(', ')}.`,
      )
    }
  }
  const typed = (rule.typed ?? inputs.map((_, i) => i)).map((i) => inputs[i])
  const dtype = typed[0].dtype
  if (typed.some((type) => type.dtype !== dtype)) {
    throw new LosscapeError(
      'ERR_DTYPE',
      `'${rule.name}' expected operands of one dtype, got ${inputs.map(formatType).join(', ')}. Use cast().`,
    )
  }
  if (!rule.integers && !isFloat(dtype)) {
    throw new LosscapeError(
      'ERR_DTYPE',
      `'${rule.name}' expected floating-point operands, got ${formatType(typed[0])}. Use cast().`,
    )
  }
  return [{ dtype: rule.dtype ?? dtype, shape: first.shape }]
}

/** Registers an elementwise operation; operands have one shape, broadcasting happens before. */
function defineElementwise(rule: ElementwiseRule): void {
  const { name, scalar, partial } = rule
  const arity = scalar.length
  const integerResult = rule.dtype !== undefined && !isFloat(rule.dtype)
  defineOperation({
    name,
    scalar,
    recompute: true,
    batching: 'elementwise',
    type(inputs) {
      if (inputs.length !== arity) {
        throw new LosscapeError(
          'ERR_PROGRAM',
          `'${name}' takes ${arity} operands, got ${inputs.length}.`,
        )
      }
      return elementwiseType(rule, inputs)
    },
    evaluate(inputs, _types, _attributes, [result]) {
      const n = inputs[0].length
      const out = new Float64Array(n)
      const round = rounding(result.dtype)
      const [a, b, c] = inputs
      for (let i = 0; i < n; i++) out[i] = round(scalar(a[i], b?.[i], c?.[i]))
      return [out]
    },
    jvp({ inputs, outputs }, tangents) {
      if (integerResult || !partial) return [null]
      let sum: MaybeTensor = null
      for (const [i, tangent] of tangents.entries()) {
        if (!tangent) continue
        const term = partial(i, tangent, inputs, outputs[0])
        if (term) sum = sum ? add(sum, term) : term
      }
      return [sum]
    },
    vjp({ inputs, outputs }, [cotangent], needed) {
      return inputs.map((_, i) =>
        cotangent && partial && needed[i] ? partial(i, cotangent, inputs, outputs[0]) : null,
      )
    },
    vmap(inputs, batched, attributes, size) {
      const aligned = inputs.map((x, i) => (batched[i] ? x : broadcastTo(x, [size, ...x.shape])))
      return [emitOne(name, aligned, attributes)]
    },
  })
}

/** Rounding of a stored result in the float64 reference: integers truncate and saturate. */
export function rounding(dtype: DType): (x: number) => number {
  if (dtype === 'i32') return (x) => saturate(x, -2147483648, 2147483647)
  if (dtype === 'u8') return (x) => saturate(x, 0, 255)
  return (x) => x
}

function saturate(x: number, low: number, high: number): number {
  return Number.isNaN(x) ? 0 : Math.min(high, Math.max(low, Math.trunc(x)))
}

/** Brings operands to one shape and numbers to tensors, then emits. */
function apply(name: string, ...operands: Operand[]): Tensor {
  const tensors = operands.filter((x): x is Tensor => x instanceof Tensor)
  if (tensors.length === 0) {
    throw new LosscapeError('ERR_PROGRAM', `'${name}' needs at least one traced tensor.`)
  }
  const shape = tensors.map((t) => t.shape).reduce(broadcastShapes)
  // Numbers take the dtype of the tensor beside them; a condition's u8 gives way to a value's.
  const dtype = tensors.at(-1)?.dtype as DType
  const aligned = operands.map((x) =>
    x instanceof Tensor ? broadcastTo(x, shape) : constant(x, { dtype, shape }),
  )
  return emitOne(name, aligned)
}

const sigmoidReference = (x: number): number =>
  x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x))

const INVERSE_SQRT_TWO_PI = 1 / Math.sqrt(2 * Math.PI)
const normalDensity = (x: number): number => Math.exp(-0.5 * x * x) * INVERSE_SQRT_TWO_PI
const normalCumulative = (x: number): number => 0.5 * (1 + erfReference(x * Math.SQRT1_2))

const truth = (condition: boolean): number => (condition ? 1 : 0)

function roundHalfEven(x: number): number {
  const r = Math.round(x)
  return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r
}

defineElementwise({ name: 'neg', scalar: (a) => -a, integers: true, partial: (_, t) => neg(t) })
defineElementwise({
  name: 'abs',
  scalar: (a) => Math.abs(a),
  integers: true,
  partial: (_, t, [x]) => mul(t, sign(x)),
})
defineElementwise({ name: 'sign', scalar: (a) => (a === 0 ? 0 : Math.sign(a)), integers: true })
defineElementwise({
  name: 'exp',
  scalar: (a) => Math.exp(a),
  partial: (_, t, _x, y) => mul(t, y),
})
defineElementwise({
  name: 'expm1',
  scalar: (a) => Math.expm1(a),
  partial: (_, t, _x, y) => mul(t, add(y, 1)),
})
defineElementwise({ name: 'log', scalar: (a) => Math.log(a), partial: (_, t, [x]) => div(t, x) })
defineElementwise({
  name: 'log1p',
  scalar: (a) => Math.log1p(a),
  partial: (_, t, [x]) => div(t, add(x, 1)),
})
defineElementwise({
  name: 'sqrt',
  scalar: (a) => Math.sqrt(a),
  partial: (_, t, _x, y) => div(t, mul(y, 2)),
})
defineElementwise({
  name: 'rsqrt',
  scalar: (a) => 1 / Math.sqrt(a),
  partial: (_, t, _x, y) => mul(mul(t, -0.5), mul(y, mul(y, y))),
})
defineElementwise({
  name: 'sin',
  scalar: (a) => Math.sin(a),
  partial: (_, t, [x]) => mul(t, cos(x)),
})
defineElementwise({
  name: 'cos',
  scalar: (a) => Math.cos(a),
  partial: (_, t, [x]) => neg(mul(t, sin(x))),
})
defineElementwise({
  name: 'tanh',
  scalar: (a) => Math.tanh(a),
  partial: (_, t, _x, y) => mul(t, sub(1, mul(y, y))),
})
defineElementwise({
  name: 'erf',
  scalar: (a) => erfReference(a),
  partial: (_, t, [x]) => mul(t, mul(exp(neg(mul(x, x))), 2 / Math.sqrt(Math.PI))),
})
defineElementwise({
  name: 'sigmoid',
  scalar: sigmoidReference,
  partial: (_, t, _x, y) => mul(t, mul(y, sub(1, y))),
})
defineElementwise({
  name: 'softplus',
  scalar: (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a))),
  partial: (_, t, [x]) => mul(t, sigmoid(x)),
})
// The derivative reads the result, so that the pre-activation need not be kept.
defineElementwise({
  name: 'relu',
  scalar: (a) => (a <= 0 ? 0 : a),
  partial: (_, t, _x, y) => where(le(y, 0), 0, t),
})
// With Φ and φ the normal distribution and its density: xΦ, Φ + xφ and (2 - x²)φ. Operations of
// their own, so that a linear program keeps each as one value and not the parts of a formula.
defineElementwise({
  name: 'gelu',
  scalar: (a) => a * normalCumulative(a),
  partial: (_, t, [x]) => mul(t, apply('gelu_slope', x)),
})
defineElementwise({
  name: 'gelu_slope',
  scalar: (a) => normalCumulative(a) + a * normalDensity(a),
  partial: (_, t, [x]) => mul(t, apply('gelu_curvature', x)),
})
defineElementwise({
  name: 'gelu_curvature',
  scalar: (a) => (2 - a * a) * normalDensity(a),
  partial(_, t, [x]) {
    const square = mul(x, x)
    const density = mul(exp(mul(square, -0.5)), INVERSE_SQRT_TWO_PI)
    return mul(t, mul(mul(x, sub(square, 4)), density))
  },
})
defineElementwise({ name: 'floor', scalar: (a) => Math.floor(a) })
defineElementwise({ name: 'round', scalar: roundHalfEven })
defineElementwise({ name: 'isfinite', scalar: (a) => truth(Number.isFinite(a)), dtype: 'u8' })

defineElementwise({ name: 'add', scalar: (a, b) => a + b, integers: true, partial: (_, t) => t })
defineElementwise({
  name: 'sub',
  scalar: (a, b) => a - b,
  integers: true,
  partial: (i, t) => (i === 0 ? t : neg(t)),
})
defineElementwise({
  name: 'mul',
  scalar: (a, b) => a * b,
  integers: true,
  partial: (i, t, inputs) => mul(t, inputs[1 - i]),
})
defineElementwise({
  name: 'div',
  scalar: (a, b) => a / b,
  partial: (i, t, [, b], y) => (i === 0 ? div(t, b) : neg(div(mul(t, y), b))),
})
defineElementwise({
  name: 'pow',
  scalar: (a, b) => a ** b,
  partial: (i, t, [a, b], y) =>
    i === 0
      ? // x^0 is constant, also at 0 where x^-1 is infinite.
        mul(t, where(eq(b, 0), 0, mul(b, pow(a, sub(b, 1)))))
      : mul(t, where(eq(a, 0), 0, mul(y, log(where(eq(a, 0), 1, a))))),
})
for (const [name, choose, wins] of [
  ['max', (a: number, b: number) => Math.max(a, b), gt],
  ['min', (a: number, b: number) => Math.min(a, b), lt],
] as const) {
  defineElementwise({
    name,
    scalar: choose,
    integers: true,
    // Equal operands share the derivative, which keeps max symmetric in its arguments.
    partial: (i, t, [a, b]) =>
      mul(t, where(eq(a, b), 0.5, cast(i === 0 ? wins(a, b) : wins(b, a), t.dtype))),
  })
}
for (const [name, compare] of [
  ['eq', (a: number, b: number) => truth(a === b)],
  ['ne', (a: number, b: number) => truth(a !== b)],
  ['lt', (a: number, b: number) => truth(a < b)],
  ['le', (a: number, b: number) => truth(a <= b)],
  ['gt', (a: number, b: number) => truth(a > b)],
  ['ge', (a: number, b: number) => truth(a >= b)],
  ['and', (a: number, b: number) => truth(a !== 0 && b !== 0)],
  ['or', (a: number, b: number) => truth(a !== 0 || b !== 0)],
] as const) {
  defineElementwise({ name, scalar: compare, dtype: 'u8', integers: true })
}
defineElementwise({ name: 'not', scalar: (a) => truth(a === 0), dtype: 'u8', integers: true })
defineElementwise({
  name: 'where',
  scalar: (c, a, b) => (c !== 0 ? a : b),
  typed: [1, 2],
  integers: true,
  partial: (i, t, [condition]) =>
    i === 0 ? null : i === 1 ? where(condition, t, 0) : where(condition, 0, t),
})

/** -a */
export const neg = (a: Tensor): Tensor => apply('neg', a)
/** |a|; derivative 0 at 0. */
export const abs = (a: Tensor): Tensor => apply('abs', a)
/** -1, 0 or 1; derivative 0. */
export const sign = (a: Tensor): Tensor => apply('sign', a)
export const exp = (a: Tensor): Tensor => apply('exp', a)
/** e^a - 1, accurate near 0. */
export const expm1 = (a: Tensor): Tensor => apply('expm1', a)
export const log = (a: Tensor): Tensor => apply('log', a)
/** log(1 + a), accurate near 0. */
export const log1p = (a: Tensor): Tensor => apply('log1p', a)
export const sqrt = (a: Tensor): Tensor => apply('sqrt', a)
/** 1 / sqrt(a) */
export const rsqrt = (a: Tensor): Tensor => apply('rsqrt', a)
export const sin = (a: Tensor): Tensor => apply('sin', a)
export const cos = (a: Tensor): Tensor => apply('cos', a)
export const tanh = (a: Tensor): Tensor => apply('tanh', a)
export const erf = (a: Tensor): Tensor => apply('erf', a)
/** 1 / (1 + e^-a) */
export const sigmoid = (a: Tensor): Tensor => apply('sigmoid', a)
/** log(1 + e^a), without overflow. */
export const softplus = (a: Tensor): Tensor => apply('softplus', a)
/** max(a, 0); derivative 0 at 0. NaN stays NaN. */
export const relu = (a: Tensor): Tensor => apply('relu', a)
export const floor = (a: Tensor): Tensor => apply('floor', a)
/** To the nearest integer, halves to even. */
export const round = (a: Tensor): Tensor => apply('round', a)
/** 1 where a is finite, else 0 (u8). */
export const isFinite = (a: Tensor): Tensor => apply('isfinite', a)
export const add = (a: Operand, b: Operand): Tensor => apply('add', a, b)
export const sub = (a: Operand, b: Operand): Tensor => apply('sub', a, b)
export const mul = (a: Operand, b: Operand): Tensor => apply('mul', a, b)
export const div = (a: Operand, b: Operand): Tensor => apply('div', a, b)
/** a^b */
export const pow = (a: Operand, b: Operand): Tensor => apply('pow', a, b)
/** The larger; NaN wins; equal operands share the derivative. */
export const maximum = (a: Operand, b: Operand): Tensor => apply('max', a, b)
/** The smaller; NaN wins; equal operands share the derivative. */
export const minimum = (a: Operand, b: Operand): Tensor => apply('min', a, b)
/** Comparisons give u8 tensors of 0 and 1. */
export function eq(a: Operand, b: Operand): Tensor {
  return apply('eq', a, b)
}
export function ne(a: Operand, b: Operand): Tensor {
  return apply('ne', a, b)
}
export function lt(a: Operand, b: Operand): Tensor {
  return apply('lt', a, b)
}
export function le(a: Operand, b: Operand): Tensor {
  return apply('le', a, b)
}
export function gt(a: Operand, b: Operand): Tensor {
  return apply('gt', a, b)
}
export function ge(a: Operand, b: Operand): Tensor {
  return apply('ge', a, b)
}
export const logicalAnd = (a: Tensor, b: Tensor): Tensor => apply('and', a, b)
export const logicalOr = (a: Tensor, b: Tensor): Tensor => apply('or', a, b)
export const logicalNot = (a: Tensor): Tensor => apply('not', a)
/** a where the condition is not 0, else b. */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  if (!(a instanceof Tensor) && !(b instanceof Tensor)) {
    return where(condition, constant(a, { dtype: 'f32', shape: [] }), b)
  }
  const shape = [condition, a, b]
    .filter((x): x is Tensor => x instanceof Tensor)
    .map((t) => t.shape)
    .reduce(broadcastShapes)
  const dtype = (a instanceof Tensor ? a : (b as Tensor)).dtype
  const value = (x: Operand) =>
    x instanceof Tensor ? broadcastTo(x, shape) : constant(x, { dtype, shape })
  return emitOne('where', [broadcastTo(condition, shape), value(a), value(b)])
}

defineOperation({
  name: 'cast',
  recompute: true,
  batching: 'elementwise',
  type([input], { dtype }) {
    return [{ dtype: dtype as DType, shape: input.shape }]
  },
  evaluate([x], _types, _attributes, [result]) {
    return [x.map(rounding(result.dtype))]
  },
  jvp({ inputs, attributes }, [t]) {
    const dtype = attributes.dtype as DType
    return [t && isFloat(dtype) && isFloat(inputs[0].dtype) ? cast(t, dtype) : null]
  },
  vjp({ inputs }, [ct]) {
    return [ct && isFloat(inputs[0].dtype) && isFloat(ct.dtype) ? cast(ct, inputs[0].dtype) : null]
  },
  vmap([x], _batched, attributes) {
    return [emitOne('cast', [x], attributes)]
  },
})

/** Converts the element type; to integers truncates toward zero and saturates. */
export function cast(a: Tensor, dtype: DType): Tensor {
  return a.dtype === dtype ? a : emitOne('cast', [a], { dtype })
}

/** Limits a to [low, high]; derivative 1 inside (bounds included), 0 outside. */
export function clamp(a: Tensor, low: number, high: number): Tensor {
  if (!(low <= high)) {
    throw new LosscapeError('ERR_ARGUMENT', `clamp needs low <= high, got ${low} and ${high}.`)
  }
  return where(lt(a, low), low, where(gt(a, high), high, a))
}

/** Gaussian error linear unit a Phi(a), or its tanh approximation. */
export function gelu(a: Tensor, approximate: 'none' | 'tanh' = 'none'): Tensor {
  if (approximate === 'tanh') {
    const inner = mul(add(a, mul(mul(mul(a, a), a), 0.044715)), Math.sqrt(2 / Math.PI))
    return mul(mul(a, 0.5), add(tanh(inner), 1))
  }
  return apply('gelu', a)
}

/** a sigmoid(a), also called swish. */
export function silu(a: Tensor): Tensor {
  return mul(a, sigmoid(a))
}

/** a where positive, slope * a elsewhere. */
export function leakyRelu(a: Tensor, slope = 0.01): Tensor {
  return where(gt(a, 0), a, mul(a, slope))
}
