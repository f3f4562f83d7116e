import { empiricalFisher, gaussNewton, hessian } from '../../lib/index.js'
import { MLP_SMALL, MLP784, mlp, openDevice, randomSet } from '../inputs.js'
import { residentProduct } from '../products.js'
import type { BenchCase, BenchContext, Prepared } from '../types.js'
import { gaussNewtonFlops, gemmFloor, hessianProductFlops } from '../work.js'

interface ProductCase {
  kind: typeof hessian
  sizes: readonly number[]
  samples: number
  batch: number
  /** Vectors per product. */
  count: number
  flops: number
}

/** Products on vectors that lie on the device, as the peer's lie in its tensors. */
async function product(context: BenchContext, options: ProductCase): Promise<Prepared> {
  const { kind, sizes, samples, batch, count } = options
  const device = await openDevice(context)
  const model = mlp(sizes)
  const set = randomSet(samples, sizes[0], sizes[sizes.length - 1])
  const operator = kind(device, model, model.init(1), set, { batch, tangents: count })
  return residentProduct(device, operator, count, await gemmFloor(context.rates, options.flops))
}

export const HVP: BenchCase[] = [
  {
    id: 'hvp/mlp784',
    what: 'Hessian product, mlp 784-256-256-10, batch 512, primal kept',
    metric: 'time_ms',
    peer: 'worker',
    ours: (context) =>
      product(context, {
        kind: hessian,
        sizes: MLP784,
        samples: 512,
        batch: 512,
        count: 1,
        flops: hessianProductFlops(MLP784, 512),
      }),
  },
  {
    id: 'hvp/mlp784-dataset',
    what: 'Hessian product over 10,000 samples in chunks of 1000, linearised once',
    metric: 'time_ms',
    peer: 'worker',
    ours: (context) =>
      product(context, {
        kind: hessian,
        sizes: MLP784,
        samples: 10_000,
        batch: 1000,
        count: 1,
        flops: hessianProductFlops(MLP784, 10_000),
      }),
  },
  {
    id: 'hvp/mlp-small',
    what: 'Hessian product, mlp 64-30-30-10, batch 1000',
    metric: 'time_ms',
    peer: 'worker',
    ours: (context) =>
      product(context, {
        kind: hessian,
        sizes: MLP_SMALL,
        samples: 1000,
        batch: 1000,
        count: 1,
        flops: hessianProductFlops(MLP_SMALL, 1000),
      }),
  },
  {
    id: 'hvp/matmat10',
    what: 'ten Hessian products at once, mlp 64-30-30-10, batch 1000',
    metric: 'time_ms',
    peer: 'worker',
    ours: (context) =>
      product(context, {
        kind: hessian,
        sizes: MLP_SMALL,
        samples: 1000,
        batch: 1000,
        count: 10,
        flops: 10 * hessianProductFlops(MLP_SMALL, 1000),
      }),
  },
  {
    id: 'hvp/ggn-mlp784',
    what: 'Gauss-Newton product, mlp 784-256-256-10, batch 512, primal kept',
    metric: 'time_ms',
    peer: 'worker',
    ours: (context) =>
      product(context, {
        kind: gaussNewton,
        sizes: MLP784,
        samples: 512,
        batch: 512,
        count: 1,
        flops: gaussNewtonFlops(MLP784, 512),
      }),
  },
  {
    id: 'hvp/fisher-mlp784',
    what: 'empirical Fisher product, mlp 784-256-256-10, batch 512, primal kept',
    metric: 'time_ms',
    peer: 'worker',
    ours: (context) =>
      product(context, {
        kind: empiricalFisher,
        sizes: MLP784,
        samples: 512,
        batch: 512,
        count: 1,
        flops: gaussNewtonFlops(MLP784, 512),
      }),
  },
]
