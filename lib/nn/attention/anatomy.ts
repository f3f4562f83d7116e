import { requireArguments } from '../../arguments.js'
import { LosscapeError } from '../../errors.js'
import type { Model } from '../model.js'
import type { VitConfig } from '../vit-config.js'
import { type BlockAttention, blockAttention, isUniversal } from './attend.js'
import { parseAttention } from './parse.js'

/** What the attention of a vision transformer is made of. */
export interface AttentionAnatomy {
  /** L */
  readonly depth: number
  /** H */
  readonly heads: number
  /** N */
  readonly tokens: number
  /** Rows and columns of patches. */
  readonly grid: readonly [rows: number, columns: number]
  /** Token 0 is the class token, before the patches. */
  readonly classToken: boolean
  readonly attention: BlockAttention
  /** Where the tensors of a block's learnable heads are. */
  readonly functions: (block: number) => string
}

/**
 * How a model from models.vit() attends.
 * @throws ERR_ARGUMENT for any other model
 */
export function attentionAnatomy(model: Model): AttentionAnatomy {
  requireArguments('attention analysis', { model })
  if (!/^vit:/.test(model.name)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `Attention can be looked at in vision transformers (models.vit()); this is '${model.name}'.`,
    )
  }
  const { input, patch, depth, heads, pooling, attention } = model.config as unknown as VitConfig
  const grid = [input[1] / patch, input[2] / patch] as const
  const own = blockAttention(parseAttention(attention), heads)
  const universal = isUniversal(own)
  const classToken = pooling === 'token'
  return {
    depth,
    heads,
    tokens: grid[0] * grid[1] + (classToken ? 1 : 0),
    grid,
    classToken,
    attention: own,
    functions: (block) => (universal ? 'karat.' : `blocks.${block}.attn.karat.`),
  }
}
