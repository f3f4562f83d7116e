import { argumentError, requireArguments } from '../arguments.js'
import type { DataSet } from '../data/dataset.js'
import { take } from '../data/select.js'
import { compileProgram } from '../device/compile.js'
import type { Device } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import { throwIfAborted } from '../errors.js'
import type { NativeBuffer } from '../native.js'
import { attentionAnatomy } from '../nn/attention/anatomy.js'
import { karatActivationFlops } from '../nn/attention/cost.js'
import { batchTypes } from '../nn/batch.js'
import { defaultLoss, type LossSpec, resolveLoss } from '../nn/loss.js'
import type { Model } from '../nn/model.js'
import { requireOptions } from '../options.js'
import type { Program } from '../program/types.js'
import { predictionProgram } from '../train/prediction-program.js'
import { stepProgram } from '../train/program.js'

export interface AttentionCostOptions {
  /** Images a run. Default 32, at most the data set. */
  readonly batch?: number
  /** Timed runs, after one that is not; 0 measures no time. Default 5. */
  readonly repeats?: number
  /** Default 'cross-entropy' for labels. */
  readonly loss?: LossSpec
  /** Default 'f32'. */
  readonly precision?: 'f32' | 'f64'
  readonly signal?: AbortSignal
}

/** What a vision transformer and its attention cost. */
export interface AttentionCost {
  /** n */
  readonly parameters: number
  /** Of these, in learnable functions and projectors. */
  readonly attentionParameters: number
  /**
   * Operations from scores to weights for one image, all blocks, as the paper counts them
   * (multiply-add as one): (3 G + 1) N² r a learnable head, 3 N² a softmax head. Fused kernels do
   * fewer; see {@link karatActivationFlops}. NaN for other orders and bases than the paper's.
   */
  readonly activationOperations: number
  readonly batch: number
  /** Bytes of all intermediate results of a pass over the batch, after planning. */
  readonly forwardBytes: number
  /** The same for loss and gradients. */
  readonly trainingBytes: number
  /** Medians; NaN without repeats. */
  readonly forwardImagesPerSecond: number
  readonly trainingImagesPerSecond: number
}

/**
 * Parameters, operations by the paper's law, measured memory and measured throughput of a vision
 * transformer. Memory is that of the compiled programs' arena: what a pass needs beside
 * parameters, images, gradients and the kernels' private tiles.
 *
 * @throws ERR_ARGUMENT for a model that is no vision transformer, ERR_SHAPE, ERR_ABORTED
 */
export async function attentionCost(
  device: Device,
  model: Model,
  set: DataSet,
  options: AttentionCostOptions = {},
): Promise<AttentionCost> {
  requireArguments('attentionCost()', { device, model, set })
  requireOptions('attentionCost()', options, ['batch', 'repeats', 'loss', 'precision', 'signal'])
  const { repeats = 5, precision = 'f32', signal } = options
  const { batch: count = 32 } = options
  if (!Number.isSafeInteger(count) || count < 1) {
    throw argumentError('attentionCost()', 'batch', 'a positive integer', count)
  }
  if (!Number.isSafeInteger(repeats) || repeats < 0 || repeats > 10_000) {
    throw argumentError('attentionCost()', 'repeats', 'an integer from 0 to 10,000', repeats)
  }
  const batch = Math.min(count, set.size)
  const images = take(
    set,
    Array.from({ length: batch }, (_, i) => i),
  )
  const loss = resolveLoss(options.loss ?? defaultLoss(set))
  const trained = model.layout.entries.map(() => true)
  const step = stepProgram({ model, loss, set: images, batch, trained, wholeSet: true })
  const forward = predictionProgram(model, batch, images, 'logits')
  const measure = (program: Program) =>
    measureProgram(device, program, { precision, repeats, signal, model, images })
  const [pass, training] = [await measure(forward), await measure(step.program)]
  return {
    parameters: model.size,
    ...attentionCounts(model),
    batch,
    forwardBytes: pass.arenaBytes,
    trainingBytes: training.arenaBytes,
    forwardImagesPerSecond: batch / pass.seconds,
    trainingImagesPerSecond: batch / training.seconds,
  }
}

/** The counted part of {@link attentionCost}. */
export function attentionCounts(
  model: Model,
): Pick<AttentionCost, 'attentionParameters' | 'activationOperations'> {
  const { attention, tokens, depth } = attentionAnatomy(model)
  const attentionParameters = model.layout.entries
    .filter(({ name }) => /(^|\.)karat\./.test(name))
    .reduce((sum, { size }) => sum + size, 0)
  const activationOperations = attention.groups.reduce((sum, { setting, heads }) => {
    if (!setting) return sum + 3 * tokens * tokens * heads.length * depth
    if (setting.order !== 'w-phi' || setting.basis.kind !== 'fourier') return Number.NaN
    const { G, r } = setting
    return sum + karatActivationFlops({ G, r, heads: heads.length, tokens, depth })
  }, 0)
  return { attentionParameters, activationOperations }
}

interface MeasureOptions {
  readonly precision: 'f32' | 'f64'
  readonly repeats: number
  readonly signal?: AbortSignal
  readonly model: Model
  readonly images: DataSet
}

/** Arena of a program, and the median time of a run on real images and start parameters. */
async function measureProgram(
  device: Device,
  program: Program,
  { precision, repeats, signal, model, images }: MeasureOptions,
): Promise<{ arenaBytes: number; seconds: number }> {
  const executable = compileProgram(device, program, precision)
  const { arenaBytes, inputBytes, outputBytes } = executable
  if (repeats < 1) return { arenaBytes, seconds: Number.NaN }
  const owned: NativeBuffer[] = []
  const allocate = (bytes: number) => {
    const buffer = device.binding.createBuffer(Math.max(1, bytes))
    owned.push(buffer)
    return { buffer, offset: 0 }
  }
  try {
    const inputs = inputBytes.map(allocate)
    const outputs = outputBytes.map(allocate)
    const Real = precision === 'f64' ? Float64Array : Float32Array
    const start = Real.from(model.init(0))
    const { entries } = model.layout
    const { x, y } = batchTypes(images, images.size)
    const real = program.inputs[entries.length].dtype !== 'u8'
    const pixels = real || x.dtype !== 'u8' ? Real.from(images.inputs) : images.inputs
    const targets = y.dtype === 'i32' ? images.targets : Real.from(images.targets)
    const rest = [pixels, targets, new Real(images.size).fill(1)]
    for (const [i, { buffer }] of inputs.entries()) {
      const entry = entries[i]
      const data = entry
        ? start.slice(entry.offset, entry.offset + entry.size)
        : rest[i - entries.length]
      // A random key beyond them may stay zero.
      if (data) await buffer.write(0, data)
    }
    const times: number[] = []
    for (let i = 0; i <= repeats; i++) {
      throwIfAborted(signal)
      const begin = performance.now()
      await withSignal(device.binding, signal, (token) =>
        executable.run(inputs, outputs, { token }),
      )
      if (i > 0) times.push(performance.now() - begin)
    }
    times.sort((a, b) => a - b)
    return { arenaBytes, seconds: times[times.length >> 1] / 1000 }
  } finally {
    for (const buffer of owned) buffer.dispose()
  }
}
