import { argumentError, requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import type { DataSet } from '../data/dataset.js'
import { take } from '../data/select.js'
import type { Device } from '../device/device.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import { attentionAnatomy } from '../nn/attention/anatomy.js'
import type { Model } from '../nn/model.js'
import { requireOptions } from '../options.js'
import { AttentionReader, type BlockMatrices } from '../train/attention-reader.js'

export interface AttentionMatricesOptions {
  /** Rows of the data set. Default: the first 5. */
  readonly images?: readonly number[]
  /** Default: all. */
  readonly blocks?: readonly number[]
  /** Default 'f64'. */
  readonly precision?: 'f32' | 'f64'
  readonly signal?: AbortSignal
  /** After blocks: done, of all. */
  readonly onProgress?: (done: number, total: number) => void
}

const OPTIONS = ['images', 'blocks', 'precision', 'signal', 'onProgress'] as const

/**
 * The attention matrices of a vision transformer on some images, written out: for analysis only,
 * for they take B H N² numbers a block twice.
 *
 * @throws ERR_ARGUMENT for another model, or images and blocks that there are not; ERR_SHAPE,
 * ERR_ABORTED
 */
export async function attentionMatrices(
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  set: DataSet,
  options: AttentionMatricesOptions = {},
): Promise<BlockMatrices[]> {
  requireArguments('attentionMatrices()', { device, model, params, set })
  requireOptions('attentionMatrices()', options, OPTIONS)
  const { depth } = attentionAnatomy(model)
  const images = options.images ?? Array.from({ length: Math.min(5, set.size) }, (_, i) => i)
  const blocks = options.blocks ?? Array.from({ length: depth }, (_, i) => i)
  requireIndices('images', images, set.size)
  requireIndices('blocks', blocks, depth)
  return withProgress(options, async ({ signal, onProgress, precision = 'f64' }) => {
    const few = take(set, images)
    const reader = new AttentionReader(device, model, params, few, { blocks, precision })
    try {
      const inputs = await reader.queriesAndKeys(few, signal)
      const found: BlockMatrices[] = []
      for (const [i, block] of blocks.entries()) {
        throwIfAborted(signal)
        const matrices = await reader.matrices(block, inputs[i], signal)
        found.push({ block, images: [...images], ...matrices })
        onProgress?.(i + 1, blocks.length)
      }
      return found
    } finally {
      reader.dispose()
    }
  })
}

function requireIndices(name: string, list: readonly number[], count: number): void {
  const sound =
    Array.isArray(list) &&
    list.length > 0 &&
    list.every((i) => Number.isSafeInteger(i) && i >= 0 && i < count)
  if (sound) return
  throw argumentError(
    'attentionMatrices()',
    name,
    `a list of integers from 0 to ${count - 1}`,
    Array.isArray(list) ? `[${list.slice(0, 8).map(String)}]` : list,
  )
}

const isFloats = (list: unknown): list is Float32Array | Float64Array =>
  list instanceof Float32Array || list instanceof Float64Array

/**
 * Checks what {@link attentionMatrices} gave.
 * @returns N
 * @throws ERR_ARGUMENT, ERR_SHAPE
 */
export function requireMatrices(where: string, matrices: BlockMatrices): number {
  const { images, scores, weights, queries, keys, factors } = matrices ?? {}
  const sound =
    [images, factors].every((list) => Array.isArray(list) && list.length > 0) &&
    [scores, weights, queries, keys].every(isFloats) &&
    factors.every((f) => f === null || (isFloats(f?.z) && Number.isSafeInteger(f.r)))
  if (!sound) throw argumentError(where, 'matrices', 'a block of attentionMatrices()', matrices)
  const each = weights.length / (images.length * factors.length)
  const tokens = Math.round(Math.sqrt(each))
  const fits =
    tokens * tokens === each && scores.length === weights.length && queries.length === keys.length
  if (fits && Number.isInteger(queries.length / (images.length * factors.length * tokens))) {
    return tokens
  }
  throw new LosscapeError(
    'ERR_SHAPE',
    `${where}: ${weights.length} weights and ${scores.length} scores are no square matrices of ` +
      `${factors.length} heads for ${images.length} images.`,
  )
}
