import { type LinePath, linePath } from '../../analysis/line.js'
import type { DataSet } from '../../data/dataset.js'
import type { Model } from '../../nn/model.js'
import { train } from '../../train/train.js'
import type { Experiment } from '../paper.js'
import {
  blobSet,
  type Context,
  hessianSpectrum,
  measure,
  network,
  type StoredSpectrum,
  short,
} from './network.js'
import { type HessianSettings, partOf } from './settings.js'

export interface Solution {
  readonly loss: number
  readonly accuracy: number
  readonly testAccuracy: number
  readonly spectrum: StoredSpectrum
}

export interface Line {
  readonly alpha: readonly number[]
  readonly loss: readonly number[]
  readonly accuracy: readonly number[]
  readonly barrier: number
}

export interface BatchResult {
  /** Step and loss over the whole training set; the switch is at `switchAt`. */
  readonly trajectory: readonly (readonly [step: number, loss: number])[]
  readonly switchAt: number
  /** Largest loss after the switch, over the loss before it. */
  readonly spike: number
  readonly large: Solution
  readonly small: Solution
  /** From the large-batch solution to the small-batch one. */
  readonly line: Line
  /** From the large-batch solution to one from another start. */
  readonly independentLine: Line
}

/** S4: large batches, then small ones; spectra of both ends and the straight line between. */
export const batchExperiment: Experiment<HessianSettings, BatchResult> = {
  title: 'batch size',
  weight: 24,
  dependsOn: partOf('batch'),
  async run(context) {
    const { problem, large, small, steps, ...s } = context.settings.batch
    const set = blobSet(problem, context.seed)
    const test = blobSet(problem, context.seed, 'test')
    const model = network(set, problem.hidden, context.settings)
    const phase = (
      from: ArrayLike<number>,
      batch: number,
      count: number,
      every: number,
      offset: number,
      share: readonly [number, number],
    ) => descendInBatches(context, model, set, from, { batch, steps: count, every, offset, share })

    const first = await phase(model.init(context.seed), large, steps, s.recordEvery, 0, [0, 0.3])
    // Closely watched first: the jump lasts for some hundred steps only.
    const close = await phase(first.params, small, s.closeSteps, s.closeEvery, steps, [0.3, 0.4])
    const at = steps + s.closeSteps
    const rest = steps - s.closeSteps
    const last = await phase(close.params, small, rest, s.recordEvery, at, [0.4, 0.55])
    const other = await phase(model.init(context.seed + 1000), large, steps, steps, 0, [0.55, 0.85])

    const solution = async (params: ArrayLike<number>): Promise<Solution> => ({
      ...(await measure(context, model, params, set)),
      testAccuracy: (await measure(context, model, params, test)).accuracy,
      spectrum: await hessianSpectrum(context, { model, params, set }),
    })
    context.onProgress(0.85, 'spectra')
    const atLarge = await solution(first.params)
    const atSmall = await solution(last.params)
    context.onProgress(0.95, 'lines')
    const line = (to: ArrayLike<number>) =>
      linePath(context.device, model, first.params, to, set, {
        from: -0.25,
        to: 1.25,
        points: s.linePoints,
        precision: 'f64',
        signal: context.signal,
      }).then(stored)
    const after = [...close.record, ...last.record].map(([, loss]) => loss)
    return {
      trajectory: [...first.record, ...close.record, ...last.record],
      switchAt: steps,
      spike: short(Math.max(...after) - atLarge.loss),
      large: atLarge,
      small: atSmall,
      line: await line(last.params),
      independentLine: await line(other.params),
    }
  },
}

interface Phase {
  readonly batch: number
  readonly steps: number
  /** Steps between records of the loss. */
  readonly every: number
  /** Steps made before this phase. */
  readonly offset: number
  /** Of the experiment's progress. */
  readonly share: readonly [from: number, to: number]
}

/** Plain SGD through the samples in file order, with the loss over all of them on the way. */
async function descendInBatches(
  context: Context,
  model: Model,
  set: DataSet,
  start: ArrayLike<number>,
  { batch, steps, every, offset, share: [from, to] }: Phase,
): Promise<{ params: ArrayLike<number>; record: [number, number][] }> {
  const { device, settings, signal } = context
  const record: [number, number][] = []
  const run = await train(device, model, set, {
    optimizer: { kind: 'sgd', lr: settings.learningRate },
    steps,
    batch,
    shuffle: false,
    params: start,
    precision: 'f64',
    signal,
    checkpointEvery: every,
    onProgress: ({ step }) =>
      context.onProgress(from + ((to - from) * step) / steps, `batches of ${batch}`),
    async onCheckpoint({ step, params }) {
      if (signal?.aborted) return
      const { loss } = await measure(context, model, params, set)
      record.push([offset + step, loss])
    },
  })
  return { params: run.params, record }
}

function stored({ alpha, loss, accuracy, barrier }: LinePath): Line {
  return {
    alpha: Array.from(alpha, short),
    loss: Array.from(loss, short),
    accuracy: Array.from(accuracy ?? [], short),
    barrier: short(barrier),
  }
}
