import { hessian, lanczos, type Model, models } from '../../lib/index.js'
import { openDevice, randomImages } from '../inputs.js'
import { runChild } from '../memory.js'
import { residentProduct } from '../products.js'
import type { BenchCase, BenchContext, Limit, Prepared } from '../types.js'
import { gemmFloor } from '../work.js'
import { training } from './train.js'

/** CIFAR ResNet-20 whose shortcuts convolve; 8 groups, weights standardised. */
export function resnet20(kind: 'gn' | 'bcn'): Model {
  return models.resnet20({
    norm: { kind, groups: 8 },
    ws: kind === 'bcn',
    shortcut: 'convolution',
    zeroInit: false,
  })
}

const BATCH = 128
export const OPTIMIZER = { kind: 'sgd', lr: 0.1, momentum: 0.9 } as const

/** Multiply-adds of all convolutions of one pass over an image: 10.45 GFLOP for 128 of them. */
const FORWARD_FLOPS = 81_657_856

function train(batch: number) {
  return (context: BenchContext): Promise<Prepared> =>
    training(context, {
      model: resnet20('bcn'),
      set: randomImages(Math.max(10 * batch, 128)),
      optimizer: OPTIMIZER,
      batch,
      steps: 1,
      flops: 3 * FORWARD_FLOPS * batch,
    })
}

/**
 * All convolutions of a Hessian product with the primal part kept: tangents of the forward pass, of
 * both backward passes, twice as many as there are operands. 306 ms were measured for them with two
 * cores of the machine that the targets were set on.
 */
async function convolutionFloor({ rates }: BenchContext, products: number): Promise<Limit | null> {
  const gemm = await gemmFloor(rates, 6 * FORWARD_FLOPS * BATCH * products)
  return gemm && { value: gemm.value, name: 'GEMM rate (convolutions alone: 306 ms a product)' }
}

function operatorOf(context: BenchContext, kind: 'gn' | 'bcn') {
  return openDevice(context).then((device) => {
    const model = resnet20(kind)
    const operator = hessian(device, model, model.init(1), randomImages(BATCH), {
      batch: BATCH,
      tangents: 1,
      ...(kind === 'bcn' && { statistics: 'batch' as const }),
    })
    return { device, operator }
  })
}

function product(kind: 'gn' | 'bcn') {
  return async (context: BenchContext): Promise<Prepared> => {
    const { device, operator } = await operatorOf(context, kind)
    return residentProduct(device, operator, 1, await convolutionFloor(context, 1))
  }
}

const STEPS = 50

async function iterations(context: BenchContext): Promise<Prepared> {
  const { device, operator } = await operatorOf(context, 'bcn')
  return {
    run: () => lanczos(operator, { k: STEPS, maxSteps: STEPS, seed: 5 }),
    limit: await convolutionFloor(context, STEPS),
    dispose() {
      operator.dispose()
      device.dispose()
    },
  }
}

async function memory({ threads, device }: BenchContext): Promise<Prepared> {
  return {
    async measure() {
      return (await runChild<{ bytes: number }>('resnet20-memory', [String(threads), device])).bytes
    },
  }
}

const WHAT = 'CIFAR ResNet-20'

export const RESNET20: BenchCase[] = [
  {
    id: 'train/resnet20-bcn-128',
    what: `${WHAT}, BCN + WS, batch 128: forward + backward + SGD`,
    metric: 'time_ms',
    peer: 'worker',
    slow: true,
    ours: train(BATCH),
  },
  {
    id: 'train/resnet20-bcn-2',
    what: `${WHAT}, BCN + WS, batch 2: forward + backward + SGD`,
    metric: 'time_ms',
    peer: 'worker',
    ours: train(2),
  },
  {
    id: 'hvp/resnet20-gn',
    what: `${WHAT}, group norm, batch 128: Hessian product, primal kept`,
    metric: 'time_ms',
    peer: 'worker',
    slow: true,
    ours: product('gn'),
  },
  {
    id: 'hvp/resnet20-bcn',
    what: `${WHAT}, BCN + WS, batch 128: Hessian product, primal kept`,
    metric: 'time_ms',
    peer: 'worker',
    slow: true,
    ours: product('bcn'),
  },
  {
    id: 'lanczos/resnet20',
    what: `${WHAT}, BCN + WS, batch 128: 50 iterations, full reorthogonalisation`,
    metric: 'time_ms',
    peer: 'worker',
    slow: true,
    ours: iterations,
  },
  {
    id: 'train/resnet20-memory',
    what: `${WHAT}, BCN + WS, batch 128: peak memory of a training step in a fresh process`,
    metric: 'peak_bytes',
    peer: 'peak',
    slow: true,
    ours: memory,
  },
]
