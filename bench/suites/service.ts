import { monitorEventLoopDelay } from 'node:perf_hooks'
import { hessian, slq } from '../../lib/index.js'
import { MLP784, mlp, openDevice, randomSet } from '../inputs.js'
import type { BenchCase } from '../types.js'

export const SERVICE: BenchCase[] = [
  {
    id: 'service/event-loop',
    what: 'p99 delay of the event loop while a spectrum of mlp 784-256-256-10 is computed',
    metric: 'p99_ms',
    slow: true,
    async ours(context) {
      const device = await openDevice(context)
      const model = mlp(MLP784)
      const set = randomSet(2048, MLP784[0], MLP784[3])
      const operator = hessian(device, model, model.init(1), set, { batch: 1024 })
      const steps = context.quick ? 10 : 40
      return {
        async measure() {
          const delay = monitorEventLoopDelay({ resolution: 1 })
          delay.enable()
          await slq(operator, { probes: 2, steps })
          delay.disable()
          return delay.percentile(99) / 1e6
        },
        dispose() {
          operator.dispose()
          device.dispose()
        },
      }
    },
  },
]
