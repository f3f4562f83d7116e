import { LosscapeError } from '../../errors.js'
import * as ops from '../../ops/index.js'
import type { Tensor } from '../../program/tensor.js'
import type { ApplyContext } from '../model.js'
import type { Norm } from './norm-options.js'
import { COUNTER } from './norms.js'

/** How far estimates move at one pass; scalars, and operands so that one program serves all steps. */
export interface EstimateRate {
  /** Share of the batch in the estimates. */
  readonly rate: Tensor
  /** 1 where estimates start with this batch, else 0. */
  readonly warm?: Tensor
}

/** @throws ERR_ARGUMENT for a rate that follows the learning rate where there is none */
export function estimateRate(norm: Norm, { state, lr }: ApplyContext): EstimateRate {
  const { rate = 0.1, warmStart = true } = norm
  const count = state[COUNTER]
  return {
    rate: rate === 'lr' ? followed(lr, count) : ops.mul(ops.onesLike(count), rate),
    ...(warmStart && { warm: ops.cast(ops.eq(count, 0), count.dtype) }),
  }
}

function followed(lr: Tensor | null, count: Tensor): Tensor {
  if (!lr) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      "The estimates follow the learning rate (rate: 'lr'), which only training has; " +
        "choose statistics 'frozen', or a rate that is a number.",
    )
  }
  return ops.minimum(ops.reshape(ops.cast(lr, count.dtype), []), 1)
}
