import { LosscapeError } from '../errors.js'
import { defineOperation, type MaybeTensor } from '../program/registry.js'
import { elements, range, sameShape } from '../program/shape.js'
import { emit, emitOne, type Tensor } from '../program/tensor.js'
import { type Attributes, formatType, isFloat, type TensorType } from '../program/types.js'
import { onesLike } from './constant.js'
import { add, mul } from './elementwise.js'
import { broadcastTo, reshape, transpose } from './movement.js'
import { logSumExp, sum } from './reduce.js'

/*
 * The softmax cross-entropy family, closed to second order. With q the (smoothed) target
 * probabilities, w the class weights and W = sum_c w_c q_c of a row:
 *
 *   loss  = W lse(z) - sum_c w_c q_c z_c          r = W p - w q          Q = W (diag(p) - p pᵀ)
 *
 *   cross_entropy          z, t [, w]                  -> loss, lse
 *   cross_entropy_vjp      z, t [, w], lse, g          -> g r
 *   cross_entropy_jvp      z, t [, w], lse, dz[R]      -> rᵀ dz
 *   cross_entropy_vjp_jvp  z, t [, w], lse, g, dz[R]   -> g Q dz
 */

const FAMILY = 'cross_entropy'

/** Operands of the family before its own last ones: logits, targets and, if weighted, weights. */
function headCount(attributes: Attributes): number {
  return attributes.weighted === 1 ? 3 : 2
}

function checkHead(name: string, inputs: readonly TensorType[], attributes: Attributes): void {
  const [z, t, w] = inputs
  const classes = z.shape.at(-1)
  const fail = (expected: string, got: TensorType): never => {
    throw new LosscapeError(
      'ERR_SHAPE',
      `'${name}' expected ${expected} for logits ${formatType(z)}, got ${formatType(got)}.`,
    )
  }
  if (!isFloat(z.dtype) || classes === undefined) fail('floating-point logits [.., C]', z)
  if (t.dtype === 'i32') {
    if (!sameShape(t.shape, z.shape.slice(0, -1))) fail('i32 labels without the last axis', t)
  } else if (t.dtype !== z.dtype || !sameShape(t.shape, z.shape)) {
    fail('i32 labels, or probabilities of the logits’ type', t)
  }
  if (
    attributes.weighted === 1 &&
    !(w.dtype === z.dtype && sameShape(w.shape, [classes as number]))
  )
    fail(`class weights [${classes}]`, w)
}

interface Row {
  /** w_c q_c per class, its sum, and the probabilities. */
  target: Float64Array
  total: number
  p: Float64Array
  lse: number
}

/** Calls `visit` with the pieces of every row of the head operands. */
function forEachRow(
  inputs: readonly Float64Array[],
  types: readonly TensorType[],
  attributes: Attributes,
  visit: (row: number, pieces: Row) => void,
): void {
  const [z, t] = inputs
  const w = attributes.weighted === 1 ? inputs[2] : undefined
  const classes = types[0].shape.at(-1) as number
  const smoothing = attributes.smoothing as number
  const rows = elements(types[0].shape.slice(0, -1))
  for (let i = 0; i < rows; i++) {
    const logits = z.subarray(i * classes, (i + 1) * classes)
    const lse = logSumExp(logits)
    const p = logits.map((v) => Math.exp(v - lse))
    const target = new Float64Array(classes)
    const ignored = types[1].dtype === 'i32' && t[i] === attributes.ignore
    if (!ignored) {
      for (let c = 0; c < classes; c++) {
        const q =
          types[1].dtype === 'i32' ? Number(labelOf(t[i], classes, i) === c) : t[i * classes + c]
        target[c] = ((1 - smoothing) * q + smoothing / classes) * (w ? w[c] : 1)
      }
    }
    const total = target.reduce((s, v) => s + v, 0)
    visit(i, { target, total, p, lse })
  }
}

function labelOf(label: number, classes: number, row: number): number {
  if (!(label >= 0 && label < classes)) {
    throw new LosscapeError(
      'ERR_RANGE',
      `Sample ${row} has label ${label}; expected 0 to ${classes - 1}.`,
    )
  }
  return label
}

/** W p - w q, where a hard label's own entry is computed without cancellation. */
function residual({ target, total, p }: Row, c: number): number {
  if (target[c] > 0.5 * total) {
    let others = 0
    for (let k = 0; k < p.length; k++) if (k !== c) others += p[k]
    return total - target[c] - total * others
  }
  return total * p[c] - target[c]
}

/** Splits the operands of a derivative into head, lse, and the operation's own. */
function parts(inputs: readonly Tensor[], attributes: Attributes) {
  const n = headCount(attributes)
  return {
    head: inputs.slice(0, n),
    lse: inputs[n],
    own: inputs.slice(n + 1),
  }
}

const vjpOf = (head: readonly Tensor[], lse: Tensor, g: Tensor, attributes: Attributes): Tensor =>
  emitOne('cross_entropy_vjp', [...head, lse, g], attributes)

/** rᵀ dz with any number of leading tangent axes folded into one. */
const jvpOf = (head: readonly Tensor[], lse: Tensor, dz: Tensor, attributes: Attributes): Tensor =>
  emitOne('cross_entropy_jvp', [...head, lse, dz], attributes)

const curvatureOf = (
  head: readonly Tensor[],
  lse: Tensor,
  g: Tensor,
  dz: Tensor,
  attributes: Attributes,
): Tensor => emitOne('cross_entropy_vjp_jvp', [...head, lse, g, dz], attributes)

const one = (t: Tensor): Tensor => reshape(t, [1, ...t.shape])
const first = (t: Tensor): Tensor => reshape(t, t.shape.slice(1))

function thirdDerivative(name: string): never {
  throw new LosscapeError(
    'ERR_PROGRAM',
    `'${name}' has no further derivative: the cross-entropy family is closed to second order. Write the loss with logSoftmax() to differentiate it further.`,
  )
}

/** Gives unbatched operands the leading axis; class weights are shared by all rows. */
function batchHead(
  inputs: readonly Tensor[],
  batched: readonly boolean[],
  attributes: Attributes,
  size: number,
): Tensor[] {
  return inputs.map((x, i) => {
    if (i === 2 && attributes.weighted === 1) {
      if (batched[i])
        throw new LosscapeError('ERR_PROGRAM', 'vmap over class weights is not possible.')
      return x
    }
    return batched[i] ? x : broadcastTo(x, [size, ...x.shape])
  })
}

/** vmap of the two operations with tangents [R, ..]: more tangents, or more rows. */
function batchTangents(
  name: string,
  inputs: readonly Tensor[],
  batched: readonly boolean[],
  attributes: Attributes,
  size: number,
): Tensor {
  const last = inputs.length - 1
  const dz = inputs[last]
  if (batched.every((is, i) => is === (i === last))) {
    const merged = reshape(dz, [-1, ...dz.shape.slice(2)])
    const y = emitOne(name, [...inputs.slice(0, last), merged], attributes)
    return reshape(y, [size, dz.shape[1], ...y.shape.slice(1)])
  }
  const head = batchHead(inputs.slice(0, last), batched.slice(0, last), attributes, size)
  const all = batched[last] ? dz : broadcastTo(dz, [size, ...dz.shape])
  const swap = (x: Tensor): Tensor => transpose(x, [1, 0, ...range(x.rank).slice(2)])
  return swap(emitOne(name, [...head, swap(all)], attributes))
}

defineOperation({
  name: 'cross_entropy',
  batching: 'merge',
  auxiliary: [1],
  family: FAMILY,
  type(inputs, attributes) {
    checkHead('cross_entropy', inputs, attributes)
    const type = { dtype: inputs[0].dtype, shape: inputs[0].shape.slice(0, -1) }
    return [type, type]
  },
  evaluate(inputs, types, attributes, [result]) {
    const loss = new Float64Array(elements(result.shape))
    const lse = new Float64Array(loss.length)
    const classes = types[0].shape.at(-1) as number
    forEachRow(inputs, types, attributes, (i, row) => {
      lse[i] = row.lse
      for (let c = 0; c < classes; c++) {
        if (row.target[c] !== 0) loss[i] += row.target[c] * (row.lse - inputs[0][i * classes + c])
      }
    })
    return [loss, lse]
  },
  jvp({ inputs, outputs, attributes }, tangents) {
    refuseOthers('cross_entropy', tangents, attributes)
    const dz = tangents[0]
    return [dz && first(jvpOf(inputs, outputs[1], one(dz), attributes)), null]
  },
  vjp({ inputs, outputs, attributes }, [g], needed) {
    refuseOthers('cross_entropy', needed, attributes)
    return inputs.map((_, i) => (i === 0 && g ? vjpOf(inputs, outputs[1], g, attributes) : null))
  },
  vmap(inputs, batched, attributes, size) {
    return emit('cross_entropy', batchHead(inputs, batched, attributes, size), attributes)
  },
})

/** Targets and class weights have no derivative; a wish for one is refused rather than zero. */
function refuseOthers(
  name: string,
  wanted: readonly (MaybeTensor | boolean)[],
  attributes: Attributes,
): void {
  if (wanted.slice(1, headCount(attributes)).some(Boolean)) {
    throw new LosscapeError(
      'ERR_PROGRAM',
      `'${name}' is differentiated with respect to its logits only; targets and class weights are constants. Use stopGradient() on them.`,
    )
  }
}

defineOperation({
  name: 'cross_entropy_vjp',
  batching: 'merge',
  family: FAMILY,
  type: (inputs) => [{ dtype: inputs[0].dtype, shape: inputs[0].shape }],
  evaluate(inputs, types, attributes, [result]) {
    const out = new Float64Array(elements(result.shape))
    const g = inputs[headCount(attributes) + 1]
    const classes = types[0].shape.at(-1) as number
    forEachRow(inputs, types, attributes, (i, row) => {
      for (let c = 0; c < classes; c++) out[i * classes + c] = g[i] * residual(row, c)
    })
    return [out]
  },
  jvp({ inputs, attributes }, tangents) {
    refuseOthers('cross_entropy_vjp', tangents, attributes)
    const { head, lse, own } = parts(inputs, attributes)
    const [dz, dg] = [tangents[0], tangents.at(-1) as MaybeTensor]
    const bend = dz && first(curvatureOf(head, lse, own[0], one(dz), attributes))
    const scale = dg && vjpOf(head, lse, dg, attributes)
    return [bend && scale ? add(bend, scale) : (bend ?? scale)]
  },
  vjp({ inputs, attributes }, [u], needed) {
    refuseOthers('cross_entropy_vjp', needed, attributes)
    const { head, lse, own } = parts(inputs, attributes)
    const last = inputs.length - 1
    return inputs.map((_, i) => {
      if (!u || !needed[i]) return null
      if (i === 0) return first(curvatureOf(head, lse, own[0], one(u), attributes))
      return i === last ? first(jvpOf(head, lse, one(u), attributes)) : null
    })
  },
  vmap(inputs, batched, attributes, size) {
    return [emitOne('cross_entropy_vjp', batchHead(inputs, batched, attributes, size), attributes)]
  },
})

defineOperation({
  name: 'cross_entropy_jvp',
  batching: 'merge',
  family: FAMILY,
  type: (inputs) => [
    { dtype: inputs[0].dtype, shape: (inputs.at(-1) as TensorType).shape.slice(0, -1) },
  ],
  evaluate(inputs, types, attributes, [result]) {
    const out = new Float64Array(elements(result.shape))
    const dz = inputs.at(-1) as Float64Array
    const classes = types[0].shape.at(-1) as number
    const rows = elements(types[0].shape.slice(0, -1))
    forEachRow(inputs, types, attributes, (i, row) => {
      for (let at = i; at < out.length; at += rows) {
        for (let c = 0; c < classes; c++) out[at] += residual(row, c) * dz[at * classes + c]
      }
    })
    return [out]
  },
  jvp({ inputs, attributes }, tangents) {
    refuseOthers('cross_entropy_jvp', tangents, attributes)
    const { head, lse, own } = parts(inputs, attributes)
    const [tz, td] = [tangents[0], tangents.at(-1) as MaybeTensor]
    const straight = td && jvpOf(head, lse, td, attributes)
    if (!tz) return [straight]
    const bend = curvatureOf(head, lse, onesLike(lse), own[0], attributes)
    const cross = sum(mul(bend, broadcastTo(tz, own[0].shape)), [-1])
    return [straight ? add(straight, cross) : cross]
  },
  vjp({ inputs, attributes }, [c], needed) {
    refuseOthers('cross_entropy_jvp', needed, attributes)
    const { head, lse, own } = parts(inputs, attributes)
    const last = inputs.length - 1
    const [dz] = own
    return inputs.map((_, i) => {
      if (!c || !needed[i]) return null
      if (i === last) {
        const unit = vjpOf(head, lse, onesLike(lse), attributes)
        return mul(broadcastTo(unit, dz.shape), reshape(c, [...c.shape, 1]))
      }
      if (i !== 0) return null
      const weighted = sum(mul(dz, reshape(c, [...c.shape, 1])), [0])
      return first(curvatureOf(head, lse, onesLike(lse), one(weighted), attributes))
    })
  },
  vmap(inputs, batched, attributes, size) {
    return [batchTangents('cross_entropy_jvp', inputs, batched, attributes, size)]
  },
})

defineOperation({
  name: 'cross_entropy_vjp_jvp',
  batching: 'merge',
  family: FAMILY,
  type: (inputs) => [{ dtype: inputs[0].dtype, shape: (inputs.at(-1) as TensorType).shape }],
  evaluate(inputs, types, attributes, [result]) {
    const out = new Float64Array(elements(result.shape))
    const g = inputs[headCount(attributes) + 1]
    const dz = inputs.at(-1) as Float64Array
    const classes = types[0].shape.at(-1) as number
    const stride = elements(types[0].shape)
    forEachRow(inputs, types, attributes, (i, { p, total }) => {
      for (let at = i * classes; at < out.length; at += stride) {
        let mean = 0
        for (let c = 0; c < classes; c++) mean += p[c] * dz[at + c]
        for (let c = 0; c < classes; c++) out[at + c] = g[i] * total * p[c] * (dz[at + c] - mean)
      }
    })
    return [out]
  },
  jvp({ inputs, attributes }, tangents) {
    refuseOthers('cross_entropy_vjp_jvp', tangents, attributes)
    if (tangents[0]) thirdDerivative('cross_entropy_vjp_jvp')
    const { head, lse, own } = parts(inputs, attributes)
    const [dg, td] = tangents.slice(-2)
    const a = dg && curvatureOf(head, lse, dg, own[1], attributes)
    const b = td && curvatureOf(head, lse, own[0], td, attributes)
    return [a && b ? add(a, b) : (a ?? b)]
  },
  vjp({ inputs, attributes }, [u], needed) {
    refuseOthers('cross_entropy_vjp_jvp', needed, attributes)
    if (u && needed[0]) thirdDerivative('cross_entropy_vjp_jvp')
    const { head, lse, own } = parts(inputs, attributes)
    const last = inputs.length - 1
    return inputs.map((_, i) => {
      if (!u || !needed[i]) return null
      if (i === last) return curvatureOf(head, lse, own[0], u, attributes)
      if (i !== last - 1) return null
      const unit = curvatureOf(head, lse, onesLike(lse), own[1], attributes)
      return sum(mul(unit, u), [0, u.rank - 1])
    })
  },
  vmap(inputs, batched, attributes, size) {
    return [batchTangents('cross_entropy_vjp_jvp', inputs, batched, attributes, size)]
  },
})

export interface CrossEntropyOptions {
  /** Mixes the target with the uniform distribution: q = (1 - s) q + s / C. Default 0. */
  smoothing?: number
  /** A label whose samples have no loss. Default none. */
  ignoreLabel?: number
  /** Per class [C]. */
  classWeights?: Tensor
}

/**
 * Softmax cross-entropy of each sample: W logsumexp(z) - sum_c w_c q_c z_c with W = sum_c w_c q_c
 * (logsumexp(z) - z_y for a label y without weights). Fused, analytic to second order.
 *
 * @param logits [B.., C]
 * @param targets i32 labels [B..] or probabilities [B.., C]
 * @returns loss per sample [B..]
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_ARGUMENT; ERR_RANGE at run time for a label outside [0, C)
 */
export function crossEntropy(
  logits: Tensor,
  targets: Tensor,
  options: CrossEntropyOptions = {},
): Tensor {
  const { smoothing = 0, ignoreLabel = Number.NaN, classWeights } = options
  if (!(smoothing >= 0 && smoothing <= 1)) {
    throw new LosscapeError('ERR_ARGUMENT', `smoothing must lie in [0, 1], got ${smoothing}.`)
  }
  const operands = classWeights ? [logits, targets, classWeights] : [logits, targets]
  return emitOne('cross_entropy', operands, {
    smoothing,
    ignore: ignoreLabel,
    weighted: Number(classWeights !== undefined),
  })
}
