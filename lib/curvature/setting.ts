import type { DataSet } from '../data/dataset.js'
import { batchTypes, normalizeBatch } from '../nn/batch.js'
import type { Loss } from '../nn/loss.js'
import type { Model } from '../nn/model.js'
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
  /** Per parameter tensor: part of the matrix (a block by name), or held fixed. */
  readonly selected: readonly boolean[]
  /** Multiple of the identity added to the batch's matrix. Default 0. */
  readonly shift?: number
  /** Targets drawn per sample, of the Monte-Carlo Fisher. Default 1. */
  readonly draws?: number
}

/** Inputs in order: parameters, samples, targets, weights. */
export function inputTypes({ model, set, batch }: CurvatureSetting): TensorType[] {
  const { x, y, w } = batchTypes(set, batch)
  const parameters = model.layout.entries.map(({ shape }): TensorType => ({ dtype: 'f32', shape }))
  return [...parameters, x, y, w]
}

/** Outputs (logits) of the network without dropout: f(θ.., x). */
export function network({ model, set }: CurvatureSetting): TracedFunction {
  return (...args) => {
    const x = args[args.length - 1]
    return model.apply(args.slice(0, -1), normalizeBatch(x, set, model), {
      training: false,
      key: null,
    })
  }
}

/** Weighted sum of the losses of a batch: s(z, y, w) = Σ w_i ℓ(z_i, y_i). */
export function summedLoss({ loss }: CurvatureSetting): TracedFunction {
  return (z, y, w) => ops.sum(ops.mul(loss.perSample(z, y), w))
}
