import type { DataSet } from '../data/dataset.js'
import type { TrainerSpec } from '../native.js'
import { batchTypes, normalizeBatch } from '../nn/batch.js'
import { isCorrect, type Loss } from '../nn/loss.js'
import type { Model } from '../nn/model.js'
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
  /** From (θ.., X, Y, [rows], w, [key]) to (mean loss, correct samples, gradients..). */
  readonly program: Program
  /** What each input of the program is. */
  readonly inputs: TrainerSpec['inputs']
  /** Element offset in storage of each gradient. */
  readonly gradientOffsets: number[]
}

/**
 * The program of one optimiser step: samples X[rows] are gathered on the device, normalised and
 * sent through the model in training mode. With sample weights w (0 pads),
 *
 *     loss = Σ w_i ℓ(f(θ, x_i), y_i) / Σ w_i      correct = Σ w_i [prediction i is right]
 *
 * `correct` is 0 for regression.
 */
export function stepProgram(setting: StepSetting): StepProgram {
  const { model, set, batch, trained, wholeSet = false } = setting
  const { entries } = model.layout
  const whole = batchTypes(set, set.size)
  const types: TensorType[] = entries.map(({ shape }) => ({ dtype: 'f32', shape }))
  const inputs: TrainerSpec['inputs'] = entries.map(({ storageOffset }) => ({
    kind: 'theta',
    index: storageOffset,
  }))
  const add = (type: TensorType, kind: TrainerSpec['inputs'][number]['kind'], index = 0): number =>
    inputs.push({ kind, index }) && types.push(type) - 1
  const x = add(whole.x, 'fixed', FIXED.inputs)
  const y = add(whole.y, 'fixed', FIXED.targets)
  const rows = wholeSet ? null : add({ dtype: 'i32', shape: [batch] }, 'rows')
  const w = add({ dtype: 'f32', shape: [batch] }, 'weights')
  const key = model.random ? add({ dtype: 'i32', shape: [4] }, 'key') : null

  const loss = trace((...args) => {
    const pick = (table: Tensor): Tensor => (rows === null ? table : ops.gather(table, args[rows]))
    return batchLoss(setting, {
      parameters: args.slice(0, entries.length),
      x: pick(args[x]),
      y: pick(args[y]),
      w: args[w],
      key: key === null ? null : args[key],
    })
  }, types)
  const wrt = types.map((_, i) => trained[i] ?? false)
  return {
    program: simplify(gradProgram(loss, wrt)),
    inputs,
    gradientOffsets: entries.filter((_, i) => trained[i]).map((entry) => entry.storageOffset),
  }
}

interface Batch {
  readonly parameters: readonly Tensor[]
  readonly x: Tensor
  readonly y: Tensor
  readonly w: Tensor
  readonly key: Tensor | null
}

function batchLoss(setting: StepSetting, batch: Batch): [Tensor, Tensor] {
  const { model, loss, set, mixedLabels = false } = setting
  const { parameters, x, y, w, key } = batch
  const z = model.apply(parameters, normalizeBatch(x, set, model), { training: true, key })
  const mean = ops.div(ops.sum(ops.mul(loss.perSample(z, y), w)), ops.sum(w))
  // Of a mixed pair, the class with the larger share counts as the right one.
  return mixedLabels
    ? [mean, ops.sum(ops.mul(isCorrect(z, ops.argmax(y, 1)), w))]
    : [mean, correctCount(set, z, y, w)]
}

/** Σ w_i [prediction i is right]; 0 for regression. */
function correctCount(set: DataSet, z: Tensor, y: Tensor, w: Tensor): Tensor {
  return set.targets instanceof Int32Array
    ? ops.sum(ops.mul(isCorrect(z, y), w))
    : ops.constant(0, { dtype: 'f32', shape: [] })
}

/** Sums over a chunk without dropout: from (θ.., x, y, w) to (Σ w_i ℓ_i, correct samples). */
export function evaluationProgram(
  setting: Pick<StepSetting, 'model' | 'loss' | 'set' | 'batch'>,
): Program {
  const { model, loss, set, batch } = setting
  const { x, y, w } = batchTypes(set, batch)
  const parameters = model.layout.entries.map(({ shape }): TensorType => ({ dtype: 'f32', shape }))
  return simplify(
    trace(
      (...args) => {
        const [xs, ys, ws] = args.slice(-3)
        const z = model.apply(args.slice(0, -3), normalizeBatch(xs, set, model), {
          training: false,
          key: null,
        })
        const total = ops.sum(ops.mul(loss.perSample(z, ys), ws))
        return [total, correctCount(set, z, ys, ws)]
      },
      [...parameters, x, y, w],
    ),
  )
}
