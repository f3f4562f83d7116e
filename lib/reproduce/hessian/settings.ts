import type { ReproduceRequest } from '../paper.js'

/** A blob data set and a network on it; centres uniform in [-10, 10]^d, jointly standardised. */
export interface Problem {
  /** N */
  readonly samples: number
  /** d */
  readonly dim: number
  /** Standard deviation of a blob before standardising. */
  readonly std: number
  readonly classes: number
  readonly hidden: readonly number[]
}

/** Every number of the experiments. Steps are of full-batch gradient descent where not said. */
export interface HessianSettings {
  /** Deviation of the normal start values of weights and biases. */
  readonly initStd: number
  readonly learningRate: number
  /** Eigenvalues by the dense path up to this n, by quadrature beyond. */
  readonly exactUpTo: number
  readonly quadrature: { readonly probes: number; readonly steps: number }
  /** Spectra at these steps, for each number of classes. */
  readonly classes: {
    readonly problem: Problem
    readonly counts: readonly number[]
    readonly checkpoints: readonly number[]
  }
  /** Spectra through one training, and layer by layer at its end. */
  readonly training: { readonly problem: Problem; readonly checkpoints: readonly number[] }
  /** `problem.classes` labels, given in turn to each number of clusters. */
  readonly clusters: {
    readonly problem: Problem
    readonly counts: readonly number[]
    readonly steps: number
  }
  /** Both hidden layers as wide as each of these. */
  readonly width: {
    readonly problem: Problem
    readonly widths: readonly number[]
    readonly steps: number
  }
  readonly separability: {
    readonly problem: Problem
    readonly stds: readonly number[]
    readonly steps: number
  }
  /** Large batches first, then small ones from where they ended; cyclic order. */
  readonly batch: {
    readonly problem: Problem
    readonly large: number
    readonly small: number
    /** Of each phase. */
    readonly steps: number
    readonly recordEvery: number
    /** After the switch the loss is recorded this often for `closeSteps`. */
    readonly closeEvery: number
    readonly closeSteps: number
    readonly linePoints: number
  }
  /** Width on real data; absent without `--data`. */
  readonly data?: {
    readonly spec: string
    readonly samples: number
    readonly widths: readonly number[]
    readonly steps: number
  }
}

const BASE: Problem = { samples: 400, dim: 20, std: 4, classes: 10, hidden: [20, 20] }

/** The small setting takes about three minutes with three seeds; `full` has more and larger. */
export function hessianSettings({ full, data }: ReproduceRequest): HessianSettings {
  return {
    initStd: 0.1,
    learningRate: 0.1,
    // Near the 1 % of λ_max that is counted, quadrature smears eigenvalues over the threshold.
    exactUpTo: full ? 7500 : 3000,
    quadrature: { probes: 10, steps: 100 },
    classes: {
      problem: BASE,
      counts: full ? [2, 3, 5, 7, 10, 15] : [2, 3, 5, 10],
      checkpoints: full ? [0, 300, 1000, 3000] : [0, 300, 1000],
    },
    training: {
      problem: { ...BASE, classes: 5 },
      checkpoints: [0, 10, 30, 100, 300, 1000, ...(full ? [3000, 10_000] : [])],
    },
    clusters: {
      problem: { ...BASE, classes: 2 },
      counts: full ? [2, 4, 6, 10, 14, 20] : [2, 4, 6, 10],
      steps: 1000,
    },
    width: { problem: BASE, widths: full ? [10, 20, 30, 50, 70] : [10, 20, 30], steps: 300 },
    separability: {
      problem: { ...BASE, classes: 5 },
      stds: full ? [1, 2, 3, 4, 6, 8, 10] : [2, 4, 6, 8, 10],
      steps: 1000,
    },
    batch: {
      problem: { samples: 1000, dim: 10, std: 9, classes: 5, hidden: [30, 30] },
      large: 500,
      small: 10,
      steps: full ? 25_000 : 5000,
      recordEvery: full ? 500 : 250,
      closeEvery: 10,
      closeSteps: 300,
      linePoints: 31,
    },
    ...(data !== undefined && {
      data: { spec: data, samples: 1000, widths: full ? [10, 30, 50, 70] : [10, 30], steps: 300 },
    }),
  }
}

/** What an experiment depends on: its own part and what all share. */
export function partOf(part: keyof HessianSettings): (settings: HessianSettings) => unknown {
  return ({ initStd, learningRate, exactUpTo, quadrature, ...settings }) => ({
    initStd,
    learningRate,
    exactUpTo,
    quadrature,
    part: settings[part as keyof typeof settings],
  })
}
