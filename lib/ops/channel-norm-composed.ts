import { LosscapeError } from '../errors.js'
import { evaluate } from '../program/evaluate.js'
import { jvpProgram } from '../program/jvp.js'
import { elements, range } from '../program/shape.js'
import type { Tensor } from '../program/tensor.js'
import { inline, trace } from '../program/trace.js'
import type { Attributes, Program, TensorType } from '../program/types.js'
import { vjpProgram } from '../program/vjp.js'
import {
  activeNames,
  attributesOf,
  headNames,
  type NormAttributes,
  namedShape,
  normSizes,
} from './channel-norm-shapes.js'
import { stopGradient } from './control.js'
import { add, mul, relu, rsqrt, sub } from './elementwise.js'
import { reshape } from './movement.js'
import { mean } from './reduce.js'

/*
 * The channel_norm family written with elementary operations. It is the float64 reference of the
 * fused kernels: their derivatives are compared with the transforms of this formula, which share
 * nothing with them.
 */

type Named = Readonly<Record<string, Tensor>>

/** Normalised activations, and the statistics of stage 1: of the batch, or the new estimates. */
export function composedNorm(head: readonly Tensor[], attributes: NormAttributes): Tensor[] {
  const names = headNames(attributes)
  const of = Object.fromEntries(names.map((name, i) => [name, head[i]])) as Named
  const { copies, samples, channels, spatial, groups, nhwc } = normSizes(of.x, attributes)
  const flat = nhwc ? [copies, samples, spatial, channels] : [copies, samples, channels, spatial]
  const perChannel = (t: Tensor): Tensor =>
    reshape(t, nhwc ? [copies, 1, 1, channels] : [copies, 1, channels, 1])
  const x = reshape(of.x, flat)
  let u = x
  let statistics: Tensor[] = []
  if (attributes.stage1 !== 'none') {
    const { m, v, fresh } = channelStatistics(x, of, attributes, perChannel, nhwc ? 2 : 3)
    const shape = namedShape('mean', of.x, attributes)
    statistics = fresh.map((t) => reshape(t, shape))
    u = mul(sub(x, m), rsqrt(add(v, attributes.epsilon1)))
    if (attributes.affine1) u = add(mul(u, perChannel(of.scale1)), perChannel(of.shift1))
  }
  if (groups > 0) {
    const size = channels / groups
    const axes = nhwc ? [2, 4] : [3, 4]
    const cells = reshape(
      u,
      nhwc ? [copies, samples, spatial, groups, size] : [copies, samples, groups, size, spatial],
    )
    const centred = sub(cells, mean(cells, axes, true))
    const variance = mean(mul(centred, centred), axes, true)
    u = mul(centred, rsqrt(add(variance, attributes.epsilon2)))
    if (attributes.affine2 !== 'none') {
      const own = attributes.affine2 === 'group' ? 1 : size
      const shape = nhwc ? [copies, 1, 1, groups, own] : [copies, 1, groups, own, 1]
      u = add(mul(u, reshape(of.scale2, shape)), reshape(of.shift2, shape))
    }
  }
  let y = reshape(u, of.x.shape)
  if (attributes.residual) y = add(y, of.residual)
  return [attributes.relu ? relu(y) : y, ...statistics]
}

function channelStatistics(
  x: Tensor,
  of: Named,
  attributes: NormAttributes,
  perChannel: (t: Tensor) => Tensor,
  spatialAxis: number,
): { m: Tensor; v: Tensor; fresh: Tensor[] } {
  const { stage1, about, order, through } = attributes
  if (stage1 === 'frozen') return { m: perChannel(of.mean), v: perChannel(of.variance), fresh: [] }
  const axes = [1, spatialAxis]
  const batchMean = mean(x, axes, true)
  const centred = sub(x, batchMean)
  const batchVariance = mean(mul(centred, centred), axes, true)
  if (stage1 === 'batch') {
    return { m: batchMean, v: batchVariance, fresh: [batchMean, batchVariance] }
  }
  const oldMean = perChannel(of.mean)
  const oldVariance = perChannel(of.variance)
  const scalar = (t: Tensor): Tensor => reshape(t, [x.shape[0], 1, 1, 1])
  const cold = attributes.warm ? sub(1, scalar(of.warm)) : null
  const given = scalar(of.rate)
  const rate = cold ? add(given, mul(sub(1, cold), sub(1, given))) : given
  const step = sub(batchMean, oldMean)
  const square = cold ? mul(cold, mul(step, step)) : mul(step, step)
  const variance = about === 'old' ? add(batchVariance, square) : batchVariance
  const newMean = add(oldMean, mul(rate, step))
  const newVariance = add(oldVariance, mul(rate, sub(variance, oldVariance)))
  const fresh = [newMean, newVariance]
  if (order === 'after') return { m: oldMean, v: oldVariance, fresh }
  if (through) return { m: newMean, v: newVariance, fresh }
  return { m: stopGradient(newMean), v: stopGradient(newVariance), fresh }
}

const composed = (types: readonly TensorType[], attributes: NormAttributes): Program =>
  trace((...head: Tensor[]) => composedNorm(head, attributes), types)

/** The same with the normalised activations as its only result. */
function activations(types: readonly TensorType[], attributes: NormAttributes): Program {
  const program = composed(types, attributes)
  return { ...program, outputs: program.outputs.slice(0, 1) }
}

const activeFlags = (attributes: NormAttributes): boolean[] => {
  const active = new Set(activeNames(attributes))
  return headNames(attributes).map((name) => active.has(name))
}

export function evaluateNorm(
  inputs: readonly Float64Array[],
  types: readonly TensorType[],
  raw: Attributes,
): Float64Array[] {
  const attributes = attributesOf(raw)
  refuseEstimates(inputs, attributes)
  refuseRates(inputs, attributes)
  const [y, ...statistics] = evaluate(composed(types, attributes), inputs)
  return [y, momentsOf(inputs[0], types[0], attributes), ...statistics]
}

/** Estimates that were never initialised, or that a diverged run has spoilt. */
function refuseEstimates(inputs: readonly Float64Array[], attributes: NormAttributes): void {
  const names = headNames(attributes)
  for (const name of ['mean', 'variance']) {
    const values = names.includes(name) ? inputs[names.indexOf(name)] : new Float64Array(0)
    const bad = values.findIndex((v) => !Number.isFinite(v) || (name === 'variance' && v < 0))
    if (bad < 0) continue
    throw new LosscapeError(
      'ERR_RANGE',
      `channel_norm: expected a finite ${name}${name === 'variance' ? ' of at least 0' : ''} for every channel, got ${values[bad]} for channel ${bad}: estimates that were never initialised, or of a run that diverged.`,
    )
  }
}

/** Beyond [0, 1] a rate makes negative variances. */
function refuseRates(inputs: readonly Float64Array[], attributes: NormAttributes): void {
  const at = headNames(attributes).indexOf('rate')
  const bad = at < 0 ? undefined : inputs[at].find((rate) => !(rate >= 0 && rate <= 1))
  if (bad === undefined) return
  throw new LosscapeError(
    'ERR_RANGE',
    `channel_norm: expected an update rate from 0 to 1, got ${bad}.`,
  )
}

/** Mean, 0 and biased variance of each (sample, channel): [.., N, 3, C]. */
function momentsOf(x: Float64Array, type: TensorType, attributes: NormAttributes): Float64Array {
  const { copies, samples, channels, spatial, nhwc } = normSizes(type, attributes)
  const out = new Float64Array(copies * samples * 3 * channels)
  for (let n = 0; n < copies * samples; n++) {
    for (let c = 0; c < channels; c++) {
      const at = (s: number): number =>
        x[nhwc ? (n * spatial + s) * channels + c : (n * channels + c) * spatial + s]
      let sum = 0
      for (let s = 0; s < spatial; s++) sum += at(s)
      const average = sum / spatial
      let squares = 0
      for (let s = 0; s < spatial; s++) squares += (at(s) - average) ** 2
      out[(3 * n + 0) * channels + c] = average
      out[(3 * n + 2) * channels + c] = squares / spatial
    }
  }
  return out
}

/** Splits the operands of a derivative into the head and the rest, which is behind the moments. */
function splitHead<T>(inputs: readonly T[], attributes: NormAttributes): { head: T[]; own: T[] } {
  const count = headNames(attributes).length
  return { head: inputs.slice(0, count), own: inputs.slice(count + 1) }
}

/** Slice `r` of `count` equal ones. */
const part = (x: Float64Array, r: number, count: number): Float64Array =>
  x.subarray((r * x.length) / count, ((r + 1) * x.length) / count)

const joined = (parts: readonly Float64Array[][]): Float64Array[] =>
  parts[0].map((_, i) => {
    const out = new Float64Array(parts.reduce((n, p) => n + p[i].length, 0))
    let at = 0
    for (const p of parts) {
      out.set(p[i], at)
      at += p[i].length
    }
    return out
  })

export function evaluateNormVjp(
  inputs: readonly Float64Array[],
  types: readonly TensorType[],
  raw: Attributes,
): Float64Array[] {
  const attributes = attributesOf(raw)
  const { head, own } = splitHead(inputs, attributes)
  const program = activations(splitHead(types, attributes).head, attributes)
  return evaluate(vjpProgram(program, activeFlags(attributes)), [...head, ...own]).slice(1)
}

/** Tangents of the whole, R of them, from the operands behind the head. */
function tangentCount(types: readonly TensorType[], first: number): number {
  const axes = types[first].shape.length - types[0].shape.length
  return elements(types[first].shape.slice(0, axes))
}

export function evaluateNormJvp(
  inputs: readonly Float64Array[],
  types: readonly TensorType[],
  raw: Attributes,
): Float64Array[] {
  const attributes = attributesOf(raw)
  const { head, own } = splitHead(inputs, attributes)
  const count = tangentCount(types, head.length + 1)
  const program = activations(splitHead(types, attributes).head, attributes)
  const forward = jvpProgram(program, activeFlags(attributes))
  if (count === 0) return [new Float64Array(0)]
  return joined(
    range(count).map((r) =>
      evaluate(forward, [...head, ...own.map((t) => part(t, r, count))]).slice(1),
    ),
  )
}

export function evaluateNormVjpJvp(
  inputs: readonly Float64Array[],
  types: readonly TensorType[],
  raw: Attributes,
): Float64Array[] {
  const attributes = attributesOf(raw)
  const { head, own } = splitHead(inputs, attributes)
  const [dy, ...moving] = own
  const count = tangentCount(types, head.length + 2)
  const names = activeNames(attributes)
  const program = activations(splitHead(types, attributes).head, attributes)
  const flags = activeFlags(attributes)
  const reverse = vjpProgram(program, flags)
  const moves = headNames(attributes).map((name, i) => flags[i] && name !== 'residual')
  const second = jvpProgram(reverse, [...moves, true])
  if (count === 0) return names.map(() => new Float64Array(0))
  return joined(
    range(count).map((r) =>
      evaluate(second, [...head, dy, ...moving.map((t) => part(t, r, count))]).slice(
        reverse.outputs.length + 1,
      ),
    ),
  )
}

/**
 * The second derivative of the activations in two directions, D²y[a, b]: the one form that symmetry
 * does not give and no kernel has. Only a forward derivative of a forward derivative, or the
 * gradient of a Hessian product by the cotangent, asks for it.
 *
 * @param a tangents of the active operands, b as well
 */
export function secondDerivative(
  head: readonly Tensor[],
  attributes: NormAttributes,
  a: readonly Tensor[],
  b: readonly Tensor[],
): Tensor {
  const flags = activeFlags(attributes)
  const first = jvpProgram(activations(head, attributes), flags)
  const tangent = { ...first, outputs: first.outputs.slice(1) }
  const second = jvpProgram(tangent, [...flags, ...a.map(() => false)])
  return inline({ ...second, outputs: second.outputs.slice(1) }, [...head, ...a, ...b])[0]
}
