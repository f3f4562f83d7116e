import { gradProgram, type Program, trace } from '../../lib/index.js'
import * as ops from '../../lib/ops/index.js'
import type { Tensor } from '../../lib/program/tensor.js'
import { openDevice } from '../inputs.js'
import { resident } from '../programs.js'
import type { BenchCase, BenchContext, Prepared } from '../types.js'
import { gemmFloor } from '../work.js'

interface Layer {
  readonly from: number
  readonly to: number
  readonly kernel: number
  readonly stride: number
  /** Rows and columns of its result. */
  readonly size: number
}

const STAGES = [16, 32, 64]
const BLOCKS = 3
const IMAGE = 32

/** The convolutions of CIFAR ResNet-20 in order; a projection stands before the block it skips. */
function layers(): Layer[] {
  const list: Layer[] = [{ from: 3, to: 16, kernel: 3, stride: 1, size: IMAGE }]
  for (const [stage, to] of STAGES.entries()) {
    const size = IMAGE >> stage
    for (let block = 0; block < BLOCKS; block++) {
      const first = stage > 0 && block === 0
      const [from, stride] = first ? [STAGES[stage - 1], 2] : [to, 1]
      if (first) list.push({ from, to, kernel: 1, stride, size })
      list.push({ from, to, kernel: 3, stride, size }, { from: to, to, kernel: 3, stride: 1, size })
    }
  }
  return list
}

function flops(batch: number): number {
  return layers().reduce(
    (sum, { from, to, kernel, size }) => sum + 2 * batch * (size * kernel) ** 2 * from * to,
    0,
  )
}

/** Through all convolutions, one after another; projections are added to what they skip. */
function chain(x: Tensor, filters: readonly Tensor[]): Tensor {
  const list = layers()
  const apply = (i: number, input: Tensor): Tensor => {
    const { kernel, stride } = list[i]
    const padding = (kernel - 1) / 2
    return ops.convolution(input, filters[i], { stride, padding, layout: 'nhwc' })
  }
  let y = apply(0, x)
  for (let i = 1; i < list.length; ) {
    const skip = list[i].kernel === 1 ? apply(i++, y) : null
    y = apply(i + 1, apply(i, y))
    if (skip) y = ops.add(y, skip)
    i += 2
  }
  return y
}

/** <y, cotangent> and its gradient in all filters: every product but that to the images. */
function gradient(batch: number): Program {
  const list = layers()
  const { to, size } = list[list.length - 1]
  const loss = trace(
    (x, cotangent, ...filters) => ops.sum(ops.mul(chain(x, filters), cotangent)),
    [
      [batch, IMAGE, IMAGE, 3],
      [batch, size, size, to],
      ...list.map(({ from, to: filters, kernel }) => [filters, from, kernel, kernel]),
    ],
  )
  return gradProgram(
    loss,
    loss.inputs.map((_, i) => i > 1),
  )
}

/** Filters that keep the variance of what goes through them. */
function scale(input: number): number {
  if (input < 2) return Math.sqrt(3)
  const { from, kernel } = layers()[input - 2]
  return Math.sqrt(3 / (from * kernel * kernel))
}

async function prepared(context: BenchContext, batch: number): Promise<Prepared> {
  const device = await openDevice(context)
  const program = await resident(device, gradient(batch), { scale })
  return {
    run: program.run,
    limit: await gemmFloor(context.rates, 3 * flops(batch)),
    dispose() {
      program.dispose()
      device.dispose()
    },
  }
}

function ofBatch(id: string, batch: number): BenchCase {
  return {
    id,
    what: `all convolutions of CIFAR ResNet-20, batch ${batch}: forward, backward by data and by filters`,
    metric: 'time_ms',
    peer: 'worker',
    ours: (context) => prepared(context, batch),
  }
}

export const CONV: BenchCase[] = [ofBatch('conv/resnet20', 128), ofBatch('conv/resnet20-2', 2)]
