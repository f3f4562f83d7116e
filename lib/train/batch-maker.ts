import { augmentImage } from '../data/augment/augment.js'
import { Draws } from '../data/augment/draws.js'
import { image, type Pixels } from '../data/augment/image.js'
import type { AugmentPlan } from '../data/augment/options.js'
import { stream } from '../random/streams.js'
import { drawMix, type MixPlan, mixSamples, mixTargets } from './mixup.js'

/** Everything that decides the batches of a run; plain data, the arrays in shared memory. */
export interface BatchSetting {
  /** [N, channels, height, width] */
  readonly inputs: Pixels
  /** Labels [N] or values [N, values]. */
  readonly targets: Int32Array | Float32Array | Float64Array
  /** Numbers per sample of `targets`. */
  readonly values: number
  readonly shape: readonly [channels: number, height: number, width: number]
  readonly augment: AugmentPlan
  readonly mix: MixPlan | null
  /** B */
  readonly batch: number
  readonly seed: number
  /** Element type of real numbers in the batches. */
  readonly precision: 'f32' | 'f64'
}

/** One step's samples. */
export interface BatchJob {
  readonly step: number
  readonly epoch: number
  /** Of weight 1, at most B. */
  readonly rows: Int32Array
}

const real = (precision: 'f32' | 'f64') => (precision === 'f64' ? Float64Array : Float32Array)

/** Types and lengths of a batch's arrays, x [B, channels, H, W] and y. */
export function batchArrays(setting: BatchSetting) {
  const { inputs, targets, values, shape, augment, mix, batch, precision } = setting
  const Real = real(precision)
  const stride = shape[0] * augment.size[0] * augment.size[1]
  return {
    stride,
    X: inputs instanceof Uint8Array ? Uint8Array : Real,
    Y: targets instanceof Int32Array && !mix ? Int32Array : Real,
    xLength: batch * stride,
    yLength: batch * (mix ? mix.classes : values),
  }
}

/**
 * Makes one batch: a pure function of the setting and the job. Sample i of epoch e draws from
 * stream('augment', e) at i, the mixing of a step from stream('mixing') at the step. Rows beyond the
 * job's repeat its first sample.
 */
export function makeBatch(
  setting: BatchSetting,
  { step, epoch, rows }: BatchJob,
  xBuffer: ArrayBuffer,
  yBuffer: ArrayBuffer,
): void {
  const { inputs, targets, values, shape, augment, mix, batch, seed } = setting
  const { stride, X, Y, xLength, yLength } = batchArrays(setting)
  const x = new X(xBuffer, 0, xLength)
  const y = new Y(yBuffer, 0, yLength)
  const [channels, height, width] = shape
  const size = channels * height * width
  const samples = stream('augment', epoch)
  for (const [k, row] of rows.entries()) {
    const data = inputs.subarray(row * size, (row + 1) * size)
    const draws = new Draws(seed, samples, row)
    const made = augmentImage(image(data, channels, height, width), augment, draws)
    x.set(made.data, k * stride)
    if (!mix) y.set(targets.subarray(row * values, (row + 1) * values), k * values)
  }
  for (let k = rows.length; k < batch; k++) {
    x.copyWithin(k * stride, 0, stride)
    if (!mix) y.copyWithin(k * values, 0, values)
  }
  if (!mix) return
  const [rowsOut, columnsOut] = augment.size
  const draws = new Draws(seed, stream('mixing'), step)
  const drawn = drawMix(mix, draws, rowsOut, columnsOut)
  mixSamples(x, rows.length, [channels, rowsOut, columnsOut], drawn)
  const labels = Int32Array.from(rows, (row) => targets[row])
  mixTargets(labels, rows.length, mix.classes, drawn.lambda, y as Float32Array | Float64Array)
}
