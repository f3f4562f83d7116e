import { type DataSet, data, hessian, type Model, models } from '../../lib/index.js'
import { openDevice, randomVector } from '../inputs.js'
import type { BenchCase, BenchContext, Prepared } from '../types.js'
import { gemmFloor, transformerFlops } from '../work.js'
import { training } from './train.js'

const SIZE = { width: 192, depth: 6, heads: 3, patch: 4, input: [3, 32, 32], classes: 10 } as const
const BATCH = 64

const vit = (): Model => models.vit(SIZE)

/** Random images of CIFAR's shape. */
function images(count: number): DataSet {
  const x = randomVector(count * 3 * 32 * 32, 2).map((value) => value * Math.sqrt(3))
  const y = Int32Array.from({ length: count }, (_, i) => (i * 31) % 10)
  return data.fromArrays(x, y, { shape: [3, 32, 32], classes: 10 })
}

function train(context: BenchContext): Promise<Prepared> {
  return training(context, {
    model: vit(),
    set: images(10 * BATCH),
    optimizer: { kind: 'adamw', lr: 1e-4, weightDecay: 0.05 },
    batch: BATCH,
    steps: 1,
    flops: 3 * transformerFlops(SIZE, BATCH),
  })
}

/** The vector and the product lie on the device, as the peer's lie in its tensors. */
async function product(context: BenchContext): Promise<Prepared> {
  const device = await openDevice(context)
  const model = vit()
  const operator = hessian(device, model, model.init(1), images(BATCH), {
    batch: BATCH,
    tangents: 1,
  })
  const { storage } = operator.layout
  const [input, output] = [0, 1].map(() => ({
    buffer: device.binding.createBuffer(4 * storage),
    offset: 0,
  }))
  const vector = operator.layout.toStorage(
    randomVector(operator.size, 3),
    new Float32Array(storage),
  )
  await input.buffer.write(0, vector)
  return {
    run: () => operator.native.apply(input, output, 1),
    limit: await gemmFloor(context.rates, 6 * transformerFlops(SIZE, BATCH)),
    dispose() {
      input.buffer.dispose()
      output.buffer.dispose()
      operator.dispose()
      device.dispose()
    },
  }
}

const WHAT = 'ViT, images 32 x 32, patch 4, width 192, depth 6, heads 3, batch 64'

export const VIT: BenchCase[] = [
  {
    id: 'train/vit-cifar',
    what: `${WHAT}: forward + backward + AdamW`,
    metric: 'time_ms',
    peer: 'worker',
    ours: train,
  },
  {
    id: 'hvp/vit-cifar',
    what: `${WHAT}: Hessian product, primal kept`,
    metric: 'time_ms',
    peer: 'worker',
    slow: true,
    ours: product,
  },
]
