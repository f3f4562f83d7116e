import { LosscapeError } from '../../errors.js'

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
export function karatActivationFlops({ G, r, heads, tokens, depth }: KaratSize): number {
  requireCounts({ G, r, heads, tokens, depth })
  return (3 * G + 1) * tokens ** 2 * r * heads * depth
}

/**
 * (2 G + 1) N r h a set of functions, or (2 G + 3) N r h with edge scales; times L unless universal.
 * Order 'w-phi', Fourier basis, no latent bias.
 *
 * @throws ERR_ARGUMENT unless all are positive integers
 */
export function karatParameterCount(
  { G, r, heads, tokens, depth }: KaratSize,
  options: { readonly edgeScales?: boolean; readonly universal?: boolean } = {},
): number {
  requireCounts({ G, r, heads, tokens, depth })
  const perEdge = 2 * G + (options.edgeScales ? 3 : 1)
  return perEdge * tokens * r * heads * (options.universal ? 1 : depth)
}

function requireCounts(sizes: object): void {
  for (const [name, value] of Object.entries(sizes)) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `Expected ${name} to be a positive integer, got ${String(value)}.`,
      )
    }
  }
}
