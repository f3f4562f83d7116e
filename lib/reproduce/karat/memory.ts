import { compileProgram } from '../../device/compile.js'
import type { Device } from '../../device/device.js'
import { attend, attentionParameters, blockAttention } from '../../nn/attention/attend.js'
import { parseAttention } from '../../nn/attention/parse.js'
import * as ops from '../../ops/index.js'
import { simplify } from '../../program/passes/index.js'
import { trace } from '../../program/trace.js'
import type { TensorType } from '../../program/types.js'
import { gradProgram } from '../../program/vjp.js'
import type { Experiment } from '../paper.js'
import type { KaratSettings } from './settings.js'

/** Working memory of one layer's loss and gradients, in bytes of float32. */
export interface MemoryRow {
  /** null for softmax. */
  readonly size: { readonly G: number; readonly r: number } | null
  /** Arena of the compiled program: all that is neither input nor output. */
  readonly arena: number
  /** Z [B, H, N, r]. */
  readonly latents: number
  /** a, b and W of the layer. */
  readonly parameters: number
  /** One tensor of scores [B, H, N, N]. */
  readonly scores: number
}

/** Memory of a layer at several G and r; nothing is computed. */
export const memoryExperiment: Experiment<KaratSettings, readonly MemoryRow[]> = {
  title: 'memory of a layer',
  weight: 0.1,
  dependsOn: ({ memory }) => memory,
  async run({ device, settings: { memory } }) {
    return [null, ...memory.sizes].map((size) => layerMemory(device, memory, size))
  },
}

function layerMemory(
  device: Device,
  { batch, tokens, heads, headWidth }: KaratSettings['memory'],
  size: MemoryRow['size'],
): MemoryRow {
  const text = size ? `karat:G${size.G}B,r${size.r}` : 'softmax'
  const attention = blockAttention(parseAttention(text), heads)
  const tensors = attentionParameters(attention, tokens, '')
  const operand: TensorType = { dtype: 'f32', shape: [batch, tokens, heads, headWidth] }
  const types: TensorType[] = [
    ...[operand, operand, operand],
    ...tensors.map(({ shape }): TensorType => ({ dtype: 'f32', shape })),
  ]
  const loss = trace(
    (q, k, v, ...rest) => {
      const named = Object.fromEntries(tensors.map(({ name }, i) => [name, rest[i]]))
      const o = attend({ q, k, v }, attention, named, '', { layout: 'bnhd' })
      return ops.sum(ops.mul(o, o))
    },
    [...types],
  )
  const program = simplify(
    gradProgram(
      loss,
      types.map(() => true),
    ),
  )
  const { arenaBytes } = compileProgram(device, program, 'f32')
  const floats = (shape: readonly number[]): number => 4 * shape.reduce((n, d) => n * d, 1)
  return {
    size,
    arena: arenaBytes,
    latents: size ? floats([batch, heads, tokens, size.r]) : 0,
    parameters: tensors.reduce((sum, { shape }) => sum + floats(shape), 0),
    scores: floats([batch, heads, tokens, tokens]),
  }
}
