import { newArray } from '../allocation.js'
import { argumentError, requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import { type DataSet, elements, IDENTITY } from '../data/dataset.js'
import { normalizedInputs } from '../data/normalize.js'
import { take } from '../data/select.js'
import type { Device } from '../device/device.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import { attentionAnatomy } from '../nn/attention/anatomy.js'
import { linear, linearParameters, Noise } from '../nn/layers.js'
import { defineModel, type Model, type TensorMap } from '../nn/model.js'
import { embed, pooled, vit } from '../nn/vit.js'
import { branches } from '../nn/vit-block.js'
import { type VitOptions, vitConfig } from '../nn/vit-config.js'
import * as ops from '../ops/index.js'
import { requireOptions } from '../options.js'
import { sameShape } from '../program/shape.js'
import type { Tensor } from '../program/tensor.js'
import { AttentionReader } from './attention-reader.js'

export interface AttentionTransferOptions {
  /** Images that the teacher sees at once. Default 64. */
  readonly batch?: number
  readonly signal?: AbortSignal
  /** After batches: images done, of all. */
  readonly onProgress?: (done: number, total: number) => void
}

/**
 * A data set of images, each with the attention matrices that a trained vision transformer has for
 * it: what a student of {@link attentionStudent} is trained and tested on. A sample is the
 * normalised image followed by the weights [L, H, N, N], as float32; 4 L H N² bytes an image.
 *
 * @throws ERR_ARGUMENT for a teacher that is no vision transformer, ERR_SHAPE, ERR_OUT_OF_MEMORY,
 * ERR_ABORTED
 *
 * @example
 * const teach = (set) => attentionTransferSet(device, teacher, run.params, set)
 * const student = attentionStudent(teacher, { heads: 3, classes: 10, ...sizes })
 * await train(device, student, await teach(images), { test: await teach(test), ...recipe })
 */
export async function attentionTransferSet(
  device: Device,
  teacher: Model,
  params: ArrayLike<number>,
  set: DataSet,
  options: AttentionTransferOptions = {},
): Promise<DataSet> {
  const where = 'attentionTransferSet()'
  requireArguments(where, { device, model: teacher, params, set })
  requireOptions(where, options, ['batch', 'signal', 'onProgress'])
  const { depth, heads, tokens } = attentionAnatomy(teacher)
  const pixels = elements(set.shape)
  const blockSize = heads * tokens * tokens
  const sample = pixels + depth * blockSize
  const inputs = newArray(Float32Array, set.size * sample, 'Images with their attention')
  const { batch: count = 64 } = options
  if (!Number.isSafeInteger(count) || count < 1) {
    throw argumentError(where, 'batch', 'a positive integer', count)
  }
  const batch = Math.min(count, set.size)
  const blocks = Array.from({ length: depth }, (_, i) => i)
  return withProgress(options, async ({ signal, onProgress }) => {
    const chunk = (from: number): DataSet =>
      // The last batch is filled up with its last image, so that one program serves all.
      take(
        set,
        Array.from({ length: batch }, (_, i) => Math.min(from + i, set.size - 1)),
      )
    const reader = new AttentionReader(device, teacher, params, chunk(0), {
      blocks,
      precision: 'f32',
    })
    try {
      for (let from = 0; from < set.size; from += batch) {
        throwIfAborted(signal)
        const images = chunk(from)
        const count = Math.min(batch, set.size - from)
        const found = await reader.queriesAndKeys(images, signal)
        const shown = normalizedInputs(images)
        for (let i = 0; i < count; i++) {
          inputs.set(shown.subarray(i * pixels, (i + 1) * pixels), (from + i) * sample)
        }
        for (const block of blocks) {
          const weights = await reader.weights(block, found[block], signal)
          for (let i = 0; i < count; i++) {
            const at = (from + i) * sample + pixels + block * blockSize
            inputs.set(weights.subarray(i * blockSize, (i + 1) * blockSize), at)
          }
        }
        onProgress?.(from + count, set.size)
      }
    } finally {
      reader.dispose()
    }
    return {
      ...set,
      name: `${set.name} with attention of ${teacher.name}`,
      shape: [sample],
      inputs,
      normalization: IDENTITY,
    }
  })
}

/**
 * A vision transformer without queries and keys: every block mixes its values with the attention
 * matrices that come with the image, which no gradient changes. All tensors are named as those of
 * vit(), but `blocks.I.attn.v` [D, D] in place of `attn.qkv`.
 *
 * The student must have the teacher's tokens and blocks; with a multiple of its heads every head of
 * the teacher serves as many neighbours.
 *
 * @param options as of vit(), without `attention`
 * @throws ERR_ARGUMENT, ERR_SHAPE for sizes and images that do not go with the teacher's
 *
 * Source: arXiv 2503.10632 (v3), attention transfer; after Li et al. 2024, arXiv 2411.09702.
 */
export function attentionStudent(teacher: Model, options: Omit<VitOptions, 'attention'>): Model {
  const where = 'attentionStudent()'
  requireArguments(where, { model: teacher, options })
  const { attention } = options as VitOptions
  if (attention !== undefined) {
    throw argumentError(where, 'attention', "absent (it is the teacher's)", attention)
  }
  const taught = attentionAnatomy(teacher)
  const config = vitConfig(options)
  const { depth, heads, width, input, classes } = config
  const own = vit({ ...config })
  const anatomy = attentionAnatomy(own)
  const fits =
    anatomy.tokens === taught.tokens && depth === taught.depth && heads % taught.heads === 0
  if (!fits) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `A student of '${teacher.name}' needs its ${taught.tokens} tokens, ${taught.depth} blocks and ` +
        `a multiple of its ${taught.heads} heads; got ${anatomy.tokens}, ${depth} and ${heads}.`,
    )
  }
  const pixels = elements(input)
  if (!sameShape(input, teacher.input) || anatomy.classToken !== taught.classToken) {
    const pooling = (token: boolean): string => (token ? 'token' : 'mean')
    throw new LosscapeError(
      'ERR_SHAPE',
      `A student of '${teacher.name}' sees the images and tokens of its matrices: input ` +
        `[${teacher.input}] and pooling '${pooling(taught.classToken)}'; got [${input}] and ` +
        `'${pooling(anatomy.classToken)}'.`,
    )
  }
  const { tokens } = taught
  const blockSize = taught.heads * tokens * tokens
  const parameters = own.parameters.flatMap((parameter) => {
    const found = /^(.*\.attn)\.qkv\.(weight|bias)$/.exec(parameter.name)
    if (!found) return [parameter]
    return found[2] === 'weight' ? linearParameters(`${found[1]}.v`, width, width) : []
  })
  const { name } = own
  return defineModel({
    name: `${name} with attention of ${teacher.name}`,
    input: [pixels + depth * blockSize],
    output: [classes],
    parameters,
    config: { ...own.config, student: true },
    apply(p, x) {
      const B = x.shape[0]
      const images = ops.reshape(ops.slice(x, [0, 0], [B, pixels]), [B, ...input])
      const noise = new Noise(null, 0)
      let y = embed(images, p, config)
      for (let i = 0; i < depth; i++) {
        const matrices = ops.slice(x, [0, pixels + i * blockSize], [B, blockSize])
        const weights = ops.reshape(matrices, [B, taught.heads, tokens, tokens])
        const run = { name: `blocks.${i}`, noise, dropPath: 0 }
        y = branches(y, p, config, run, (normed) =>
          mixValues(normed, p, `blocks.${i}.attn`, weights),
        )
      }
      return linear(pooled(y, p, config), p, 'head')
    },
  })
}

/** proj(σ̂ v) for a teacher's weights [B, Ht, N, N]. */
function mixValues(x: Tensor, p: TensorMap, name: string, weights: Tensor): Tensor {
  const [B, N, width] = x.shape
  const taught = weights.shape[1]
  const each = width / taught
  // A student's heads that share weights are one product over their values side by side.
  const v = ops.reshape(linear(x, p, `${name}.v`), [B, N, taught, each])
  const mixed = ops.matmul(weights, ops.transpose(v, [0, 2, 1, 3]))
  const joined = ops.reshape(ops.transpose(mixed, [0, 2, 1, 3]), [B, N, width])
  return linear(joined, p, `${name}.proj`)
}
