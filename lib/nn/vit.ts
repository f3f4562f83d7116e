import { requireArguments } from '../arguments.js'
import * as ops from '../ops/index.js'
import type { Tensor } from '../program/tensor.js'
import { attentionParameters, blockAttention, isUniversal } from './attention/attend.js'
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
import { blockParameters, transformerBlock } from './vit-block.js'
import { VIT_SIZES, type VitConfig, type VitOptions, vitConfig, vitTokens } from './vit-config.js'

/**
 * Vision transformer: patches → linear embedding [+ class token] + positions → L blocks of
 * x + attention(norm(x)), x + MLP(norm(x)) → norm → class token or mean → linear head.
 *
 * Tensors are named and shaped as timm's: `patch_embed.proj.weight` [D, C, p, p], `cls_token`
 * [1, 1, D], `pos_embed` [1, N, D], `blocks.I.norm1`, `blocks.I.attn.qkv` [3 D, D],
 * `blocks.I.attn.proj`, `blocks.I.norm2`, `blocks.I.mlp.fc1`, `blocks.I.mlp.fc2`, `norm`, `head`;
 * learnable attention adds `blocks.I.attn.karat.*`, or `karat.*` when shared by all blocks. Weights
 * begin N(0, 0.02²). Taps: `blocks.I`, `blocks.I.attn.q`, `.k`, `.v` [B, N, H, D / H].
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE for options that are wrong or do not go together
 *
 * @example
 * const small = vit({ size: 'small', classes: 10 })
 * const cifar = vit({ input: [3, 32, 32], patch: 4, width: 192, depth: 6, heads: 3, classes: 10,
 *   attention: 'karat:G3B' })
 *
 * Source: Dosovitskiy et al., arXiv 2010.11929; sizes of Touvron et al., arXiv 2012.12877.
 */
export function vit(options: VitOptions = {}): Model {
  requireArguments('vit()', { options })
  const config = vitConfig(options)
  const { input, width, depth, heads, classes, pooling, positions } = config
  const tokens = vitTokens(config)
  const attention = blockAttention(parseAttention(config.attention), heads)
  const universal = isUniversal(attention)
  const functions = (i: number): string => (universal ? 'karat.' : `blocks.${i}.attn.karat.`)
  const token: Parameter = {
    name: 'cls_token',
    shape: [1, 1, width],
    init: { kind: 'normal', std: 1e-6 },
  }
  const place: Parameter = {
    name: 'pos_embed',
    shape: [1, tokens, width],
    init: { kind: 'normal', std: WEIGHT_STD },
  }
  const blocks = Array.from({ length: depth }, (_, i) => [
    ...blockParameters(`blocks.${i}`, config),
    ...(universal ? [] : attentionParameters(attention, tokens, functions(i))),
  ])
  const parameters: Parameter[] = [
    ...(pooling === 'token' ? [token] : []),
    ...(positions === 'learned' ? [place] : []),
    ...patchParameters('patch_embed.proj', width, input[0], config.patch),
    ...blocks.flat(),
    ...normParameters('norm', width),
    ...linearParameters('head', classes, width),
    ...(universal ? attentionParameters(attention, tokens, functions(0)) : []),
  ]
  const name = vitName(config)
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
      let x = noise.dropout(embed(images, p, config))
      for (let i = 0; i < depth; i++) {
        x = transformerBlock(x, p, config, {
          name: `blocks.${i}`,
          attention,
          functions: functions(i),
          noise,
          dropPath: rates[i],
        })
      }
      return linear(pooled(x, p, config), p, 'head')
    },
  })
}

/** The model string; what it leaves out is in the configuration. */
function vitName({ width, depth, heads, patch }: VitConfig): string {
  for (const [name, size] of Object.entries(VIT_SIZES)) {
    const same = size.width === width && size.depth === depth && size.heads === heads
    if (same) return patch === 16 ? `vit:${name}` : `vit:${name},patch${patch}`
  }
  return `vit:patch${patch},width${width},depth${depth},heads${heads}`
}

export function embed(images: Tensor, p: TensorMap, config: VitConfig): Tensor {
  const patches = patchEmbedding(images, p, 'patch_embed.proj')
  const [B, , width] = patches.shape
  const x =
    config.pooling === 'token'
      ? ops.concat([ops.broadcastTo(p.cls_token, [B, 1, width]), patches], 1)
      : patches
  return ops.add(x, config.positions === 'learned' ? p.pos_embed : sinusoidalPositions(config))
}

/** What the head sees [B, D]. Without a mean only the class token has to be normalised. */
export function pooled(x: Tensor, p: TensorMap, { pooling, epsilon }: VitConfig): Tensor {
  const [B, , width] = x.shape
  if (pooling === 'mean') return ops.mean(norm(x, p, 'norm', epsilon), [1])
  const token = ops.reshape(ops.slice(x, [0, 0, 0], [B, 1, width]), [B, width])
  return norm(token, p, 'norm', epsilon)
}

/**
 * [1, N, D] for D/4 frequencies ω_k = 10000^(-4k/D): sin ω x, cos ω x, sin ω y, cos ω y of a
 * patch's column x and row y; 0 for a class token.
 */
function sinusoidalPositions(config: VitConfig): Tensor {
  const { input, patch, width, pooling } = config
  const [rows, columns] = [input[1] / patch, input[2] / patch]
  const quarter = width / 4
  const values: number[] = pooling === 'token' ? new Array<number>(width).fill(0) : []
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      for (const f of [
        (w: number) => Math.sin(w * x),
        (w: number) => Math.cos(w * x),
        (w: number) => Math.sin(w * y),
        (w: number) => Math.cos(w * y),
      ]) {
        for (let k = 0; k < quarter; k++) values.push(f(10000 ** (-k / quarter)))
      }
    }
  }
  return ops.constant(values, { dtype: 'f32', shape: [1, values.length / width, width] })
}
