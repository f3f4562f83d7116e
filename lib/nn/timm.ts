import { LosscapeError } from '../errors.js'
import type { Model } from './model.js'

/** Buffers of older checkpoints that follow from the configuration. */
const BUFFERS = /(^|\.)(relative_position_index|attn_mask|rel_indices)$/

/** What training scripts put before all names. */
const WRAPPERS = /^(module\.|model\.|_orig_mod\.)+/

/**
 * Tensors of a timm checkpoint under the names of our models: they are the same in timm today, but
 * for what wraps them (`module.`), buffers, and, in Swin checkpoints of before timm 0.9 and of the
 * authors, merging at the end of a stage (`layers.0.downsample`) and the head (`head.weight`).
 *
 * @throws ERR_ARGUMENT for a model that is no vit, convit or swin
 */
export function fromTimm<T>(model: Model, tensors: ReadonlyMap<string, T>): Map<string, T> {
  const family = model.name.split(':')[0]
  if (!['vit', 'convit', 'swin'].includes(family)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `timm's names are known for vit, convit and swin, not for '${model.name}'.`,
    )
  }
  const plain = [...tensors]
    .map(([name, tensor]): [string, T] => [name.replace(WRAPPERS, ''), tensor])
    .filter(([name]) => !BUFFERS.test(name))
  if (family !== 'swin') return new Map(plain)
  const early = plain.some(([name]) => name.startsWith('layers.0.downsample.'))
  return new Map(plain.map(([name, tensor]) => [swinName(name, early), tensor]))
}

function swinName(name: string, early: boolean): string {
  if (/^head\.(weight|bias)$/.test(name)) return name.replace('head.', 'head.fc.')
  const merging = /^layers\.(\d+)\.(downsample\..*)$/.exec(name)
  return early && merging ? `layers.${Number(merging[1]) + 1}.${merging[2]}` : name
}
