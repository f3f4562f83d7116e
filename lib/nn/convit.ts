import { argumentError, requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { attention as softmaxAttention } from '../ops/attention.js'
import * as ops from '../ops/index.js'
import type { Tensor } from '../program/tensor.js'
import type { Shape } from '../program/types.js'
import { attentionParameters, blockAttention, isUniversal } from './attention/attend.js'
import type { AttentionChoice } from './attention/options.js'
import { parseAttention } from './attention/parse.js'
import type { Parameter } from './init.js'
import {
  dropPathRates,
  linear,
  linearParameters,
  linearRows,
  mlpParameters,
  Noise,
  norm,
  normParameters,
  patchEmbedding,
  patchParameters,
  WEIGHT_STD,
} from './layers.js'
import { defineModel, type Model, type TensorMap } from './model.js'
import {
  type BlockConfig,
  type BlockRun,
  blockParameters,
  branches,
  transformerBlock,
} from './vit-block.js'
import {
  requireCounts,
  requireImage,
  requireTransformer,
  TRANSFORMER_DEFAULTS,
  type TransformerOptions,
  withDefaults,
} from './vit-config.js'

/** How to build a ConViT; defaults are ConViT-Tiny's. */
export interface ConvitOptions extends TransformerOptions {
  /** Shape of an image [C, H, W], H = W. Default [3, 224, 224]. */
  readonly input?: Shape
  /** Edge of a patch in pixels. Default 16. */
  readonly patch?: number
  /** D, a multiple of `heads`. Default 192. */
  readonly width?: number
  /** L, blocks. Default 12. */
  readonly depth?: number
  /** Default 4. */
  readonly heads?: number
  /** Blocks with gated positional attention; the class token joins after them. Default 10. */
  readonly gated?: number
  /** Strength of the locality with which the gated blocks begin. Default 1. */
  readonly locality?: number
  /** Default false. */
  readonly qkvBias?: boolean
  /** Default 1e-6. */
  readonly epsilon?: number
  /** Of the blocks after the gated ones. Default 'softmax'. */
  readonly attention?: AttentionChoice
}

type ConvitConfig = Required<ConvitOptions>

const DEFAULTS: ConvitConfig = {
  ...TRANSFORMER_DEFAULTS,
  input: [3, 224, 224],
  patch: 16,
  width: 192,
  depth: 12,
  heads: 4,
  gated: 10,
  locality: 1,
  qkvBias: false,
  epsilon: 1e-6,
}

/**
 * ConViT: a vision transformer whose first blocks use gated positional self-attention (GPSA), with
 * relative positions ρ_nm = (Δx, Δy, Δx² + Δy²) and one gate λ a head,
 *
 *     o = (1 - σ(λ)) softmax(s q kᵀ) v + σ(λ) softmax(ρ w + b) v
 *
 * and whose last blocks are plain; only these can have learnable attention. Tensors are named as
 * timm's convit: `blocks.I.attn.qk` [2 D, D], `.v`, `.proj`, `.pos_proj` [H, 3], `.gating_param`
 * [H] in gated blocks, else as in {@link vit}.
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE for options that are wrong or do not go together
 *
 * Source: d'Ascoli et al., arXiv 2103.10697.
 */
export function convit(options: ConvitOptions = {}): Model {
  requireArguments('convit()', { options })
  const config = convitConfig(options)
  const { input, patch, width, depth, heads, gated, classes } = config
  const patches = (input[1] / patch) ** 2
  const attention = blockAttention(parseAttention(config.attention), heads)
  const universal = isUniversal(attention)
  const functions = (i: number): string => (universal ? 'karat.' : `blocks.${i}.attn.karat.`)
  const normal = { kind: 'normal', std: WEIGHT_STD } as const
  const tokens = patches + 1
  const places = relativePlaces(patches)
  const blocks = Array.from({ length: depth }, (_, i) =>
    i < gated
      ? gatedParameters(`blocks.${i}`, config)
      : [
          ...blockParameters(`blocks.${i}`, config),
          ...(universal ? [] : attentionParameters(attention, tokens, functions(i))),
        ],
  )
  const parameters: Parameter[] = [
    { name: 'cls_token', shape: [1, 1, width], init: normal },
    { name: 'pos_embed', shape: [1, patches, width], init: normal },
    ...patchParameters('patch_embed.proj', width, input[0], patch),
    ...blocks.flat(),
    ...normParameters('norm', width),
    ...linearParameters('head', classes, width),
    ...(universal ? attentionParameters(attention, tokens, functions(0)) : []),
  ]
  const name = convitName(config)
  const rates = dropPathRates(config.dropPath, depth)
  return defineModel({
    name,
    input,
    output: [classes],
    parameters,
    random: config.dropout > 0 || config.dropPath > 0,
    config: { model: name, ...config },
    apply(p, images, { training, key }) {
      const noise = new Noise(training ? key : null, config.dropout)
      const embedded = ops.add(patchEmbedding(images, p, 'patch_embed.proj'), p.pos_embed)
      let x = noise.dropout(embedded)
      const B = x.shape[0]
      const relative = ops.constant(places, { dtype: x.dtype, shape: [patches * patches, 3] })
      for (let i = 0; i < depth; i++) {
        if (i === gated) x = ops.concat([ops.broadcastTo(p.cls_token, [B, 1, width]), x], 1)
        const run: BlockRun = {
          name: `blocks.${i}`,
          attention,
          functions: functions(i),
          noise,
          dropPath: rates[i],
        }
        x =
          i < gated
            ? branches(x, p, config, run, (y) => gatedAttention(y, p, config, run, relative))
            : transformerBlock(x, p, config, run)
      }
      const token = ops.reshape(ops.slice(x, [0, 0, 0], [B, 1, width]), [B, width])
      return linear(norm(token, p, 'norm', config.epsilon), p, 'head')
    },
  })
}

function convitConfig(options: ConvitOptions): ConvitConfig {
  const where = 'convit()'
  const config = withDefaults(where, options, DEFAULTS)
  requireImage(where, config.input, config.patch)
  requireCounts(where, config, ['width', 'depth', 'heads', 'gated', 'classes'])
  requireTransformer(where, config)
  if (config.input[1] !== config.input[2]) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `${where} expected square images, got ${config.input[1]} x ${config.input[2]}.`,
    )
  }
  if (config.gated >= config.depth) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${where} needs at least one block after the ${config.gated} gated ones, where the class ` +
        `token joins; the depth is ${config.depth}.`,
    )
  }
  if (!Number.isFinite(config.locality)) {
    throw argumentError(where, 'locality', 'a finite number', config.locality)
  }
  return config
}

function convitName(config: ConvitConfig): string {
  const { width, depth, heads, patch, gated } = config
  const tiny = width === 192 && depth === 12 && heads === 4 && gated === 10
  if (tiny) return patch === 16 ? 'convit:tiny' : `convit:tiny,patch${patch}`
  return `convit:patch${patch},width${width},depth${depth},heads${heads},gated${gated}`
}

function gatedParameters(name: string, config: ConvitConfig): Parameter[] {
  const { width, heads, mlpRatio, qkvBias } = config
  const [valueWeight, ...valueBias] = linearParameters(`${name}.attn.v`, width, width, qkvBias)
  const [place, placeBias] = linearParameters(`${name}.attn.pos_proj`, heads, 3)
  return [
    ...normParameters(`${name}.norm1`, width),
    { name: `${name}.attn.gating_param`, shape: [heads], init: { kind: 'ones' } },
    ...linearParameters(`${name}.attn.qk`, 2 * width, width, qkvBias),
    { ...valueWeight, init: { kind: 'identity' } },
    ...valueBias,
    ...linearParameters(`${name}.attn.proj`, width, width),
    { ...place, init: { kind: 'values', values: localPositions(config) } },
    placeBias,
    ...normParameters(`${name}.norm2`, width),
    ...mlpParameters(`${name}.mlp`, width, Math.round(width * mlpRatio)),
  ]
}

/**
 * Head (h1, h2) of a square of heads begins by looking at the patch at offset (h1, h2) from the
 * centre: -strength |Δ - offset|² up to a constant. Heads beyond the square begin without a place.
 */
function localPositions({ heads, locality }: ConvitConfig): number[] {
  const edge = Math.floor(Math.sqrt(heads))
  const centre = edge % 2 === 0 ? edge / 2 : (edge - 1) / 2
  const rows = Array.from({ length: heads }, () => [0, 0, 0])
  for (let h1 = 0; h1 < edge; h1++) {
    for (let h2 = 0; h2 < edge; h2++) {
      rows[h1 + edge * h2] = [2 * (h2 - centre), 2 * (h1 - centre), -1]
    }
  }
  return rows.flat().map((value) => value * locality)
}

function gatedAttention(
  x: Tensor,
  p: TensorMap,
  config: BlockConfig,
  run: BlockRun,
  relative: Tensor,
): Tensor {
  const { heads, width } = config
  const name = `${run.name}.attn`
  const [B, N] = x.shape
  const shape = [B, N, heads, width / heads]
  const part = (letter: string, y: Tensor): Tensor =>
    ops.tap(`${name}.${letter}`, ops.reshape(y, shape))
  const q = part('q', linearRows(x, p, `${name}.qk`, [0, width]))
  const k = part('k', linearRows(x, p, `${name}.qk`, [width, width]))
  const v = part('v', linear(x, p, `${name}.v`))
  const content = softmaxAttention(q, k, v, { layout: 'bnhd' })
  const places = ops.softmax(positionScores(p, name, heads, relative))
  // The positional weights are the same for all images: one product with the values of all, whose
  // gradient is one [H, N, N] as well.
  const columns = ops.reshape(ops.transpose(v, [2, 1, 0, 3]), [heads, N, B * (width / heads)])
  const positional = ops.reshape(ops.matmul(places, columns), [heads, N, B, width / heads])
  const gate = ops.reshape(ops.sigmoid(p[`${name}.gating_param`]), [heads, 1])
  const mixed = ops.add(
    ops.mul(content, ops.sub(1, gate)),
    ops.mul(ops.transpose(positional, [2, 1, 0, 3]), gate),
  )
  return run.noise.dropout(linear(ops.reshape(mixed, [B, N, width]), p, `${name}.proj`))
}

/** ρ w + b as [H, N, N]. */
function positionScores(p: TensorMap, name: string, heads: number, relative: Tensor): Tensor {
  const tokens = Math.sqrt(relative.shape[0])
  const scores = ops.matmul(p[`${name}.pos_proj.weight`], relative, { transB: true })
  const bias = ops.reshape(p[`${name}.pos_proj.bias`], [heads, 1])
  return ops.reshape(ops.add(scores, bias), [heads, tokens, tokens])
}

/** ρ [N², 3] of all pairs of N patches in a square. */
function relativePlaces(tokens: number): number[] {
  const n = Math.sqrt(tokens)
  const values: number[] = []
  for (let i = 0; i < tokens; i++) {
    for (let j = 0; j < tokens; j++) {
      const dx = (j % n) - (i % n)
      const dy = Math.floor(j / n) - Math.floor(i / n)
      values.push(dx, dy, dx * dx + dy * dy)
    }
  }
  return values
}
