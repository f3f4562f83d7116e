import { argumentError } from '../../arguments.js'
import { requireOptions } from '../../options.js'

/** What {@link karatActivationFlops} counts for. */
export interface KaratSize {
  /** Harmonics. */
  readonly G: number
  /** Latent dimension. */
  readonly r: number
  readonly heads: number
  /** N */
  readonly tokens: number
  /** L, blocks with learnable attention. */
  readonly depth: number
}

/**
 * (3 G + 1) N² r h L: operations per image from scores to weights as the paper's cost table counts
 * them (a multiply-add is one), 3 a harmonic and edge and one for W. It is the cost of its
 * materialised evaluation; O = Z (Wᵀ V) needs less.
 *
 * @throws ERR_ARGUMENT unless all are positive integers
 */
export function karatActivationFlops(size: KaratSize): number {
  const { G, r, heads, tokens, depth } = checked('karatActivationFlops()', size)
  return (3 * G + 1) * tokens ** 2 * r * heads * depth
}

/**
 * (2 G + 1) N r h a set of functions, or (2 G + 3) N r h with edge scales; times L unless universal.
 * Order 'w-phi', Fourier basis, no latent bias.
 *
 * @throws ERR_ARGUMENT unless all are positive integers
 */
export function karatParameterCount(
  size: KaratSize,
  options: { readonly edgeScales?: boolean; readonly universal?: boolean } = {},
): number {
  const { G, r, heads, tokens, depth } = checked('karatParameterCount()', size)
  requireOptions('karatParameterCount()', options, ['edgeScales', 'universal'])
  const perEdge = 2 * G + (options.edgeScales ? 3 : 1)
  return perEdge * tokens * r * heads * (options.universal ? 1 : depth)
}

function checked(where: string, size: KaratSize): KaratSize {
  const names = ['G', 'r', 'heads', 'tokens', 'depth'] as const
  requireOptions(where, size, names)
  for (const name of names) {
    const value = size[name]
    if (!Number.isSafeInteger(value) || value < 1) {
      throw argumentError(where, name, 'a positive integer', value)
    }
  }
  return size
}
