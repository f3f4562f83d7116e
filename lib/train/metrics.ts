/** One line of `metrics.jsonl`. */
export interface MetricsRow {
  /** Optimiser steps made so far. */
  readonly step: number
  /** Epochs done so far; fractional when a run ends within one. */
  readonly epoch: number
  /** 'test-ema': the test set under the moving average of the parameters. */
  readonly split: 'train' | 'test' | 'test-ema'
  /**
   * Mean over the samples. Training rows average the losses of the epoch's steps, each taken before
   * its update and with dropout on; test rows are of the parameters at that step.
   */
  readonly loss: number
  /** Share of right answers; null for regression. */
  readonly accuracy: number | null
  /** Learning rate of the last step. */
  readonly lr: number
}

/** Sums over the samples that an epoch has seen so far. */
export interface EpochSums {
  readonly loss: number
  readonly correct: number
  readonly samples: number
}

export const NO_SAMPLES: EpochSums = { loss: 0, correct: 0, samples: 0 }
