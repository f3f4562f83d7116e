import { hessian, type Model, models } from '../../lib/index.js'
import { openDevice, randomImages } from '../inputs.js'
import { residentProduct } from '../products.js'
import type { BenchCase, BenchContext, Prepared } from '../types.js'
import { gemmFloor, transformerFlops } from '../work.js'
import { training } from './train.js'

const SIZE = { width: 192, depth: 6, heads: 3, patch: 4, input: [3, 32, 32], classes: 10 } as const
const BATCH = 64

const vit = (): Model => models.vit(SIZE)

function train(context: BenchContext): Promise<Prepared> {
  return training(context, {
    model: vit(),
    set: randomImages(10 * BATCH),
    optimizer: { kind: 'adamw', lr: 1e-4, weightDecay: 0.05 },
    batch: BATCH,
    steps: 1,
    flops: 3 * transformerFlops(SIZE, BATCH),
  })
}

async function product(context: BenchContext): Promise<Prepared> {
  const device = await openDevice(context)
  const model = vit()
  const options = { batch: BATCH, tangents: 1 }
  const operator = hessian(device, model, model.init(1), randomImages(BATCH), options)
  const limit = await gemmFloor(context.rates, 6 * transformerFlops(SIZE, BATCH))
  return residentProduct(device, operator, 1, limit)
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
