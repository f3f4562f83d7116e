// Prints { bytes, accounted } of one product or of 100 Lanczos iterations in this process:
// `lanczos-memory.ts product|lanczos THREADS DEVICE`.
import { hessian, lanczos, open } from '../../lib/index.js'
import { MLP784, mlp, randomSet, randomVector } from '../inputs.js'
import { peakDuring } from '../memory.js'
import { BATCH, STEPS } from '../suites/lanczos.js'

const [what, threads, name] = process.argv.slice(2)
const device = await open({ device: name, threads: Number(threads) })

async function run(sizes: readonly number[], samples: number, steps: number): Promise<void> {
  const model = mlp(sizes)
  const set = randomSet(samples, sizes[0], sizes[sizes.length - 1])
  const operator = hessian(device, model, model.init(1), set, { batch: samples, tangents: 1 })
  if (steps === 0) await operator.matvec(randomVector(operator.size, 3))
  else await lanczos(operator, { k: steps, maxSteps: steps, seed: 5 })
  operator.dispose()
}

// Threads, kernels and compiled JavaScript belong to the baseline, as they do for the peer.
await run([64, 32, 10], 256, 5)
const bytes = await peakDuring(() => run(MLP784, BATCH, what === 'product' ? 0 : STEPS))
console.log(JSON.stringify({ bytes, accounted: device.memory().peakBytes }))
device.dispose()
