// Prints { bytes, accounted } of one training step of ResNet-20 with BCN and WS, batch 128, in this
// process: `resnet20-memory.ts THREADS DEVICE`.
import { open } from '../../lib/index.js'
import { resolvePlan } from '../../lib/train/options.js'
import { TrainSession } from '../../lib/train/session.js'
import { randomImages } from '../inputs.js'
import { peakDuring } from '../memory.js'
import { OPTIMIZER, resnet20 } from '../suites/resnet20.js'

const [threads, name] = process.argv.slice(2)
const device = await open({ device: name, threads: Number(threads) })

async function step(batch: number): Promise<void> {
  const model = resnet20('bcn')
  const set = randomImages(batch)
  const plan = resolvePlan(model, set, { optimizer: OPTIMIZER, epochs: 1, batch, seed: 1 })
  const session = new TrainSession(device, model, set, {
    loss: plan.loss,
    optimizer: plan.optimizer,
    batch: plan.batch,
    seed: 1,
    precision: 'f32',
    params: model.init(1),
    moments: [],
  })
  const steps = { from: 0, to: 1, ...plan.order.rows(0, 1), learningRates: Float64Array.of(0.1) }
  await session.run(steps, undefined, undefined)
  session.dispose()
}

// Threads, kernels and compiled JavaScript belong to the baseline, as they do for the peer.
await step(2)
const bytes = await peakDuring(() => step(128))
console.log(JSON.stringify({ bytes, accounted: device.memory().peakBytes }))
device.dispose()
