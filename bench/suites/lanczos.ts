import { blockLanczos, hessian, type LanczosOptions, lanczos } from '../../lib/index.js'
import { MLP_SMALL, MLP784, mlp, openDevice, randomSet } from '../inputs.js'
import { runChild } from '../memory.js'
import { median } from '../statistics.js'
import type { BenchCase, BenchContext, Limit, Prepared } from '../types.js'
import { gemmFloor, hessianProductFlops, mlpParameters, reorthogonalizationBytes } from '../work.js'
import { reorthogonalization } from './reorthogonalization.js'

export const STEPS = 100
export const BATCH = 512

/** All Ritz values of 100 steps are wanted, so that no run ends early. */
async function hundredSteps(
  context: BenchContext,
  options: LanczosOptions = {},
): Promise<Prepared> {
  const device = await openDevice(context)
  const model = mlp(MLP784)
  const set = randomSet(BATCH, MLP784[0], MLP784[3])
  const operator = hessian(device, model, model.init(1), set, { batch: BATCH, tangents: 1 })
  return {
    run: () => lanczos(operator, { k: STEPS, maxSteps: STEPS, seed: 5, ...options }),
    limit: await lanczosFloor(context, options),
    dispose() {
      operator.dispose()
      device.dispose()
    },
  }
}

/** Matrix products at their best rate, then three reads of the basis at the copy rate. */
async function lanczosFloor(
  { rates }: BenchContext,
  { reorthogonalize }: LanczosOptions,
): Promise<Limit | null> {
  const n = mlpParameters(MLP784)
  const products = await gemmFloor(rates, STEPS * hessianProductFlops(MLP784, BATCH))
  // Partial reorthogonalisation reads the basis a few times in all.
  if (reorthogonalize === 'partial') return products
  const copyRate = await rates.copyBandwidth(4 * n * STEPS)
  if (products === null || copyRate === null) return null
  const reads = (reorthogonalizationBytes(n, STEPS) / copyRate) * 1e3
  return { value: products.value + reads, name: 'GEMM rate + copy rate' }
}

interface ChildMemory {
  /** Added to the resident set, and what the library accounts for itself. */
  bytes: number
  accounted: number
}

async function memory({ threads, device, quick }: BenchContext): Promise<Prepared> {
  const child = (what: 'product' | 'lanczos') =>
    runChild<ChildMemory>('lanczos-memory', [what, String(threads), device])
  const products: number[] = []
  for (let i = 0; i < (quick ? 1 : 3); i++) products.push((await child('product')).bytes)
  const basis = 4 * mlpParameters(MLP784) * STEPS
  const { accounted } = await child('lanczos')
  return {
    measure: async () => (await child('lanczos')).bytes,
    limit: {
      value: basis + 1.3 * median(products),
      name: `basis + 1.3 products (own accounting ${(accounted / 2 ** 20).toFixed(0)} MiB)`,
    },
  }
}

const PRODUCTS = 200

/** As many eigenvalues are wanted as cannot converge within the products. */
async function blocks(context: BenchContext): Promise<Prepared> {
  const device = await openDevice(context)
  const model = mlp(MLP_SMALL)
  const set = randomSet(1000, MLP_SMALL[0], MLP_SMALL[3])
  const operator = hessian(device, model, model.init(1), set, { batch: 1000, tangents: 8 })
  const k = PRODUCTS
  return {
    run: () => blockLanczos(operator, { k, block: 8, maxProducts: PRODUCTS, seed: 5 }),
    rivals: [{ name: 'lanczos', run: () => lanczos(operator, { k, maxSteps: PRODUCTS, seed: 5 }) }],
    limit: await gemmFloor(context.rates, PRODUCTS * hessianProductFlops(MLP_SMALL, 1000)),
    dispose() {
      operator.dispose()
      device.dispose()
    },
  }
}

export const LANCZOS: BenchCase[] = [
  {
    id: 'lanczos/mlp784-lists',
    what: '100 iterations, full reorthogonalisation, against lists of tensors and one MGS sweep',
    metric: 'time_ms',
    peer: 'worker',
    slow: true,
    ours: (context) => hundredSteps(context),
  },
  {
    id: 'lanczos/mlp784-flat',
    what: '100 iterations, full reorthogonalisation, against flat vectors and matrix-vector passes',
    metric: 'time_ms',
    peer: 'worker',
    slow: true,
    ours: (context) => hundredSteps(context),
  },
  {
    id: 'lanczos/mlp784-partial',
    what: '100 iterations, partial reorthogonalisation, against flat vectors and full passes',
    metric: 'time_ms',
    peer: 'worker',
    slow: true,
    ours: (context) => hundredSteps(context, { reorthogonalize: 'partial' }),
  },
  {
    id: 'lanczos/block',
    what: '200 products in blocks of 8, mlp 64-30-30-10, against one vector after another',
    metric: 'time_ms',
    ours: blocks,
  },
  reorthogonalization,
  {
    id: 'lanczos/memory',
    what: 'peak memory of 100 iterations in a fresh process',
    metric: 'peak_bytes',
    peer: 'peak',
    slow: true,
    ours: memory,
  },
]
