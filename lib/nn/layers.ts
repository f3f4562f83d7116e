import * as ops from '../ops/index.js'
import type { Tensor } from '../program/tensor.js'
import type { Parameter } from './init.js'
import type { TensorMap } from './model.js'

/** Standard deviation of the weights of transformers at the start. */
export const WEIGHT_STD = 0.02

/** `NAME.weight` [out, in] ~ N(0, 0.02²) and, unless `bias` is false, `NAME.bias` [out] = 0. */
export function linearParameters(
  name: string,
  outputs: number,
  inputs: number,
  bias = true,
): Parameter[] {
  const weight: Parameter = {
    name: `${name}.weight`,
    shape: [outputs, inputs],
    init: { kind: 'normal', std: WEIGHT_STD },
  }
  return bias
    ? [weight, { name: `${name}.bias`, shape: [outputs], init: { kind: 'zeros' } }]
    : [weight]
}

/** x Wᵀ + b over the last axis; b where there is one. */
export function linear(x: Tensor, p: TensorMap, name: string): Tensor {
  const y = ops.matmul(x, p[`${name}.weight`], { transB: true })
  const bias = p[`${name}.bias`]
  return bias ? ops.add(y, bias) : y
}

/** Rows [from, from + count) of a linear layer: y of these outputs only. */
export function linearRows(
  x: Tensor,
  p: TensorMap,
  name: string,
  [from, count]: readonly [number, number],
): Tensor {
  const weight = p[`${name}.weight`]
  const y = ops.matmul(x, ops.slice(weight, [from, 0], [count, weight.shape[1]]), { transB: true })
  const bias = p[`${name}.bias`]
  return bias ? ops.add(y, ops.slice(bias, [from], [count])) : y
}

/** `NAME.weight` = 1 and `NAME.bias` = 0. */
export function normParameters(name: string, width: number): Parameter[] {
  return [
    { name: `${name}.weight`, shape: [width], init: { kind: 'ones' } },
    { name: `${name}.bias`, shape: [width], init: { kind: 'zeros' } },
  ]
}

/** Layer normalisation over the last axis. */
export function norm(x: Tensor, p: TensorMap, name: string, epsilon: number): Tensor {
  return ops.layerNorm(x, { scale: p[`${name}.weight`], shift: p[`${name}.bias`], epsilon })
}

/** The two linear layers of {@link mlpBlock}, `NAME.fc1` and `NAME.fc2`. */
export function mlpParameters(name: string, width: number, hidden: number): Parameter[] {
  return [
    ...linearParameters(`${name}.fc1`, hidden, width),
    ...linearParameters(`${name}.fc2`, width, hidden),
  ]
}

/** linear → GELU → dropout → linear → dropout. */
export function mlpBlock(x: Tensor, p: TensorMap, name: string, noise: Noise): Tensor {
  const hidden = noise.dropout(ops.gelu(linear(x, p, `${name}.fc1`)))
  return noise.dropout(linear(hidden, p, `${name}.fc2`))
}

/** `NAME.weight` [D, C, p, p] and `NAME.bias` [D], U(±1/√fan_in) as convolutions begin. */
export function patchParameters(
  name: string,
  width: number,
  channels: number,
  patch: number,
): Parameter[] {
  const bound = 1 / Math.sqrt(channels * patch * patch)
  return [
    {
      name: `${name}.weight`,
      shape: [width, channels, patch, patch],
      init: { kind: 'uniform', bound },
    },
    { name: `${name}.bias`, shape: [width], init: { kind: 'uniform', bound } },
  ]
}

/** Patches of images [B, C, H, W], row by row, through one linear map: [B, H W / p², D]. */
export function patchEmbedding(x: Tensor, p: TensorMap, name: string): Tensor {
  const [B, C, H, W] = x.shape
  const weight = p[`${name}.weight`]
  const [width, , size] = weight.shape
  const cells = ops.reshape(x, [B, C, H / size, size, W / size, size])
  const patches = ops.reshape(ops.transpose(cells, [0, 2, 4, 1, 3, 5]), [
    B,
    (H / size) * (W / size),
    C * size * size,
  ])
  const rows = ops.reshape(weight, [width, C * size * size])
  return ops.add(ops.matmul(patches, rows, { transB: true }), p[`${name}.bias`])
}

/**
 * Random draws of one pass through a model, each with a stream of its own: functions of the key and
 * the order of the calls only. Without a key nothing is dropped.
 */
export class Noise {
  private stream = 0

  constructor(
    private readonly key: Tensor | null,
    /** Of elements. */
    private readonly rate: number,
  ) {}

  /** Elements dropped with the model's rate. */
  dropout(x: Tensor): Tensor {
    const stream = this.stream++
    return this.key && this.rate > 0 ? ops.dropout(x, this.rate, this.key, stream) : x
  }

  /** Stochastic depth: whole samples of a branch [B, ..] dropped, the others divided by 1 - rate. */
  dropPath(x: Tensor, rate: number): Tensor {
    const stream = this.stream++
    if (!this.key || rate === 0) return x
    const ones = ops.constant(1, {
      dtype: x.dtype,
      shape: [x.shape[0], ...x.shape.slice(1).fill(1)],
    })
    return ops.mul(x, ops.dropout(ones, rate, this.key, stream))
  }
}

/** Rates of stochastic depth, rising linearly from 0 in the first block to `rate` in the last. */
export function dropPathRates(rate: number, depth: number): number[] {
  return Array.from({ length: depth }, (_, i) => (depth > 1 ? (rate * i) / (depth - 1) : rate))
}
