import * as ops from '../../lib/ops/index.js'
import type { TensorType } from '../../lib/program/types.js'
import type { OperationCase } from './cases.js'

const f32 = (...shape: number[]): TensorType => ({ dtype: 'f32', shape })
const numbers = (...values: number[]) => ops.constant(values)

/** The fused normalisations, one way to use each kind of statistics, affine part and layout. */
export const CHANNEL_NORM_CASES: readonly OperationCase[] = [
  {
    name: 'batch-norm-relu-residual',
    inputs: [f32(2, 3, 2, 2), f32(3), f32(3), f32(2, 3, 2, 2)],
    f: (x, scale, shift, residual) => ops.batchNorm(x, { scale, shift, residual, relu: true }).y,
  },
  {
    name: 'batch-norm-frozen-residual',
    inputs: [f32(2, 2, 3), f32(3), f32(2, 2, 3)],
    f: (x, scale, residual) =>
      ops.batchNorm(x, {
        scale,
        residual,
        statistics: 'frozen',
        mean: numbers(0.3, -1, 2),
        variance: numbers(0.5, 2, 0),
        layout: 'nhwc',
        epsilon: 0.1,
      }).y,
  },
  {
    name: 'group-norm',
    inputs: [f32(2, 2, 3, 4), f32(4), f32(4)],
    f: (x, scale, shift) => ops.tanh(ops.groupNorm(x, { groups: 2, scale, shift, layout: 'nhwc' })),
  },
  {
    name: 'channel-norm-relu',
    inputs: [f32(2, 4, 3), f32(2), f32(2)],
    f: (x, scale, shift) => ops.channelNorm(x, { groups: 2, scale, shift, relu: true }),
  },
  {
    name: 'batch-channel-norm',
    inputs: [f32(3, 2, 4), f32(4), f32(4), f32(2), f32(2)],
    f: (x, scale, shift, channelScale, channelShift) =>
      ops.batchChannelNorm(x, {
        scale,
        shift,
        channelScale,
        channelShift,
        groups: 2,
        layout: 'nhwc',
      }).y,
  },
  {
    name: 'batch-channel-norm-through-relu-residual',
    inputs: [f32(2, 4, 2), f32(4), f32(4), f32(4), f32(2, 4, 2)],
    f: (x, scale, shift, channelScale, residual) =>
      ops.batchChannelNorm(x, {
        mode: 'estimate',
        mean: numbers(0.3, -1, 0.2, 0),
        variance: numbers(0.5, 2, 0, 1),
        rate: ops.constant(0.3),
        through: true,
        scale,
        shift,
        channelScale,
        affine: 'channel',
        groups: 2,
        relu: true,
        residual,
      }).y,
  },
  {
    name: 'estimated-batch-norm',
    smooth: false,
    domain: [0, 1],
    inputs: [f32(2, 3, 2), f32(2), f32(2), f32(), f32(2)],
    f: (x, mean, variance, rate, scale) => {
      const all = ops.estimatedBatchNorm(x, { mean, variance, rate, scale, layout: 'nhwc' })
      return [all.y, all.mean, all.variance]
    },
  },
  {
    name: 'estimated-batch-norm-warm-after',
    smooth: false,
    domain: [0, 1],
    inputs: [f32(2, 2, 3), f32(2), f32(2), f32(), f32()],
    f: (x, mean, variance, rate, raw) => {
      const warm = ops.cast(ops.gt(raw, 0.5), 'f32')
      const all = ops.estimatedBatchNorm(x, { mean, variance, rate, warm, about: 'batch' })
      const after = ops.batchChannelNorm(x, {
        mode: 'estimate',
        order: 'after',
        groups: 1,
        mean,
        variance,
        rate,
      })
      return [all.y, all.mean, all.variance, after.y, after.mean, after.variance]
    },
  },
]
