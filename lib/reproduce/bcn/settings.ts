import type { ReproduceRequest } from '../paper.js'
import type { StackSettings } from './initialization.js'

/** What is compared, by name of its experiment. */
export const VARIANTS = {
  bn: { label: 'BN', norm: 'bn', ws: false },
  gn: { label: 'GN', norm: 'gn', ws: false },
  gnWs: { label: 'GN+WS', norm: 'gn', ws: true },
  bcn: { label: 'BCN', norm: 'bcn', ws: false },
  bcnWs: { label: 'BCN+WS', norm: 'bcn', ws: true },
} as const

export type VariantName = keyof typeof VARIANTS
export const VARIANT_NAMES = Object.keys(VARIANTS) as VariantName[]

/** Every number of the experiments. */
export interface BcnSettings {
  /** Part A. */
  readonly stack: StackSettings
  readonly data: { readonly spec: string; readonly samples: number; readonly test: number }
  /** A residual network of three stages of width · (16, 32, 64) channels. */
  readonly network: { readonly depth: number; readonly width: number; readonly groups: number }
  /** SGD with momentum, cosine after a linear warm-up; the same images seen at both batches. */
  readonly training: {
    readonly epochs: number
    /** The large batch and the micro-batch. */
    readonly batch: number
    readonly micro: number
    /** Of the large batch; scaled by the size for the other. */
    readonly learningRate: number
    readonly momentum: number
    readonly weightDecay: number
    /** Share of the steps. */
    readonly warmup: number
    /** Of the estimates of BCN at the micro-batch. */
    readonly rate: number
  }
  readonly analysis: {
    /** Moments of the training that are looked at, the end among them. */
    readonly moments: number
    /** Test images whose channels are looked at. */
    readonly images: number
    /** η in units of the learning rate. */
    readonly steps: readonly number[]
    readonly hessianSamples: number
    readonly eigenvalues: number
    readonly quadrature: { readonly probes: number; readonly steps: number }
    readonly flatProbes: number
  }
}

/** The small setting takes some minutes on two cores; `full` is about 40 times the work. */
export function bcnSettings({ full, data }: ReproduceRequest): BcnSettings {
  return {
    stack: { depth: 20, channels: 64, groups: 4, images: 128, pixels: 16 },
    data: { spec: data ?? 'glyphs', samples: 10_000, test: full ? 2000 : 1000 },
    network: full ? { depth: 20, width: 1, groups: 4 } : { depth: 20, width: 0.5, groups: 4 },
    training: {
      epochs: full ? 10 : 1,
      batch: 64,
      micro: 1,
      learningRate: 0.1,
      momentum: 0.9,
      weightDecay: 1e-4,
      warmup: 0.05,
      rate: 0.05,
    },
    analysis: {
      moments: 4,
      images: full ? 500 : 200,
      steps: [0.5, 1, 2, 4],
      hessianSamples: full ? 500 : 100,
      eigenvalues: full ? 5 : 2,
      quadrature: full ? { probes: 5, steps: 60 } : { probes: 1, steps: 20 },
      flatProbes: 3,
    },
  }
}

/** What the training of a network depends on. */
export const trainingPart = ({ data, network, training }: BcnSettings): unknown => ({
  data,
  network,
  training,
})
