import { gradProgram, type Program, trace } from '../../lib/index.js'
import * as ops from '../../lib/ops/index.js'
import { openDevice } from '../inputs.js'
import { type ResidentProgram, resident, residentTangents } from '../programs.js'
import type { BenchCase, BenchContext, Prepared } from '../types.js'
import { attentionFlops, gemmFloor } from '../work.js'

const [BATCH, HEADS, WIDTH] = [8, 3, 64]

type Shapes = readonly (readonly number[])[]

function operands(tokens: number, count: number): Shapes {
  return Array.from({ length: count }, () => [BATCH, HEADS, tokens, WIDTH])
}

/** Numbers in [-s, s) of the variance that a standard normal has, as the peer draws them. */
const UNIT = { scale: () => Math.sqrt(3) }

function forward(tokens: number): Program {
  return trace((q, k, v) => ops.attention(q, k, v), operands(tokens, 3))
}

/** <O, cotangent> and its gradient in q, k and v; without the value, as the peer computes it. */
function backward(tokens: number): Program {
  const loss = trace(
    (q, k, v, cotangent) => ops.sum(ops.mul(ops.attention(q, k, v), cotangent)),
    operands(tokens, 4),
  )
  const program = gradProgram(loss, [true, true, true, false])
  return { ...program, outputs: program.outputs.slice(1) }
}

async function prepared(
  context: BenchContext,
  flops: number,
  make: (device: Awaited<ReturnType<typeof openDevice>>) => Promise<ResidentProgram>,
): Promise<Prepared> {
  const device = await openDevice(context)
  const program = await make(device)
  return {
    run: program.run,
    limit: await gemmFloor(context.rates, flops),
    dispose() {
      program.dispose()
      device.dispose()
    },
  }
}

function sizes(tokens: number): BenchCase[] {
  const pairs = BATCH * HEADS * tokens * tokens
  const what = `softmax attention, B ${BATCH}, H ${HEADS}, N ${tokens}, d ${WIDTH}`
  return [
    {
      id: `attention/fwd-${tokens}`,
      what: `${what}, forward`,
      metric: 'time_ms',
      peer: 'worker',
      ours: (context) =>
        prepared(context, attentionFlops(pairs, WIDTH).forward, (device) =>
          resident(device, forward(tokens), UNIT),
        ),
    },
    {
      id: `attention/fwdbwd-${tokens}`,
      what: `${what}, forward + backward`,
      metric: 'time_ms',
      peer: 'worker',
      ours: (context) => {
        const { forward, backward: gradient } = attentionFlops(pairs, WIDTH)
        return prepared(context, forward + gradient, (device) =>
          resident(device, backward(tokens), UNIT),
        )
      },
    },
  ]
}

export const ATTENTION: BenchCase[] = [
  ...[65, 197, 1024].flatMap(sizes),
  {
    id: 'attention/hvp',
    what: `Hessian product of softmax attention in q, k and v, B ${BATCH}, H ${HEADS}, N 197, d ${WIDTH}`,
    metric: 'time_ms',
    peer: 'worker',
    ours: (context) =>
      prepared(context, attentionFlops(BATCH * HEADS * 197 * 197, WIDTH).hessianProduct, (device) =>
        residentTangents(device, backward(197), [true, true, true, false], UNIT),
      ),
  },
]
