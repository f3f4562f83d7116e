import { hessian, type SlqOptions, slq } from '../../lib/index.js'
import { MLP784, mlp, openDevice, randomSet } from '../inputs.js'
import type { BenchCase, BenchContext, Limit, Prepared } from '../types.js'
import { gemmFloor, hessianProductFlops } from '../work.js'

const PROBES = 10
const STEPS = 80
const BATCH = 512

function quadrature(options: SlqOptions) {
  return async (context: BenchContext): Promise<Prepared> => {
    const device = await openDevice(context)
    const model = mlp(MLP784)
    const set = randomSet(BATCH, MLP784[0], MLP784[3])
    const operator = hessian(device, model, model.init(1), set, { batch: BATCH, tangents: 1 })
    return {
      run: () => slq(operator, { probes: PROBES, steps: STEPS, seed: 5, ...options }),
      limit: await products(context),
      dispose() {
        operator.dispose()
        device.dispose()
      },
    }
  }
}

/** Partial reorthogonalisation, the default, reads the basis a few times in all. */
function products({ rates }: BenchContext): Promise<Limit | null> {
  return gemmFloor(rates, PROBES * STEPS * hessianProductFlops(MLP784, BATCH))
}

export const SLQ: BenchCase[] = [
  {
    id: 'slq/mlp784',
    what: 'quadrature, 10 probes x 80 steps, partial reorthogonalisation, against full passes',
    metric: 'time_ms',
    peer: 'worker',
    slow: true,
    ours: quadrature({}),
  },
  {
    id: 'slq/mlp784-three-term',
    what: 'quadrature, 10 probes x 80 steps, no reorthogonalisation on either side',
    metric: 'time_ms',
    peer: 'worker',
    slow: true,
    ours: quadrature({ reorthogonalize: 'none' }),
  },
]
