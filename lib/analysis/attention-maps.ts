import { argumentError } from '../arguments.js'
import type { AttentionAnatomy } from '../nn/attention/anatomy.js'
import { requireOptions } from '../options.js'
import type { BlockMatrices } from '../train/attention-reader.js'
import { requireMatrices } from './attention-matrices.js'

export interface AttentionMapOptions {
  /**
   * 'weights' as they are, 'scores' before the activation, or 'clamped': weights with negative ones
   * set to 0. Default: 'weights' for softmax heads, 'scores' for learnable ones, whose weights have
   * signs and no fixed sum.
   */
  readonly kind?: 'weights' | 'scores' | 'clamped'
  /** Share of a map's positive mass that its mask keeps. Default 0.6, as in DINO. */
  readonly mass?: number
}

/** The attention of the class token over the patches of one image, one map a head. */
export interface AttentionMap {
  /** Row of the data set. */
  readonly image: number
  readonly head: number
  readonly kind: 'weights' | 'scores' | 'clamped'
  /** Rows and columns of patches. */
  readonly grid: readonly [rows: number, columns: number]
  /** Row-major; as the model has them, not normalised. */
  readonly values: Float64Array
  /** 1 where a patch belongs to the fewest that hold `mass` of the map. */
  readonly mask: Uint8Array
}

/**
 * The class token's row of attention as maps over the patches; without a class token the mean over
 * all rows. Masks are taken of the map minus its minimum, for scores have signs too.
 *
 * Source: arXiv 2503.10632 (v3); masks as in Caron et al. 2021, arXiv 2104.14294.
 *
 * @throws ERR_ARGUMENT
 *
 * @example
 * const anatomy = attentionAnatomy(model)
 * const [last] = await attentionMatrices(device, model, params, test, { blocks: [11] })
 * const maps = attentionMaps(last, anatomy)
 */
export function attentionMaps(
  matrices: BlockMatrices,
  anatomy: AttentionAnatomy,
  options: AttentionMapOptions = {},
): AttentionMap[] {
  const where = 'attentionMaps()'
  const tokens = requireMatrices(where, matrices)
  const groups: unknown = anatomy?.attention?.groups
  const sound =
    Array.isArray(groups) &&
    groups.every((group) => Array.isArray(group?.heads)) &&
    Array.isArray(anatomy.grid) &&
    anatomy.tokens === tokens &&
    anatomy.heads === matrices.factors.length
  if (!sound) {
    throw argumentError(
      where,
      'anatomy',
      "what attentionAnatomy() tells of the block's model",
      anatomy,
    )
  }
  requireOptions(where, options, ['kind', 'mass'])
  const { kind, mass = 0.6 } = options
  if (kind !== undefined && !['weights', 'scores', 'clamped'].includes(kind)) {
    throw argumentError(where, 'kind', "'weights', 'scores' or 'clamped'", kind)
  }
  if (!(typeof mass === 'number' && mass > 0 && mass <= 1)) {
    throw argumentError(where, 'mass', 'a number above 0, at most 1', mass)
  }
  const { heads, grid, attention } = anatomy
  const softmax = new Set(
    attention.groups.flatMap((group) => (group.setting ? [] : [...group.heads])),
  )
  return matrices.images.flatMap((image, place) =>
    Array.from({ length: heads }, (_, head) => {
      const shown = kind ?? (softmax.has(head) ? 'weights' : 'scores')
      const values = rowOf(matrices, anatomy, shown, place * heads + head)
      return { image, head, kind: shown, grid, values, mask: topMass(values, mass) }
    }),
  )
}

function rowOf(
  { scores, weights }: BlockMatrices,
  { tokens, classToken }: AttentionAnatomy,
  kind: AttentionMap['kind'],
  at: number,
): Float64Array {
  const all = kind === 'scores' ? scores : weights
  const first = classToken ? 1 : 0
  const rows = classToken ? 1 : tokens
  const from = at * tokens * tokens
  return Float64Array.from({ length: tokens - first }, (_, j) => {
    let sum = 0
    for (let n = 0; n < rows; n++) sum += all[from + n * tokens + first + j]
    return kind === 'clamped' ? Math.max(0, sum / rows) : sum / rows
  })
}

/** 1 for the fewest largest values whose sum above the minimum reaches `mass` of all. */
export function topMass(values: ArrayLike<number>, mass: number): Uint8Array {
  const list = Float64Array.from(values)
  const low = list.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY)
  const total = list.reduce((sum, x) => sum + (x - low), 0)
  const order = Array.from(list, (_, i) => i).sort((a, b) => list[b] - list[a])
  const mask = new Uint8Array(list.length)
  let sum = 0
  for (const i of order) {
    if (sum >= mass * total) break
    mask[i] = 1
    sum += list[i] - low
  }
  return mask
}
