import { LosscapeError } from '../errors.js'
import { elements, sameShape } from '../program/shape.js'
import {
  type Attributes,
  formatType,
  isFloat,
  type Shape,
  type TensorType,
} from '../program/types.js'

/**
 * Sizes of an attention: B batches (all leading axes together), H heads, N queries, M keys, D and E
 * widths of keys and values.
 */
export interface AttentionSizes {
  readonly lead: Shape
  readonly batch: number
  readonly heads: number
  readonly queries: number
  readonly keys: number
  readonly width: number
  readonly valueWidth: number
  readonly tokensFirst: boolean
}

/** Operands q, k, v [, bias] [, mask], which every operation of the family begins with. */
export function headCount(attributes: Attributes): number {
  return 3 + (attributes.bias as number) + (attributes.mask as number)
}

/** The shape of `tokens` tokens of `size` numbers in every head. */
export function tokenShape(sizes: AttentionSizes, tokens: number, size: number): number[] {
  const { lead, heads, tokensFirst } = sizes
  return tokensFirst ? [...lead, tokens, heads, size] : [...lead, heads, tokens, size]
}

export const lineShape = ({ lead, heads, queries }: AttentionSizes): number[] => [
  ...lead,
  heads,
  queries,
]

/** Checks the operands of the head. Throws ERR_SHAPE or ERR_DTYPE. */
export function attentionSizes(
  name: string,
  inputs: readonly TensorType[],
  attributes: Attributes,
): AttentionSizes {
  const [q, k, v] = inputs
  const tokensFirst = attributes.layout === 'bnhd'
  const form = tokensFirst ? '[B, N, H, D]' : '[B, H, N, D]'
  for (const [i, x] of [q, k, v].entries()) {
    const letter = 'qkv'[i]
    if (!isFloat(x.dtype) || x.dtype !== q.dtype) {
      throw new LosscapeError(
        'ERR_DTYPE',
        `'${name}' expected q, k and v of one floating-point dtype, got ${formatType(x)} for ${letter}.`,
      )
    }
    if (x.shape.length < 3 || x.shape.length !== q.shape.length) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `'${name}' expected ${form} for q, k and v alike, got ${formatType(x)} for ${letter}.`,
      )
    }
  }
  const rank = q.shape.length
  const [head, token] = tokensFirst ? [rank - 2, rank - 3] : [rank - 3, rank - 2]
  const lead = q.shape.slice(0, -3)
  const sizes: AttentionSizes = {
    lead,
    batch: elements(lead),
    heads: q.shape[head],
    queries: q.shape[token],
    keys: k.shape[token],
    width: q.shape[rank - 1],
    valueWidth: v.shape[rank - 1],
    tokensFirst,
  }
  const { keys, width, valueWidth } = sizes
  expectShape(name, `k ${form} like q but for N`, k, tokenShape(sizes, keys, width))
  expectShape(name, `v ${form} like k but for D`, v, tokenShape(sizes, keys, valueWidth))
  if (attributes.bias === 1) checkBias(name, inputs[3], q, sizes)
  if (attributes.mask === 1) checkMask(name, inputs[headCount(attributes) - 1], sizes)
  return sizes
}

function checkBias(name: string, bias: TensorType, q: TensorType, sizes: AttentionSizes): void {
  const { lead, heads, queries, keys } = sizes
  const full = [...lead, heads, queries, keys]
  const shared = full.length - 2
  const fits =
    bias.shape.length === full.length &&
    bias.shape.every((d, i) => d === full[i] || (d === 1 && i < shared))
  if (bias.dtype !== q.dtype || !fits) {
    throw new LosscapeError(
      bias.dtype === q.dtype ? 'ERR_SHAPE' : 'ERR_DTYPE',
      `'${name}' expected a bias [B or 1, H or 1, N, M] that fits ${q.dtype}[${full}], got ${formatType(bias)}.`,
    )
  }
}

function checkMask(name: string, mask: TensorType, { lead, keys }: AttentionSizes): void {
  if (mask.dtype !== 'u8' && mask.dtype !== 'i32') {
    throw new LosscapeError(
      'ERR_DTYPE',
      `'${name}' expected a key mask of u8 or i32 (nonzero: the key takes part), got ${formatType(mask)}.`,
    )
  }
  expectShape(name, 'a key mask [B, M]', mask, [...lead, keys])
}

/** Throws ERR_SHAPE when a type does not have the shape. */
export function expectShape(name: string, what: string, type: TensorType, shape: Shape): void {
  if (sameShape(type.shape, shape)) return
  throw new LosscapeError(
    'ERR_SHAPE',
    `'${name}' expected ${what}, that is [${shape}], got ${formatType(type)}.`,
  )
}

/** The axes that the tangents of q have before its own. */
export function tangentAxes(q: TensorType, qDot: TensorType): number[] {
  return qDot.shape.slice(0, qDot.shape.length - q.shape.length)
}
