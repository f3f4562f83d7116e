import type { DataSet } from '../data/dataset.js'
import type { TrainerSpec } from '../native.js'
import { batchTypes, normalizeBatch } from '../nn/batch.js'
import { isCorrect, type Loss } from '../nn/loss.js'
import type { Model, StatisticsMode } from '../nn/model.js'
import * as ops from '../ops/index.js'
import { simplify } from '../program/passes/index.js'
import type { Tensor } from '../program/tensor.js'
import { trace } from '../program/trace.js'
import type { Program, TensorType } from '../program/types.js'
import { gradProgram } from '../program/vjp.js'

/** Positions of the whole data set among the trainer's fixed inputs. */
export const FIXED = { inputs: 0, targets: 1 } as const

export interface StepSetting {
  readonly model: Model
  readonly loss: Loss
  readonly set: DataSet
  /** B */
  readonly batch: number
  /** Per parameter tensor: wants a gradient. */
  readonly trained: readonly boolean[]
  /** Every step takes the whole set in file order, so that nothing has to be gathered. */
  readonly wholeSet?: boolean
  /** The targets are probabilities of classes, for what were labels. */
  readonly mixedLabels?: boolean
}

export interface StepProgram {
  /** From (θ.., σ.., X, Y, [rows], w, [key], [rate]) to (mean loss, correct samples, σ'.., gradients..). */
  readonly program: Program
  /** What each input of the program is. */
  readonly inputs: TrainerSpec['inputs']
  /** Element offset in storage of each σ', and of each gradient. */
  readonly stateOffsets: number[]
  readonly gradientOffsets: number[]
}

/**
 * The program of one optimiser step: samples X[rows] are gathered on the device, normalised and
 * sent through the model in training mode. With sample weights w (0 pads),
 *
 *     loss = Σ w_i ℓ(f(θ, x_i), y_i) / Σ w_i      correct = Σ w_i [prediction i is right]
 *
 * `correct` is 0 for regression. State that the model does not update passes through.
 */
export function stepProgram(setting: StepSetting): StepProgram {
  const { model, set, batch, trained, wholeSet = false } = setting
  const { entries } = model.layout
  const stateEntries = model.stateLayout.entries
  const whole = batchTypes(set, set.size)
  const types = model.tensorTypes
  const tensors = types.length
  const inputs: TrainerSpec['inputs'] = [
    ...entries.map(({ storageOffset: index }) => ({ kind: 'theta' as const, index })),
    ...stateEntries.map(({ storageOffset: index }) => ({ kind: 'state' as const, index })),
  ]
  const add = (type: TensorType, kind: TrainerSpec['inputs'][number]['kind'], index = 0): number =>
    inputs.push({ kind, index }) && types.push(type) - 1
  const x = add(whole.x, 'fixed', FIXED.inputs)
  const y = add(whole.y, 'fixed', FIXED.targets)
  const rows = wholeSet ? null : add({ dtype: 'i32', shape: [batch] }, 'rows')
  const w = add({ dtype: 'f32', shape: [batch] }, 'weights')
  const key = model.random ? add({ dtype: 'i32', shape: [4] }, 'key') : null
  const rate = stateEntries.length > 0 ? add({ dtype: 'f32', shape: [] }, 'rate') : null

  const loss = trace((...args) => {
    const pick = (table: Tensor): Tensor => (rows === null ? table : ops.gather(table, args[rows]))
    return batchLoss(setting, {
      tensors: args.slice(0, tensors),
      x: pick(args[x]),
      y: pick(args[y]),
      w: args[w],
      key: key === null ? null : args[key],
      lr: rate === null ? null : args[rate],
    })
  }, types)
  const wrt = types.map((_, i) => trained[i] ?? false)
  return {
    program: simplify(gradProgram(loss, wrt)),
    inputs,
    stateOffsets: stateEntries.map((entry) => entry.storageOffset),
    gradientOffsets: entries.filter((_, i) => trained[i]).map((entry) => entry.storageOffset),
  }
}

interface Batch {
  /** θ.., σ.. */
  readonly tensors: readonly Tensor[]
  readonly x: Tensor
  readonly y: Tensor
  readonly w: Tensor
  readonly key: Tensor | null
  readonly lr: Tensor | null
}

/** Mean loss, correct samples, σ'.. */
function batchLoss(setting: StepSetting, batch: Batch): Tensor[] {
  const { model, loss, set, mixedLabels = false } = setting
  const { tensors, x, y, w, key, lr } = batch
  const updates = new Map<string, Tensor>()
  const z = model.apply(tensors, normalizeBatch(x, set, model), {
    ...{ training: true, key, lr },
    update: (name, value) => updates.set(name, value),
  })
  const mean = ops.div(ops.sum(ops.mul(loss.perSample(z, y), w)), ops.sum(w))
  // Of a mixed pair, the class with the larger share counts as the right one.
  const correct = mixedLabels
    ? ops.sum(ops.mul(isCorrect(z, ops.argmax(y, 1)), w))
    : correctCount(set, z, y, w)
  const state = tensors.slice(model.layout.entries.length)
  const next = model.stateLayout.names.map((name, i) => updates.get(name) ?? state[i])
  return [mean, correct, ...next]
}

/** Σ w_i [prediction i is right]; 0 for regression. */
function correctCount(set: DataSet, z: Tensor, y: Tensor, w: Tensor): Tensor {
  return set.targets instanceof Int32Array
    ? ops.sum(ops.mul(isCorrect(z, y), w))
    : ops.constant(0, { dtype: 'f32', shape: [] })
}

export interface EvaluationSetting extends Pick<StepSetting, 'model' | 'loss' | 'set' | 'batch'> {
  /** Default 'frozen'. */
  readonly statistics?: StatisticsMode
}

/** Sums over a chunk without dropout: from (θ.., σ.., x, y, w) to (Σ w_i ℓ_i, correct samples). */
export function evaluationProgram(setting: EvaluationSetting): Program {
  const { model, loss, set, batch, statistics } = setting
  const { x, y, w } = batchTypes(set, batch)
  return simplify(
    trace(
      (...args) => {
        const [xs, ys, ws] = args.slice(-3)
        const z = model.apply(args.slice(0, -3), normalizeBatch(xs, set, model), {
          ...{ training: false, key: null, statistics },
        })
        const total = ops.sum(ops.mul(loss.perSample(z, ys), ws))
        return [total, correctCount(set, z, ys, ws)]
      },
      [...model.tensorTypes, x, y, w],
    ),
  )
}
