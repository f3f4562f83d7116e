import type { ReproduceRequest } from '../paper.js'

/** What is compared, by name of its experiment. */
export const VARIANTS = {
  softmax: { attention: 'softmax', label: 'softmax' },
  g1b: { attention: 'karat:G1B', label: 'G1B' },
  g3b: { attention: 'karat:G3B', label: 'G3B' },
  g3u: { attention: 'karat:G3U', label: 'G3U' },
  g3bLatent: { attention: 'karat:G3B,project-latent', label: 'G3B, latents projected' },
  g3bOutput: { attention: 'karat:G3B,project-output', label: 'G3B, rows projected' },
  g11b: { attention: 'karat:G11B', label: 'G11B' },
} as const

export type VariantName = keyof typeof VARIANTS
export const VARIANT_NAMES = Object.keys(VARIANTS) as VariantName[]

/** Every number of the experiments. */
export interface KaratSettings {
  readonly data: { readonly spec: string; readonly samples: number; readonly test: number }
  readonly network: {
    readonly width: number
    readonly depth: number
    readonly heads: number
    /** r */
    readonly rank: number
  }
  /** AdamW, cosine after a linear warm-up. */
  readonly training: {
    readonly epochs: number
    readonly batch: number
    readonly learningRate: number
    readonly weightDecay: number
    readonly clipNorm: number
    /** Steps. */
    readonly warmup: number
  }
  readonly analysis: {
    /** Whose spectra of attention are taken. */
    readonly images: number
    /** Variants whose surface and Hessian are computed. */
    readonly landscape: readonly VariantName[]
    readonly grid: number
    readonly surfaceSamples: number
    readonly hessianSamples: number
    readonly eigenvalues: number
    readonly quadrature: { readonly probes: number; readonly steps: number }
  }
  /** One layer, forward and backward; the first of `sizes` is what the others are compared with. */
  readonly memory: {
    readonly batch: number
    readonly tokens: number
    readonly heads: number
    readonly headWidth: number
    readonly sizes: readonly { readonly G: number; readonly r: number }[]
  }
}

/** The small setting takes some minutes a seed; `full` is 20 times the work. */
export function karatSettings({ full, data }: ReproduceRequest): KaratSettings {
  return {
    data: { spec: data ?? 'glyphs', samples: full ? 10_000 : 2000, test: full ? 2000 : 1000 },
    network: full
      ? { width: 96, depth: 4, heads: 3, rank: 12 }
      : { width: 48, depth: 2, heads: 3, rank: 12 },
    training: {
      epochs: full ? 10 : 8,
      batch: full ? 64 : 32,
      learningRate: full ? 1e-3 : 2e-3,
      weightDecay: 0.05,
      clipNorm: 1,
      warmup: full ? 100 : 20,
    },
    analysis: {
      images: 5,
      landscape: full ? ['softmax', 'g1b', 'g3b', 'g3u', 'g11b'] : ['softmax', 'g3b'],
      grid: full ? 25 : 13,
      surfaceSamples: full ? 500 : 200,
      hessianSamples: full ? 500 : 100,
      eigenvalues: full ? 5 : 3,
      quadrature: full ? { probes: 5, steps: 60 } : { probes: 1, steps: 30 },
    },
    memory: {
      batch: 64,
      tokens: 197,
      heads: 3,
      headWidth: 64,
      sizes: [
        { G: 1, r: 2 },
        { G: 1, r: 12 },
        { G: 3, r: 12 },
        { G: 11, r: 12 },
        { G: 11, r: 24 },
      ],
    },
  }
}

/** What the training of a network depends on. */
export const trainingPart = ({ data, network, training }: KaratSettings): unknown => ({
  data,
  network,
  training,
})
