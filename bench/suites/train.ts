import { type DataSet, data, type Model, type TrainOptions } from '../../lib/index.js'
import { resolvePlan } from '../../lib/train/options.js'
import { TrainSession } from '../../lib/train/session.js'
import { MLP784, mlp, openDevice } from '../inputs.js'
import type { BenchCase, BenchContext, Prepared } from '../types.js'
import { gemmFloor, gradientFlops } from '../work.js'

/** MNIST, or without the files a stand-in of its shape (as the peer does). */
async function trainingSet({ dataRoot }: BenchContext): Promise<DataSet> {
  if (dataRoot !== null) return data.load(`mnist:${dataRoot}/mnist`, { split: 'train' })
  const pixels = Uint8Array.from({ length: 60_000 * 784 }, (_, i) => (i * 7919) & 255)
  const labels = Int32Array.from({ length: 60_000 }, (_, i) => (i * 31) % 10)
  return data.fromArrays(pixels, labels, { shape: [28, 28], classes: 10 })
}

interface Training {
  model: Model
  set: DataSet
  optimizer: TrainOptions['optimizer']
  batch: number
  /** Steps of one measured run. Default an epoch. */
  steps?: number
  flops: number
}

/** Steps one after another on data that lies on the device, shuffling included. */
export async function training(context: BenchContext, options: Training): Promise<Prepared> {
  const { model, set, optimizer, batch, flops } = options
  const device = await openDevice(context)
  const plan = resolvePlan(model, set, { optimizer, epochs: 1000, batch, seed: 1 })
  const session = new TrainSession(device, model, set, {
    loss: plan.loss,
    optimizer: plan.optimizer,
    batch: plan.batch,
    seed: 1,
    precision: 'f32',
    params: model.init(1),
    moments: [],
  })
  const count = options.steps ?? plan.order.stepsPerEpoch
  let from = 0
  return {
    async run() {
      const to = from + count
      const learningRates = new Float64Array(count).fill(plan.optimizer.lr)
      const steps = { from, to, ...plan.order.rows(from, to), learningRates }
      const { diverged, done } = await session.run(steps, undefined, undefined)
      if (diverged || done !== count) throw new Error(`Training stopped after ${done} steps.`)
      from = to
    },
    limit: await gemmFloor(context.rates, flops),
    dispose() {
      session.dispose()
      device.dispose()
    },
  }
}

async function epochs(context: BenchContext): Promise<Prepared> {
  const set = await trainingSet(context)
  return training(context, {
    model: mlp(MLP784),
    set,
    optimizer: { kind: 'sgd', lr: 0.05, momentum: 0.9 },
    batch: 128,
    flops: gradientFlops(MLP784, set.size),
  })
}

export const TRAIN: BenchCase[] = [
  {
    id: 'train/mnist-mlp784',
    what: 'one epoch of MNIST, mlp 784-256-256-10, batch 128, SGD with momentum, shuffled',
    metric: 'time_ms',
    peer: 'worker',
    slow: true,
    ours: epochs,
  },
]
