import * as ops from '../ops/index.js'
import type { Tensor } from '../program/tensor.js'
import { attend } from './attention/attend.js'
import type { ScoreOptions } from './attention/karat.js'
import { linear } from './layers.js'
import type { TensorMap } from './model.js'
import {
  partition,
  regions,
  relativePositions,
  roll,
  unpartition,
  type Windows,
} from './swin-windows.js'
import { type BlockConfig, type BlockRun, branches, queryKeyValue } from './vit-block.js'

/** Score between tokens of a window that are no neighbours in the image, as published. */
const APART = -100

/** One block of a stage: attention within (shifted) windows, then the MLP; x [B, edge², D]. */
export function swinBlock(
  x: Tensor,
  p: TensorMap,
  config: BlockConfig,
  run: BlockRun,
  windows: Windows,
): Tensor {
  return branches(x, p, config, run, (y) => windowAttention(y, p, config, run, windows))
}

function windowAttention(
  x: Tensor,
  p: TensorMap,
  { heads }: BlockConfig,
  run: BlockRun,
  windows: Windows,
): Tensor {
  const { edge, window, shift } = windows
  const name = `${run.name}.attn`
  const [B, , width] = x.shape
  const image = roll(ops.reshape(x, [B, edge, edge, width]), shift)
  const cut = partition(image, window)
  const qkv = queryKeyValue(cut, p, name, heads)
  const bias = positionBias(p, name, heads, window)
  const o =
    shift === 0
      ? attend(qkv, run.attention, p, run.functions, { layout: 'bnhd', bias })
      : shiftedAttention(qkv, p, run, windows, bias)
  const mixed = run.noise.dropout(linear(ops.reshape(o, cut.shape), p, `${name}.proj`))
  const back = roll(unpartition(mixed, edge, window), -shift)
  return ops.reshape(back, x.shape)
}

/** Softmax takes the mask as a score of -100; sums of learnable functions leave masked keys out. */
function shiftedAttention(
  qkv: { q: Tensor; k: Tensor; v: Tensor },
  p: TensorMap,
  run: BlockRun,
  windows: Windows,
  bias: Tensor,
): Tensor {
  const labels = regions(windows)
  const options: ScoreOptions = { layout: 'bnhd' }
  if (run.attention.groups.every(({ setting }) => setting === null)) {
    const masked = ops.add(bias, windowMask(labels, qkv.q))
    return attend(qkv, run.attention, p, run.functions, { ...options, bias: masked })
  }
  // Queries of one region see its keys only: one evaluation a region, of which each query takes
  // its own. A window has at most four.
  const inWindow = labels.map((tokens) => {
    const distinct = [...new Set(tokens)]
    return tokens.map((label) => distinct.indexOf(label))
  })
  const count = 1 + Math.max(...inWindow.flat())
  const parts = Array.from({ length: count }, (_, region) => {
    const member = membership(inWindow, region, qkv.q)
    const o = attend(qkv, run.attention, p, run.functions, { ...options, bias, keyMask: member })
    const [rows, tokens] = member.shape
    return ops.mul(o, ops.reshape(ops.cast(member, o.dtype), [rows, tokens, 1, 1]))
  })
  return parts.reduce((sum, part) => ops.add(sum, part))
}

/** 1 where a token is of the region, [B windows, tokens] i32. */
function membership(labels: readonly number[][], region: number, like: Tensor): Tensor {
  const [rows, tokens] = like.shape
  const flags = labels.flat().map((label) => (label === region ? 1 : 0))
  const one = ops.constant(flags, { dtype: 'i32', shape: [1, labels.length, tokens] })
  const all = ops.broadcastTo(one, [rows / labels.length, labels.length, tokens])
  return ops.reshape(all, [rows, tokens])
}

/** [B windows, 1, tokens, tokens]: 0 within a region, -100 between regions. */
function windowMask(labels: readonly number[][], like: Tensor): Tensor {
  const [rows, tokens] = like.shape
  const values = labels.flatMap((window) =>
    window.flatMap((i) => window.map((j) => (i === j ? 0 : APART))),
  )
  const one = ops.constant(values, {
    dtype: like.dtype,
    shape: [1, labels.length, tokens, tokens],
  })
  const all = ops.broadcastTo(one, [rows / labels.length, labels.length, tokens, tokens])
  return ops.reshape(all, [rows, 1, tokens, tokens])
}

/** The learned bias of relative positions, [1, H, tokens, tokens]. */
function positionBias(p: TensorMap, name: string, heads: number, window: number): Tensor {
  const tokens = window * window
  const index = ops.constant(relativePositions(window), { dtype: 'i32', shape: [tokens * tokens] })
  const rows = ops.gather(p[`${name}.relative_position_bias_table`], index)
  return ops.reshape(ops.transpose(rows), [1, heads, tokens, tokens])
}
