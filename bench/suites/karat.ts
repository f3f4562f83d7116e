import { gradProgram, karatAttention, type Program, trace } from '../../lib/index.js'
import * as ops from '../../lib/ops/index.js'
import { openDevice } from '../inputs.js'
import { runChild } from '../memory.js'
import { type ResidentProgram, resident, residentTangents } from '../programs.js'
import type { BenchCase, BenchContext, Prepared } from '../types.js'
import { gemmFloor, karatFlops } from '../work.js'

/** The attention layer of ViT-Tiny with Fourier functions: G harmonics, r latents. */
export const LAYER = { heads: 3, tokens: 197, width: 64, G: 3, r: 12 } as const

type Shape = readonly number[]

function operandShapes(batch: number): Shape[] {
  const { heads, tokens, width, G, r } = LAYER
  const rows = [batch, heads, tokens, width]
  const edges = [heads, r, tokens, G]
  return [rows, rows, rows, edges, edges, [heads, tokens, r]]
}

const inLayer = (index: number): boolean => index < 6

/** Uniform numbers of unit variance for q, k, v; such a, b, W that Z and O have it too. */
const FILL = {
  scale(input: number): number {
    const { tokens, G, r } = LAYER
    if (input === 3 || input === 4) return Math.sqrt(3 / (tokens * G))
    return input === 5 ? Math.sqrt(3 / (tokens * r)) : Math.sqrt(3)
  },
}

/** Gradient of <O, cotangent> in q, k, v, a, b and W. */
export function layerGradient(batch: number): Program {
  const { G, r } = LAYER
  const shapes = operandShapes(batch)
  const loss = trace(
    (q, k, v, a, b, weight, cotangent) =>
      ops.sum(ops.mul(karatAttention(q, k, v, { a, b, weight }, { G, r }), cotangent)),
    [...shapes, shapes[0]],
  )
  const program = gradProgram(
    loss,
    loss.inputs.map((_, i) => inLayer(i)),
  )
  return { ...program, outputs: program.outputs.slice(1) }
}

/** What the layer's gradient needs on a device, filled. */
export async function residentLayer(context: BenchContext, batch: number) {
  const device = await openDevice(context)
  const program = await resident(device, layerGradient(batch), FILL)
  return { device, program }
}

function limitFlops(part: 'gradient' | 'hessianProduct', batch: number): number {
  const { heads, tokens, width, G, r } = LAYER
  return karatFlops(batch * heads * tokens * tokens, { width, G, r })[part]
}

async function layer(context: BenchContext): Promise<Prepared> {
  const { device, program } = await residentLayer(context, 8)
  return prepared(program, device, await gemmFloor(context.rates, limitFlops('gradient', 8)))
}

async function layerHessianProduct(context: BenchContext): Promise<Prepared> {
  const device = await openDevice(context)
  const gradient = layerGradient(8)
  const selected = gradient.inputs.map((_, i) => inLayer(i))
  const program = await residentTangents(device, gradient, selected, FILL)
  return prepared(program, device, await gemmFloor(context.rates, limitFlops('hessianProduct', 8)))
}

function prepared(
  program: ResidentProgram,
  device: Awaited<ReturnType<typeof openDevice>>,
  limit: Prepared['limit'],
): Prepared {
  return {
    run: program.run,
    limit,
    dispose() {
      program.dispose()
      device.dispose()
    },
  }
}

/** Peak memory of one run in a fresh process, beside what the specification allows. */
function memory(part: 'layer' | 'full-rank', limit: { value: number; name: string }) {
  return async ({ threads, device }: BenchContext): Promise<Prepared> => ({
    async measure() {
      return (await runChild<{ bytes: number }>('karat-memory', [part, String(threads), device]))
        .bytes
    },
    limit,
  })
}

function layerLimit(threads: number): { value: number; name: string } {
  const { heads, tokens, G, r } = LAYER
  const latents = 4 * 64 * heads * tokens * r
  const coefficients = 4 * heads * tokens * r * 2 * G
  return { value: 2 * latents + 2 * threads * coefficients, name: '2 Z + 2 threads coefficients' }
}

const WHAT = 'ViT-Tiny attention layer, B 8, G 3, r 12, forward + backward'

export const KARAT: BenchCase[] = [
  {
    id: 'karat/layer-einsum',
    what: `${WHAT}, against the einsum formula`,
    metric: 'time_ms',
    peer: 'worker',
    ours: layer,
  },
  {
    id: 'karat/layer-edges',
    what: `${WHAT}, against materialised edges`,
    metric: 'time_ms',
    peer: 'worker',
    slow: true,
    ours: layer,
  },
  {
    id: 'karat/layer-softmax',
    what: `${WHAT}, against fused softmax attention`,
    metric: 'time_ms',
    peer: 'worker',
    ours: layer,
  },
  {
    id: 'karat/layer-hvp',
    what: 'Hessian product of the layer in q, k, v, a, b and W',
    metric: 'time_ms',
    peer: 'worker',
    ours: layerHessianProduct,
  },
  {
    id: 'karat/layer-memory',
    what: 'working memory of the layer, B 64, forward + backward',
    metric: 'peak_bytes',
    peer: 'peak',
    slow: true,
    ours: (context) => memory('layer', layerLimit(context.threads))(context),
  },
  {
    id: 'karat/full-rank',
    what: 'working memory of full-rank attention on one image, N 197, G 10, forward',
    metric: 'peak_bytes',
    slow: true,
    ours: memory('full-rank', { value: 8e6, name: 'wanted' }),
  },
]
