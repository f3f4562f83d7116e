import { LosscapeError } from '../../errors.js'
import { attention } from '../../ops/attention.js'
import * as ops from '../../ops/index.js'
import { scoreScale } from '../../ops/score-scale.js'
import { requireTensors, type Tensor } from '../../program/tensor.js'
import type { Parameter } from '../init.js'
import type { TensorMap } from '../model.js'
import { type HeadGroup, headGroups } from './groups.js'
import { karatAttention, karatWeights, requireScoreOptions, type ScoreOptions } from './karat.js'
import type { KaratOptions, KaratSetting } from './options.js'
import { karatParameters } from './parameters.js'

/** The attention of one block: softmax, learnable, or some heads of each. */
export interface BlockAttention {
  readonly heads: number
  readonly groups: readonly HeadGroup[]
}

/**
 * @param options null for softmax
 * @throws ERR_ARGUMENT, see headGroups()
 */
export function blockAttention(options: KaratOptions | null, heads: number): BlockAttention {
  return { heads, groups: headGroups(options, heads) }
}

/** One set of functions serves all blocks. */
export const isUniversal = ({ groups }: BlockAttention): boolean =>
  groups.some(({ setting }) => setting?.share === 'universal')

/** Tensors of the learnable heads, under `prefix`; none for softmax. */
export function attentionParameters(
  { groups }: BlockAttention,
  tokens: number,
  prefix: string,
): Parameter[] {
  return groups.flatMap((group) =>
    group.setting
      ? karatParameters(group.setting, {
          heads: group.heads.length,
          tokens,
          prefix: prefix + group.prefix,
        })
      : [],
  )
}

/**
 * Attention of all heads, o like v: every group of heads is sliced out, evaluated and put back.
 *
 * @param prefix where the tensors of the learnable heads are among `parameters`
 */
export function attend(
  { q, k, v }: { q: Tensor; k: Tensor; v: Tensor },
  { heads, groups }: BlockAttention,
  parameters: TensorMap,
  prefix: string,
  options: ScoreOptions = {},
): Tensor {
  const axis = options.layout === 'bnhd' ? 2 : 1
  return joinHeads(
    groups.map((group) => {
      const part = (x: Tensor): Tensor => takeHeads(x, group.heads, axis)
      const scores = { ...options, bias: headBias(options.bias, group.heads) }
      return group.setting
        ? karatAttention(part(q), part(k), part(v), own(parameters, prefix, group), {
            ...flat(group.setting),
            ...scores,
          })
        : attention(part(q), part(k), part(v), scores)
    }),
    groups,
    heads,
    axis,
  )
}

/** The weights [B, H, N, N] that {@link attend} gives the values, for analysis. */
export function attendWeights(
  { q, k }: { q: Tensor; k: Tensor },
  { heads, groups }: BlockAttention,
  parameters: TensorMap,
  prefix: string,
  options: ScoreOptions = {},
): Tensor {
  const axis = options.layout === 'bnhd' ? 2 : 1
  return joinHeads(
    groups.map((group) => {
      const part = (x: Tensor): Tensor => takeHeads(x, group.heads, axis)
      const scores = { ...options, bias: headBias(options.bias, group.heads) }
      return group.setting
        ? karatWeights(part(q), part(k), own(parameters, prefix, group), {
            ...flat(group.setting),
            ...scores,
          })
        : attentionWeights(part(q), part(k), scores)
    }),
    groups,
    heads,
    1,
  )
}

/**
 * Scores s q kᵀ + bias [B, H, N, M], written out; for analysis.
 */
export function attentionScores(q: Tensor, k: Tensor, options: ScoreOptions = {}): Tensor {
  requireTensors('attentionScores()', { q, k })
  requireScoreOptions('attentionScores()', options)
  const { scale, bias, layout = 'bhnd' } = options
  if (q.rank !== 4 || k.rank !== 4 || q.shape[3] !== k.shape[3]) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `attentionScores() expected q and k of shape [B, H, N, D], got [${q.shape}] and [${k.shape}].`,
    )
  }
  const heads = (x: Tensor): Tensor => (layout === 'bhnd' ? x : ops.transpose(x, [0, 2, 1, 3]))
  const product = ops.matmul(heads(q), heads(k), { transB: true })
  const scores = ops.mul(product, scoreScale('attentionScores()', q, scale))
  return bias ? ops.add(scores, bias) : scores
}

/**
 * The weights softmax(s q kᵀ + bias) [B, H, N, M] of softmax attention, written out; for analysis.
 * Rows in which all keys are masked are 0.
 */
export function attentionWeights(q: Tensor, k: Tensor, options: ScoreOptions = {}): Tensor {
  const scores = attentionScores(q, k, options)
  const { keyMask } = options
  if (!keyMask) return ops.softmax(scores)
  const [batch, , , keys] = scores.shape
  const kept = ops.broadcastTo(ops.reshape(ops.ne(keyMask, 0), [batch, 1, 1, keys]), scores.shape)
  const weights = ops.softmax(ops.where(kept, scores, -1e30))
  return ops.where(kept, weights, 0)
}

/** The group's tensors under their own names. */
function own(parameters: TensorMap, prefix: string, group: HeadGroup): TensorMap {
  const start = prefix + group.prefix
  return Object.fromEntries(
    Object.entries(parameters)
      .filter(([name]) => name.startsWith(start))
      .map(([name, tensor]) => [name.slice(start.length), tensor]),
  )
}

const flat = (setting: KaratSetting): Omit<KaratOptions, 'heads'> => setting

/** These heads of x along `axis`: one slice a run of neighbours. */
function takeHeads(x: Tensor, heads: readonly number[], axis: number): Tensor {
  const parts: Tensor[] = []
  for (let i = 0; i < heads.length; ) {
    let end = i + 1
    while (end < heads.length && heads[end] === heads[end - 1] + 1) end++
    const start = x.shape.map((_, a) => (a === axis ? heads[i] : 0))
    parts.push(ops.slice(x, start, x.shape.with(axis, end - i)))
    i = end
  }
  return ops.concat(parts, axis)
}

function headBias(bias: Tensor | undefined, heads: readonly number[]): Tensor | undefined {
  return bias && bias.shape[1] > 1 ? takeHeads(bias, heads, 1) : bias
}

/** Results of the groups in the order of the heads. */
function joinHeads(
  results: readonly Tensor[],
  groups: readonly HeadGroup[],
  heads: number,
  axis: number,
): Tensor {
  if (results.length === 1) return results[0]
  const order = groups.flatMap((group) => group.heads)
  if (order.length !== heads) {
    throw new LosscapeError('ERR_SHAPE', `${order.length} heads do not make ${heads}.`)
  }
  const all = ops.concat(results, axis)
  const places = Array.from({ length: heads }, (_, h) => order.indexOf(h))
  return takeHeads(all, places, axis)
}
