import { argumentError, requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import * as ops from '../ops/index.js'
import type { Tensor } from '../program/tensor.js'
import type { Shape } from '../program/types.js'
import {
  attentionParameters,
  type BlockAttention,
  blockAttention,
  isUniversal,
} from './attention/attend.js'
import type { AttentionChoice, KaratOptions } from './attention/options.js'
import { parseAttention } from './attention/parse.js'
import type { Parameter } from './init.js'
import {
  dropPathRates,
  linear,
  linearParameters,
  Noise,
  norm,
  normParameters,
  patchEmbedding,
  patchParameters,
  WEIGHT_STD,
} from './layers.js'
import { defineModel, type Model, type TensorMap } from './model.js'
import { swinBlock } from './swin-block.js'
import type { Windows } from './swin-windows.js'
import { type BlockConfig, blockParameters } from './vit-block.js'
import {
  requireCounts,
  requireImage,
  requireTransformer,
  TRANSFORMER_DEFAULTS,
  type TransformerOptions,
  withDefaults,
} from './vit-config.js'

/** How to build a Swin transformer; defaults are Swin-Tiny's. */
export interface SwinOptions extends TransformerOptions {
  /** Shape of an image [C, H, W], H = W. Default [3, 224, 224]. */
  readonly input?: Shape
  /** Edge of a patch in pixels. Default 4. */
  readonly patch?: number
  /** Width of the first stage; doubles from stage to stage. Default 96. */
  readonly width?: number
  /** Blocks of each stage. Default [2, 2, 6, 2]. */
  readonly depths?: readonly number[]
  /** Heads of each stage. Default [3, 6, 12, 24]. */
  readonly heads?: readonly number[]
  /** Edge of a window in tokens. Default 7; a stage that is smaller is one window. */
  readonly window?: number
  /** Default true. */
  readonly qkvBias?: boolean
  /** Default 1e-5. */
  readonly epsilon?: number
  /** Of all window attentions; N = window². Default 'softmax'. */
  readonly attention?: AttentionChoice
}

type SwinConfig = Required<SwinOptions>

const DEFAULTS: SwinConfig = {
  ...TRANSFORMER_DEFAULTS,
  input: [3, 224, 224],
  patch: 4,
  width: 96,
  depths: [2, 2, 6, 2],
  heads: [3, 6, 12, 24],
  window: 7,
  qkvBias: true,
  epsilon: 1e-5,
}

/** One resolution: its blocks, their windows and what leads to it. */
interface Stage {
  readonly name: string
  readonly config: BlockConfig
  readonly edge: number
  readonly window: number
  readonly attention: BlockAttention
  readonly depth: number
}

/**
 * Swin transformer: attention within windows of tokens, shifted by half a window in every second
 * block, with a learned bias of relative positions; 2 x 2 patches are merged between stages.
 *
 * Tensors are named as timm's swin: `patch_embed.proj`, `patch_embed.norm`,
 * `layers.S.blocks.I.{norm1, attn.qkv, attn.proj, attn.relative_position_bias_table, norm2, mlp.fc1,
 * mlp.fc2}`, `layers.S.downsample.{norm, reduction}` for S > 0, `norm`, `head.fc`; learnable
 * attention adds `layers.S.blocks.I.attn.karat.*`. It adds the positional bias to its scores, and in
 * shifted windows leaves out tokens that are no neighbours in the image.
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE for options that are wrong or do not go together, among them
 * functions shared by all blocks, since stages differ in heads
 *
 * Source: Liu et al., arXiv 2103.14030.
 */
export function swin(options: SwinOptions = {}): Model {
  requireArguments('swin()', { options })
  const config = swinConfig(options)
  const { input, patch, width, classes } = config
  const stages = swinStages(config)
  const name = swinName(config)
  const last = stages[stages.length - 1].config.width
  const parameters: Parameter[] = [
    ...patchParameters('patch_embed.proj', width, input[0], patch),
    ...normParameters('patch_embed.norm', width),
    ...stages.flatMap(stageParameters),
    ...normParameters('norm', last),
    ...linearParameters('head.fc', classes, last),
  ]
  const blocks = stages.reduce((n, { depth }) => n + depth, 0)
  const rates = dropPathRates(config.dropPath, blocks)
  return defineModel({
    name,
    input,
    output: [classes],
    parameters,
    random: config.dropout > 0 || config.dropPath > 0,
    config: { model: name, ...config },
    apply(p, images, { training, key }) {
      const noise = new Noise(training ? key : null, config.dropout)
      const { epsilon } = config
      const patches = patchEmbedding(images, p, 'patch_embed.proj')
      let x = noise.dropout(norm(patches, p, 'patch_embed.norm', epsilon))
      let block = 0
      for (const [s, stage] of stages.entries()) {
        if (s > 0) x = mergePatches(x, p, stage, epsilon)
        for (let i = 0; i < stage.depth; i++) {
          const at = `${stage.name}.blocks.${i}`
          const { attention } = stage
          const run = { name: at, attention, functions: `${at}.attn.karat.`, noise }
          const dropPath = rates[block++]
          x = swinBlock(x, p, stage.config, { ...run, dropPath }, windowsOf(stage, i))
        }
      }
      return linear(ops.mean(norm(x, p, 'norm', epsilon), [1]), p, 'head.fc')
    },
  })
}

function swinConfig(options: SwinOptions): SwinConfig {
  const where = 'swin()'
  const config = withDefaults(where, options, DEFAULTS)
  requireImage(where, config.input, config.patch)
  requireCounts(where, config, ['width', 'window', 'classes'])
  const { depths, heads, input } = config
  for (const [name, list] of Object.entries({ depths, heads })) {
    const sound =
      Array.isArray(list) &&
      list.length === depths.length &&
      list.length > 0 &&
      list.every((n: unknown) => Number.isSafeInteger(n) && (n as number) >= 1)
    if (!sound) {
      const stages = name === 'heads' && Array.isArray(depths) ? ` of ${depths.length}` : ''
      throw argumentError(where, name, `a list of one positive integer a stage${stages}`, list)
    }
  }
  for (const [s, h] of heads.entries()) {
    requireTransformer(where, { ...config, width: config.width * 2 ** s, heads: h })
  }
  if (input[1] !== input[2]) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `${where} expected square images, got ${input[1]} x ${input[2]}.`,
    )
  }
  return config
}

/** @throws ERR_SHAPE when the tokens of a stage are odd in number or not whole windows */
function swinStages(config: SwinConfig): Stage[] {
  const { input, patch, width, depths, heads, window, mlpRatio, qkvBias, epsilon } = config
  const options = parseAttention(config.attention)
  return depths.map((depth, s) => {
    const edge = input[1] / patch / 2 ** s
    const own = Math.min(window, edge)
    if (!Number.isInteger(edge) || edge % own !== 0) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `swin(): stage ${s} of images of ${input[1]} x ${input[2]} has ${edge} x ${edge} tokens, ` +
          `which are not whole windows of ${own} x ${own}.`,
      )
    }
    const common = { mlpRatio, qkvBias, epsilon }
    return {
      name: `layers.${s}`,
      config: { ...common, width: width * 2 ** s, heads: heads[s] },
      edge,
      window: own,
      attention: stageAttention(options, heads[s]),
      depth,
    }
  })
}

function stageAttention(options: KaratOptions | null, heads: number): BlockAttention {
  const attention = blockAttention(options, heads)
  if (isUniversal(attention)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      "swin(): functions cannot be shared by all blocks ('universal'), since stages differ in " +
        "heads and tokens; use share 'block', as in karat:G3B.",
    )
  }
  return attention
}

function swinName({ patch, width, depths, heads, window }: SwinConfig): string {
  const tiny =
    width === 96 && patch === 4 && depths.join() === '2,2,6,2' && heads.join() === '3,6,12,24'
  if (tiny) return window === 7 ? 'swin:tiny' : `swin:tiny,window${window}`
  return `swin:patch${patch},width${width},depths${depths.join('-')},heads${heads.join('-')},window${window}`
}

function windowsOf({ edge, window }: Stage, block: number): Windows {
  const shifted = block % 2 === 1 && edge > window
  return { edge, window, shift: shifted ? Math.floor(window / 2) : 0 }
}

function stageParameters(stage: Stage, index: number): Parameter[] {
  const { name, config, window, attention, depth } = stage
  const { width, heads } = config
  const list: Parameter[] = []
  if (index > 0) {
    list.push(
      ...normParameters(`${name}.downsample.norm`, 2 * width),
      ...linearParameters(`${name}.downsample.reduction`, width, 2 * width, false),
    )
  }
  for (let i = 0; i < depth; i++) {
    const at = `${name}.blocks.${i}`
    list.push(
      ...blockParameters(at, config),
      {
        name: `${at}.attn.relative_position_bias_table`,
        shape: [(2 * window - 1) ** 2, heads],
        init: { kind: 'normal', std: WEIGHT_STD },
      },
      ...attentionParameters(attention, window * window, `${at}.attn.karat.`),
    )
  }
  return list
}

/** 2 x 2 tokens of width D / 2 side by side (columns outermost), normalised, to one of width D. */
function mergePatches(x: Tensor, p: TensorMap, stage: Stage, epsilon: number): Tensor {
  const { name, edge } = stage
  const [B, , C] = x.shape
  const cells = ops.transpose(ops.reshape(x, [B, edge, 2, edge, 2, C]), [0, 1, 3, 4, 2, 5])
  const merged = ops.reshape(cells, [B, edge * edge, 4 * C])
  return linear(
    norm(merged, p, `${name}.downsample.norm`, epsilon),
    p,
    `${name}.downsample.reduction`,
  )
}
