import * as ops from '../../ops/index.js'
import type { Tensor } from '../../program/tensor.js'
import type { Parameter } from '../init.js'
import type { ApplyContext, TensorMap } from '../model.js'
import { groupsOf, type Norm, usesBatch } from './norm-options.js'
import type { EstimateRate } from './rate.js'

/** Where one norm of a model stands. */
export interface NormPlace {
  /** `layer1.0.bn1` */
  readonly name: string
  /** C */
  readonly channels: number
  /** The last scale begins at 0, so that the branch that it ends begins as nothing. */
  readonly zero?: boolean
}

/** What a pass through the model holds for its norms. */
export interface NormPass {
  readonly parameters: TensorMap
  readonly context: ApplyContext
  /** How far estimates of bcn-micro move at this pass; null where they do not. */
  readonly estimate: EstimateRate | null
}

/** What is fused behind a norm: y = relu(norm(x) + residual). */
export interface NormEnd {
  readonly relu?: boolean
  readonly residual?: Tensor
}

/** Steps that estimates have seen, of the whole model: decides the warm start. */
export const COUNTER = 'num_batches_tracked'

const twoStages = ({ kind }: Norm): boolean => kind === 'bcn' || kind === 'bcn-micro'

/** Prefix of the names of the norm over the batch; that of the published code in the two stages. */
const batchName = (norm: Norm, name: string): string => (twoStages(norm) ? `${name}.pbn` : name)

const affine = (name: string, size: number, zero = false): Parameter[] => [
  { name: `${name}.weight`, shape: [size], init: { kind: zero ? 'zeros' : 'ones' } },
  { name: `${name}.bias`, shape: [size], init: { kind: 'zeros' } },
]

/**
 * Parameters of a norm: `NAME.weight`, `NAME.bias`; of the two stages also `NAME.pbn.*`.
 * @throws ERR_ARGUMENT for groups that do not divide the channels
 */
export function normParameters(norm: Norm, { name, channels, zero }: NormPlace): Parameter[] {
  if (norm.kind === 'none') return []
  if (norm.kind === 'gn') groupsOf(name, norm, channels)
  if (!twoStages(norm)) return affine(name, channels, zero)
  const groups = groupsOf(name, norm, channels)
  return [...affine(batchName(norm, name), channels), ...affine(name, groups, zero)]
}

/** State of a norm: running mean 0 and variance 1, under the names of torchvision. */
export function normState(norm: Norm, { name, channels }: NormPlace): Parameter[] {
  if (norm.kind !== 'bn' && !twoStages(norm)) return []
  const prefix = batchName(norm, name)
  return [
    { name: `${prefix}.running_mean`, shape: [channels], init: { kind: 'zeros' } },
    { name: `${prefix}.running_var`, shape: [channels], init: { kind: 'ones' } },
  ]
}

/** A norm of [B, H, W, C] with what follows it. */
export function applyNorm(
  norm: Norm,
  name: string,
  x: Tensor,
  pass: NormPass,
  { relu = false, residual }: NormEnd = {},
): Tensor {
  const { parameters: p } = pass
  const { kind, epsilon } = norm
  const end = { epsilon, relu, residual, layout: 'nhwc' } as const
  const own = { scale: p[`${name}.weight`], shift: p[`${name}.bias`] }
  switch (kind) {
    case 'none': {
      const y = residual ? ops.add(x, residual) : x
      return relu ? ops.relu(y) : y
    }
    case 'gn':
      return ops.groupNorm(x, { ...own, ...end, groups: norm.groups })
    case 'ln':
      return ops.groupNorm(x, { ...own, ...end, groups: 1 })
    case 'in':
      return ops.instanceNorm(x, { ...own, ...end })
  }
  const prefix = batchName(norm, name)
  const { state, statistics, update } = pass.context
  const running = {
    mean: state[`${prefix}.running_mean`],
    variance: state[`${prefix}.running_var`],
  }
  const first = { scale: p[`${prefix}.weight`], shift: p[`${prefix}.bias`] }
  const live = usesBatch(norm) && statistics === 'batch'
  const second = { groups: norm.groups, channelScale: own.scale, channelShift: own.shift }
  const { y, mean, variance } =
    kind === 'bn'
      ? ops.batchNorm(x, { ...first, ...running, ...end, statistics: live ? 'batch' : 'frozen' })
      : ops.batchChannelNorm(x, {
          ...first,
          ...second,
          ...running,
          ...end,
          channelEpsilon: epsilon,
          ...pass.estimate,
          mode: pass.estimate ? 'estimate' : live ? 'batch' : 'frozen',
        })
  if (pass.estimate) {
    update(`${prefix}.running_mean`, mean)
    update(`${prefix}.running_var`, variance)
  } else if (live) {
    const { momentum = 0.1 } = norm
    const count = x.shape.slice(0, -1).reduce((n, d) => n * d, 1)
    // Running variances are unbiased, what normalises the batch is not: as in PyTorch.
    const unbiased = ops.mul(variance, count / (count - 1))
    update(`${prefix}.running_mean`, mix(running.mean, mean, momentum))
    update(`${prefix}.running_var`, mix(running.variance, unbiased, momentum))
  }
  return y
}

/** a + share (b - a) */
function mix(a: Tensor, b: Tensor, share: number): Tensor {
  return ops.add(a, ops.mul(ops.sub(b, a), share))
}
