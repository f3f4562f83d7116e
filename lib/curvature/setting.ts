import type { DataSet } from '../data/dataset.js'
import { batchTypes, normalizeBatch } from '../nn/batch.js'
import type { Loss } from '../nn/loss.js'
import type { Model, StatisticsMode } from '../nn/model.js'
import * as ops from '../ops/index.js'
import type { TracedFunction } from '../program/trace.js'
import type { TensorType } from '../program/types.js'

/** Which matrix a product is taken with; specification 2.2 (H = G + F) and 2.3. */
export type CurvatureKind =
  | 'hessian'
  | 'gauss-newton'
  | 'remainder'
  | 'fisher'
  | 'fisher-monte-carlo'
  | 'empirical-fisher'
  | 'gradient-covariance'

export interface CurvatureSetting {
  readonly model: Model
  readonly loss: Loss
  readonly set: DataSet
  readonly batch: number
  /**
   * Per tensor of θ.., σ..: part of the matrix (a block by name), or held fixed, as the state
   * always is.
   */
  readonly selected: readonly boolean[]
  /** Default 'frozen'. */
  readonly statistics?: StatisticsMode
  /** Multiple of the identity added to the batch's matrix. Default 0. */
  readonly shift?: number
  /** Targets drawn per sample, of the Monte-Carlo Fisher. Default 1. */
  readonly draws?: number
}

/** Inputs in order: parameters, state, samples, targets, weights. */
export function inputTypes({ model, set, batch }: CurvatureSetting): TensorType[] {
  const { x, y, w } = batchTypes(set, batch)
  return [...model.tensorTypes, x, y, w]
}

/** Outputs (logits) of the network without dropout: f(θ.., σ.., x). Updates of σ are dropped. */
export function network({ model, set, statistics }: CurvatureSetting): TracedFunction {
  return (...args) => {
    const x = args[args.length - 1]
    return model.apply(args.slice(0, -1), normalizeBatch(x, set, model), {
      ...{ training: false, key: null, statistics },
    })
  }
}

/** Weighted sum of the losses of a batch: s(z, y, w) = Σ w_i ℓ(z_i, y_i). */
export function summedLoss({ loss }: CurvatureSetting): TracedFunction {
  return (z, y, w) => ops.sum(ops.mul(loss.perSample(z, y), w))
}
