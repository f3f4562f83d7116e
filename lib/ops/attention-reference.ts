import { elements } from '../program/shape.js'
import type { Attributes, TensorType } from '../program/types.js'
import { type AttentionSizes, attentionSizes, headCount, tangentAxes } from './attention-shapes.js'

/*
 * The attention family in float64, head by head with whole score matrices: the oracle of the
 * kernels, which never hold one.
 */

/** Row-major matrix. */
type Matrix = Float64Array

/** x [n, k] yᵀ [k, m] */
function timesTransposed(x: Matrix, y: Matrix, n: number, m: number, k: number): Matrix {
  const out = new Float64Array(n * m)
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < m; j++) {
      let s = 0
      for (let c = 0; c < k; c++) s += x[i * k + c] * y[j * k + c]
      out[i * m + j] = s
    }
  }
  return out
}

/** x [n, m] y [m, k] */
function times(x: Matrix, y: Matrix, n: number, m: number, k: number): Matrix {
  const out = new Float64Array(n * k)
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < m; j++) {
      // A key that takes no part may hold anything.
      if (x[i * m + j] === 0) continue
      for (let c = 0; c < k; c++) out[i * k + c] += x[i * m + j] * y[j * k + c]
    }
  }
  return out
}

/** xᵀ [m, n] y [n, k] */
function transposedTimes(x: Matrix, y: Matrix, n: number, m: number, k: number): Matrix {
  const out = new Float64Array(m * k)
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < m; j++) {
      for (let c = 0; c < k; c++) out[j * k + c] += x[i * m + j] * y[i * k + c]
    }
  }
  return out
}

function rowDots(x: Matrix, y: Matrix, n: number): Float64Array {
  const size = n === 0 ? 0 : x.length / n
  return Float64Array.from({ length: n }, (_, i) => {
    let s = 0
    for (let c = 0; c < size; c++) s += x[i * size + c] * y[i * size + c]
    return s
  })
}

const map2 = (x: Matrix, y: Matrix, f: (a: number, b: number, i: number) => number): Matrix =>
  x.map((a, i) => f(a, y[i], i))
const add = (x: Matrix, y: Matrix): Matrix => map2(x, y, (a, b) => a + b)
const scaled = (x: Matrix, factor: number): Matrix => x.map((a) => a * factor)

/** The operands of one operation, cut into heads. */
class Reference {
  readonly sizes: AttentionSizes
  readonly scale: number

  constructor(
    readonly inputs: readonly Float64Array[],
    readonly types: readonly TensorType[],
    readonly attributes: Attributes,
  ) {
    this.sizes = attentionSizes('attention', types, attributes)
    this.scale = attributes.scale as number
  }

  /** Calls `visit` for every head. */
  forEachHead(visit: (head: Head) => void): void {
    const { batch, heads } = this.sizes
    for (let bh = 0; bh < batch * heads; bh++) visit(new Head(this, bh))
  }
}

/** One head: matrices of its operands and the places of its results. */
class Head {
  readonly q: Matrix
  readonly k: Matrix
  readonly v: Matrix

  constructor(
    private readonly all: Reference,
    private readonly bh: number,
  ) {
    const { queries, keys, width, valueWidth } = all.sizes
    this.q = this.tokens(all.inputs[0], queries, width)
    this.k = this.tokens(all.inputs[1], keys, width)
    this.v = this.tokens(all.inputs[2], keys, valueWidth)
  }

  /** Offset of a token in tangent r of a tensor. */
  private at(token: number, tokens: number, size: number, r: number): number {
    const { batch, heads, tokensFirst } = this.all.sizes
    const b = Math.floor(this.bh / heads)
    const h = this.bh % heads
    const row = tokensFirst ? (b * tokens + token) * heads + h : this.bh * tokens + token
    return (r * batch * heads * tokens + row) * size
  }

  tokens(x: Float64Array, tokens: number, size: number, r = 0): Matrix {
    const out = new Float64Array(tokens * size)
    for (let i = 0; i < tokens; i++) {
      const at = this.at(i, tokens, size, r)
      out.set(x.subarray(at, at + size), i * size)
    }
    return out
  }

  put(rows: Matrix, to: Float64Array, tokens: number, r = 0): void {
    const size = tokens === 0 ? 0 : rows.length / tokens
    for (let i = 0; i < tokens; i++) {
      to.set(rows.subarray(i * size, (i + 1) * size), this.at(i, tokens, size, r))
    }
  }

  line(x: Float64Array, r = 0): Float64Array {
    const at = this.lineAt(r)
    return x.slice(at, at + this.all.sizes.queries)
  }

  putLine(line: Float64Array, to: Float64Array, r = 0): void {
    to.set(line, this.lineAt(r))
  }

  private lineAt(r: number): number {
    const { batch, heads, queries } = this.all.sizes
    return (r * batch * heads + this.bh) * queries
  }

  /** Where this head's matrix of the bias begins, in tangent r. */
  private biasAt(r: number): number {
    const { lead, heads, queries, keys } = this.all.sizes
    const shape = this.all.types[3].shape
    const full = [...lead, heads]
    let [rest, stride, at] = [this.bh, queries * keys, 0]
    for (let i = full.length - 1; i >= 0; i--) {
      if (shape[i] !== 1) {
        at += (rest % full[i]) * stride
        stride *= full[i]
      }
      rest = Math.floor(rest / full[i])
    }
    return r * elements(shape) + at
  }

  bias(x: Float64Array, r = 0): Matrix {
    const at = this.biasAt(r)
    return x.slice(at, at + this.all.sizes.queries * this.all.sizes.keys)
  }

  addBias(slopes: Matrix, to: Float64Array, r = 0): void {
    const at = this.biasAt(r)
    for (const [i, s] of slopes.entries()) to[at + i] += s
  }

  /** scale Q Kᵀ + bias, -Infinity where a query does not see a key. */
  scores(): Matrix {
    const { inputs, attributes, scale } = this.all
    const { queries, keys, width, heads } = this.all.sizes
    const s = scaled(timesTransposed(this.q, this.k, queries, keys, width), scale)
    const bias = attributes.bias === 1 ? this.bias(inputs[3]) : null
    const mask = attributes.mask === 1 ? inputs[headCount(attributes) - 1] : null
    const b = Math.floor(this.bh / heads)
    return s.map((x, i) => {
      const [n, m] = [Math.floor(i / keys), i % keys]
      const hidden = (attributes.causal === 1 && m > n) || mask?.[b * keys + m] === 0
      return hidden ? Number.NEGATIVE_INFINITY : x + (bias ? bias[i] : 0)
    })
  }

  /** exp(scores - lse) */
  probabilities(lse: Float64Array): Matrix {
    const { keys } = this.all.sizes
    return this.scores().map((s, i) => Math.exp(s - lse[Math.floor(i / keys)]))
  }

  /** scale (Q̇ Kᵀ + Q K̇ᵀ) + ḃ; 0 where P is: a hidden key may hold anything. */
  scoreTangents(p: Matrix, qDot: Matrix, kDot: Matrix, biasDot: Matrix | null): Matrix {
    const { queries, keys, width } = this.all.sizes
    const s = add(
      timesTransposed(qDot, this.k, queries, keys, width),
      timesTransposed(this.q, kDot, queries, keys, width),
    )
    return p.map((x, i) => (x === 0 ? 0 : this.all.scale * s[i] + (biasDot ? biasDot[i] : 0)))
  }
}

/** log of the sum of exponentials; 0 for a row of -Infinity, which sees no key. */
function logSumExpOfRow(row: Float64Array): number {
  const max = row.reduce((m, x) => Math.max(m, x), Number.NEGATIVE_INFINITY)
  if (max === Number.NEGATIVE_INFINITY) return 0
  return max + Math.log(row.reduce((s, x) => s + Math.exp(x - max), 0))
}

type Evaluate = (
  inputs: readonly Float64Array[],
  types: readonly TensorType[],
  attributes: Attributes,
  results: readonly TensorType[],
) => Float64Array[]

const empty = (results: readonly TensorType[]): Float64Array[] =>
  results.map(({ shape }) => new Float64Array(elements(shape)))

export const evaluateAttention: Evaluate = (inputs, types, attributes, results) => {
  const all = new Reference(inputs, types, attributes)
  const { queries, keys, valueWidth } = all.sizes
  const out = empty(results)
  all.forEachHead((head) => {
    const scores = head.scores()
    const lse = Float64Array.from({ length: queries }, (_, n) =>
      logSumExpOfRow(scores.subarray(n * keys, (n + 1) * keys)),
    )
    const p = scores.map((s, i) => Math.exp(s - lse[Math.floor(i / keys)]))
    head.put(times(p, head.v, queries, keys, valueWidth), out[0], queries)
    head.putLine(lse, out[1])
  })
  return out
}

export const evaluateAttentionVjp: Evaluate = (inputs, types, attributes, results) => {
  const all = new Reference(inputs, types, attributes)
  const { queries, keys, width, valueWidth } = all.sizes
  const [o, lse, dOut] = inputs.slice(headCount(attributes))
  const out = empty(results)
  all.forEachHead((head) => {
    const p = head.probabilities(head.line(lse))
    const g = head.tokens(dOut, queries, valueWidth)
    const dot = rowDots(g, head.tokens(o, queries, valueWidth), queries)
    const dP = timesTransposed(g, head.v, queries, keys, valueWidth)
    const dS = map2(p, dP, (a, b, i) => (a === 0 ? 0 : a * (b - dot[Math.floor(i / keys)])))
    head.put(scaled(times(dS, head.k, queries, keys, width), all.scale), out[0], queries)
    head.put(scaled(transposedTimes(dS, head.q, queries, keys, width), all.scale), out[1], keys)
    head.put(transposedTimes(p, g, queries, keys, valueWidth), out[2], keys)
    if (out[3]) head.addBias(dS, out[3])
  })
  return out
}

export const evaluateAttentionJvp: Evaluate = (inputs, types, attributes, results) => {
  const all = new Reference(inputs, types, attributes)
  const { queries, keys, width, valueWidth } = all.sizes
  const n = headCount(attributes)
  const [o, lse, qDot, kDot, vDot, biasDot] = inputs.slice(n)
  const count = elements(tangentAxes(types[0], types[n + 2]))
  const out = empty(results)
  all.forEachHead((head) => {
    const p = head.probabilities(head.line(lse))
    const value = head.tokens(o, queries, valueWidth)
    for (let r = 0; r < count; r++) {
      const s = head.scoreTangents(
        p,
        head.tokens(qDot, queries, width, r),
        head.tokens(kDot, keys, width, r),
        biasDot ? head.bias(biasDot, r) : null,
      )
      const t = rowDots(p, s, queries)
      const weights = map2(p, s, (a, b) => a * b)
      const moved = add(
        times(weights, head.v, queries, keys, valueWidth),
        times(p, head.tokens(vDot, keys, valueWidth, r), queries, keys, valueWidth),
      )
      const rows = moved.map((x, i) => x - t[Math.floor(i / valueWidth)] * value[i])
      head.put(rows, out[0], queries, r)
      head.putLine(t, out[1], r)
    }
  })
  return out
}

export const evaluateAttentionVjpJvp: Evaluate = (inputs, types, attributes, results) => {
  const all = new Reference(inputs, types, attributes)
  const { queries, keys, width, valueWidth } = all.sizes
  const n = headCount(attributes)
  const [o, lse, dOut, qDot, kDot, vDot, ...rest] = inputs.slice(n)
  const biasDot = attributes.biasActive === 1 ? rest[0] : null
  const [oDot, lseDot, dOutDot] = rest.slice(-3)
  const count = elements(tangentAxes(types[0], types[n + 3]))
  const out = empty(results)
  all.forEachHead((head) => {
    const p = head.probabilities(head.line(lse))
    const g = head.tokens(dOut, queries, valueWidth)
    const value = head.tokens(o, queries, valueWidth)
    const dot = rowDots(g, value, queries)
    const dP = timesTransposed(g, head.v, queries, keys, valueWidth)
    const e = dP.map((x, i) => x - dot[Math.floor(i / keys)])
    const dS = map2(p, e, (a, b) => (a === 0 ? 0 : a * b))
    for (let r = 0; r < count; r++) {
      const qd = head.tokens(qDot, queries, width, r)
      const kd = head.tokens(kDot, keys, width, r)
      const vd = head.tokens(vDot, keys, valueWidth, r)
      const gd = head.tokens(dOutDot, queries, valueWidth, r)
      const s = head.scoreTangents(p, qd, kd, biasDot ? head.bias(biasDot, r) : null)
      const t = head.line(lseDot, r)
      const pDot = map2(p, s, (a, b, i) => (a === 0 ? 0 : a * (b - t[Math.floor(i / keys)])))
      const dotDot = add(
        rowDots(gd, value, queries),
        rowDots(g, head.tokens(oDot, queries, valueWidth, r), queries),
      )
      const dPDot = add(
        timesTransposed(gd, head.v, queries, keys, valueWidth),
        timesTransposed(g, vd, queries, keys, valueWidth),
      )
      const dSDot = p.map((x, i) =>
        x === 0 ? 0 : pDot[i] * e[i] + x * (dPDot[i] - dotDot[Math.floor(i / keys)]),
      )
      const dq = add(
        times(dSDot, head.k, queries, keys, width),
        times(dS, kd, queries, keys, width),
      )
      const dk = add(
        transposedTimes(dSDot, head.q, queries, keys, width),
        transposedTimes(dS, qd, queries, keys, width),
      )
      const dv = add(
        transposedTimes(pDot, g, queries, keys, valueWidth),
        transposedTimes(p, gd, queries, keys, valueWidth),
      )
      head.put(scaled(dq, all.scale), out[0], queries, r)
      head.put(scaled(dk, all.scale), out[1], keys, r)
      head.put(dv, out[2], keys, r)
      if (out[3]) head.addBias(dSDot, out[3], r)
    }
  })
  return out
}
