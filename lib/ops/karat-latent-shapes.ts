import { LosscapeError } from '../errors.js'
import { sameShape } from '../program/shape.js'
import {
  type Attributes,
  formatType,
  isFloat,
  type Shape,
  type TensorType,
} from '../program/types.js'
import { countFeatures } from './karat-bases.js'

/** B samples, E sets of coefficients, H heads, N queries, M keys, D width, J features, r latent. */
export interface KaratSizes {
  readonly batch: number
  readonly sets: number
  readonly heads: number
  readonly queries: number
  readonly keys: number
  readonly width: number
  readonly features: number
  readonly latent: number
  readonly tokensFirst: boolean
}

/** Operands q, k, coefficients [, mask], which every operation of the family begins with. */
export function headCount(attributes: Attributes): number {
  return attributes.masked === 1 ? 4 : 3
}

export const latentShape = ({ batch, heads, queries, latent }: KaratSizes): number[] => [
  batch,
  heads,
  queries,
  latent,
]

function fail(code: 'ERR_SHAPE' | 'ERR_DTYPE', name: string, wanted: string, got: string): never {
  throw new LosscapeError(code, `'${name}' expected ${wanted}, got ${got}.`)
}

/** Checks the head operands. Throws ERR_SHAPE or ERR_DTYPE. */
export function karatSizes(
  name: string,
  inputs: readonly TensorType[],
  attributes: Attributes,
): KaratSizes {
  const [q, k, c, mask] = inputs
  const tokensFirst = attributes.layout === 'bnhd'
  const form = tokensFirst ? '[B, N, H, D]' : '[B, H, N, D]'
  for (const [what, type, rank] of [
    ['q', q, 4],
    ['k', k, 4],
    ['coefficients', c, 5],
  ] as const) {
    if (!isFloat(type.dtype) || type.dtype !== q.dtype) {
      fail(
        'ERR_DTYPE',
        name,
        'q, k and coefficients of one floating-point dtype',
        `${formatType(type)} for ${what}`,
      )
    }
    if (type.shape.length !== rank) {
      const wanted = rank === 4 ? form : '[E, H, J, M, r]'
      fail('ERR_SHAPE', name, `${what} ${wanted}`, formatType(type))
    }
  }
  const [head, token] = tokensFirst ? [2, 1] : [1, 2]
  const [batch, heads, queries, keys, width] = [
    q.shape[0],
    q.shape[head],
    q.shape[token],
    k.shape[token],
    q.shape[3],
  ]
  const kShape = tokensFirst ? [batch, keys, heads, width] : [batch, heads, keys, width]
  if (!sameShape(k.shape, kShape)) {
    fail('ERR_SHAPE', name, `k ${form} like q [${q.shape}] in all but its tokens`, formatType(k))
  }
  const [sets, , , , latent] = c.shape
  const features = countFeatures(attributes)
  if (!sameShape(c.shape, [sets, heads, features, keys, latent])) {
    fail(
      'ERR_SHAPE',
      name,
      `coefficients [E, H, J, M, r] with H ${heads}, J ${features} (features of the basis and base) and M ${keys} (keys)`,
      formatType(c),
    )
  }
  if (latent < 1 || width < 1) {
    fail('ERR_SHAPE', name, 'a width D and a latent size r of 1 or more', `D ${width}, r ${latent}`)
  }
  if (sets < 1 || batch % sets !== 0) {
    fail('ERR_SHAPE', name, `a number E of coefficient sets that divides B ${batch}`, `${sets}`)
  }
  if (attributes.masked === 1) {
    if (isFloat(mask.dtype)) fail('ERR_DTYPE', name, 'a key mask of u8 or i32', formatType(mask))
    if (!sameShape(mask.shape, [batch, keys])) {
      fail('ERR_SHAPE', name, `a key mask [B, M], that is [${batch}, ${keys}]`, formatType(mask))
    }
  }
  return { batch, sets, heads, queries, keys, width, features, latent, tokensFirst }
}

/** Checks that operands have a leading R and then the shapes of `like`. Returns R. */
export function tangentCount(
  name: string,
  tangents: readonly TensorType[],
  like: readonly Shape[],
): number {
  const count = tangents[0].shape[0]
  for (const [i, type] of tangents.entries()) {
    if (!sameShape(type.shape, [count, ...like[i]])) {
      fail('ERR_SHAPE', name, `a tangent [R, ${like[i]}]`, formatType(type))
    }
  }
  return count
}
