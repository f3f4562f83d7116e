import { type Program, trace, vjpProgram } from '../../lib/index.js'
import * as ops from '../../lib/ops/index.js'
import { elements } from '../../lib/program/shape.js'
import { openDevice } from '../inputs.js'
import { resident } from '../programs.js'
import type { BenchCase } from '../types.js'

const STAGES = [
  { blocks: 3, width: 64 },
  { blocks: 4, width: 128 },
  { blocks: 6, width: 256 },
  { blocks: 3, width: 512 },
]

/** Filters of the 53 convolutions of ResNet-50, O I kh kw. */
function resnet50Filters(): number[][] {
  const filters = [[64, 3, 7, 7]]
  let from = 64
  for (const { blocks, width } of STAGES) {
    for (let block = 0; block < blocks; block++) {
      filters.push([width, from, 1, 1], [width, width, 3, 3], [4 * width, width, 1, 1])
      if (block === 0) filters.push([4 * width, from, 1, 1])
      from = 4 * width
    }
  }
  return filters
}

function forwardAndBackward(filters: readonly (readonly number[])[]): Program {
  return vjpProgram(trace((...w) => ops.weightStandardize(w), filters))
}

export const WS: BenchCase[] = [
  {
    id: 'norm/ws-resnet50',
    what: 'weight standardisation of all filters of ResNet-50, forward + backward',
    metric: 'time_ms',
    peer: 'worker',
    async ours(context) {
      const filters = resnet50Filters()
      const device = await openDevice(context)
      const program = await resident(device, forwardAndBackward(filters))
      // Weights and cotangents are read, filters and gradients written, weights read again.
      const bytes = 5 * 4 * filters.reduce((sum, shape) => sum + elements(shape), 0)
      const rate = await context.rates.copyBandwidth(bytes / 2)
      return {
        run: program.run,
        limit:
          rate === null
            ? null
            : { value: (1000 * bytes) / rate, name: '5 passes at copy bandwidth' },
        dispose() {
          program.dispose()
          device.dispose()
        },
      }
    },
  },
]
