import * as ops from '../ops/index.js'
import type { Tensor } from '../program/tensor.js'
import { attend, type BlockAttention } from './attention/attend.js'
import type { Parameter } from './init.js'
import {
  linear,
  linearParameters,
  linearRows,
  mlpBlock,
  mlpParameters,
  type Noise,
  norm,
  normParameters,
} from './layers.js'
import type { TensorMap } from './model.js'

/** What the blocks of a transformer have in common. */
export interface BlockConfig {
  /** D */
  readonly width: number
  readonly heads: number
  readonly mlpRatio: number
  readonly qkvBias: boolean
  readonly epsilon: number
}

/** One block's place, attention and draws. */
export interface BlockRun {
  /** Name of the block, `blocks.0`. */
  readonly name: string
  readonly attention: BlockAttention
  /** Where the tensors of its learnable heads are. */
  readonly functions: string
  readonly noise: Noise
  readonly dropPath: number
}

/** norm1, attn.qkv [3 D, D], attn.proj, norm2, mlp.fc1, mlp.fc2, as timm names them. */
export function blockParameters(name: string, config: BlockConfig): Parameter[] {
  const { width, mlpRatio, qkvBias } = config
  return [
    ...normParameters(`${name}.norm1`, width),
    ...linearParameters(`${name}.attn.qkv`, 3 * width, width, qkvBias),
    ...linearParameters(`${name}.attn.proj`, width, width),
    ...normParameters(`${name}.norm2`, width),
    ...mlpParameters(`${name}.mlp`, width, Math.round(width * mlpRatio)),
  ]
}

/** x + attention(norm(x)), then x + MLP(norm(x)): pre-norm, x [B, N, D]. */
export function transformerBlock(
  x: Tensor,
  p: TensorMap,
  config: BlockConfig,
  run: BlockRun,
): Tensor {
  return branches(x, p, config, run, (y) => selfAttention(y, p, config, run))
}

/** The two residual branches around any attention [B, N, D] → [B, N, D]. */
export function branches(
  x: Tensor,
  p: TensorMap,
  { epsilon }: BlockConfig,
  { name, noise, dropPath }: Pick<BlockRun, 'name' | 'noise' | 'dropPath'>,
  mixing: (x: Tensor) => Tensor,
): Tensor {
  const mixed = mixing(norm(x, p, `${name}.norm1`, epsilon))
  const middle = ops.add(x, noise.dropPath(mixed, dropPath))
  const second = mlpBlock(norm(middle, p, `${name}.norm2`, epsilon), p, `${name}.mlp`, noise)
  return ops.tap(name, ops.add(middle, noise.dropPath(second, dropPath)))
}

/** Queries, keys and values [B, N, H, D / H]; tapped as `NAME.q`, `NAME.k`, `NAME.v`. */
export function queryKeyValue(
  x: Tensor,
  p: TensorMap,
  name: string,
  heads: number,
): { q: Tensor; k: Tensor; v: Tensor } {
  const [B, N, width] = x.shape
  const part = (i: number, letter: string): Tensor => {
    const rows = linearRows(x, p, `${name}.qkv`, [i * width, width])
    return ops.tap(`${name}.${letter}`, ops.reshape(rows, [B, N, heads, width / heads]))
  }
  return { q: part(0, 'q'), k: part(1, 'k'), v: part(2, 'v') }
}

function selfAttention(x: Tensor, p: TensorMap, { heads }: BlockConfig, run: BlockRun): Tensor {
  const name = `${run.name}.attn`
  const qkv = queryKeyValue(x, p, name, heads)
  const o = attend(qkv, run.attention, p, run.functions, { layout: 'bnhd' })
  return run.noise.dropout(linear(ops.reshape(o, x.shape), p, `${name}.proj`))
}
