import { type Device, gradProgram, type Program, type Tensor, trace } from '../../lib/index.js'
import * as ops from '../../lib/ops/index.js'
import { openDevice } from '../inputs.js'
import { resident } from '../programs.js'
import { median } from '../statistics.js'
import type { BenchCase, BenchContext, MachineRates, Prepared } from '../types.js'

const [BATCH, CHANNELS, SIDE, GROUPS] = [32, 64, 32, 32]
const BYTES = 4 * BATCH * CHANNELS * SIDE * SIDE
/** Passes over one tensor of a fused forward and backward run: 3 and 5. */
const PASSES = 8

type Layout = 'nchw' | 'nhwc'
type Normalise = (x: Tensor, parameters: readonly Tensor[], layout: Layout) => readonly Tensor[]

const WHAT = `${BATCH}x${CHANNELS}x${SIDE}x${SIDE}, forward + backward`

/** The gradients of <y, cotangent> in the activations and parameters, and the other results. */
function training(normalise: Normalise, sizes: readonly number[], layout: Layout): Program {
  const shape = layout === 'nhwc' ? [BATCH, SIDE, SIDE, CHANNELS] : [BATCH, CHANNELS, SIDE, SIDE]
  const loss = trace(
    (x, cotangent, ...parameters) => {
      const [y, ...rest] = normalise(x, parameters, layout)
      return [ops.sum(ops.mul(y, cotangent)), ...rest]
    },
    [shape, shape, ...sizes.map((size) => [size])],
  )
  const program = gradProgram(loss, [true, false, ...sizes.map(() => true)])
  return { ...program, outputs: program.outputs.slice(1) }
}

const batchChannel = (layout: Layout): Program =>
  training(
    (x, [scale, shift, channelScale, channelShift]) => {
      const all = ops.batchChannelNorm(x, {
        scale,
        shift,
        channelScale,
        channelShift,
        affine: 'channel',
        groups: GROUPS,
        layout,
        relu: true,
      })
      return [all.y, all.mean, all.variance]
    },
    [CHANNELS, CHANNELS, CHANNELS, CHANNELS],
    layout,
  )

const group = (layout: Layout): Program =>
  training(
    (x, [scale, shift]) => [ops.groupNorm(x, { groups: GROUPS, scale, shift, layout, relu: true })],
    [CHANNELS, CHANNELS],
    layout,
  )

async function prepared(context: BenchContext, program: Program): Promise<Prepared> {
  const device: Device = await openDevice(context)
  const run = await resident(device, program, { scale: () => Math.sqrt(3) })
  return {
    run: run.run,
    limit: await floor(context.rates),
    dispose() {
      run.dispose()
      device.dispose()
    },
  }
}

/** Milliseconds of all passes at the copy rate at the size of one tensor. */
async function floor(rates: MachineRates): Promise<Prepared['limit']> {
  const rate = await rates.copyBandwidth(BYTES)
  return rate === null
    ? null
    : { value: ((PASSES * BYTES) / rate) * 1e3, name: `${PASSES} tensor passes` }
}

const timed = (id: string, what: string, make: () => Program): BenchCase => ({
  id,
  what: `${what}, ${WHAT}`,
  metric: 'time_ms',
  peer: 'worker',
  ours: (context) => prepared(context, make()),
})

export const NORM: BenchCase[] = [
  timed('norm/bcn-relu', 'batch-channel norm + ReLU, NHWC', () => batchChannel('nhwc')),
  timed('norm/bcn-relu-nchw', 'batch-channel norm + ReLU, NCHW', () => batchChannel('nchw')),
  {
    id: 'norm/bcn-floor',
    what: `batch-channel norm + ReLU, ${WHAT}, share of ${PASSES} tensor passes at the copy rate`,
    metric: 'floor_share',
    async ours(context) {
      const { run, dispose } = await prepared(context, batchChannel('nhwc'))
      return {
        dispose,
        limit: { value: 1, name: 'copy rate' },
        async measure() {
          const rate = await context.rates.copyBandwidth(BYTES)
          if (rate === null) throw new Error('The copy rate could not be measured.')
          const times: number[] = []
          for (let i = 0; i < (context.quick ? 3 : 21); i++) {
            const began = performance.now()
            await run?.()
            times.push(performance.now() - began)
          }
          return (((PASSES * BYTES) / rate) * 1e3) / median(times)
        },
      }
    },
  },
  timed('norm/gn-relu', 'group norm + ReLU, NHWC', () => group('nhwc')),
  timed('norm/gn-relu-nchw', 'group norm + ReLU, NCHW', () => group('nchw')),
]
