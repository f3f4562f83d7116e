import { permutation, stream } from '../random/index.js'

export interface OrderOptions {
  /** N */
  readonly samples: number
  /** B */
  readonly batch: number
  readonly seed: number
  readonly shuffle: boolean
  readonly dropLast: boolean
  /** An epoch leaves out what does not fill a part of this many samples. Default 1. */
  readonly whole?: number
}

/** Rows and weights of consecutive steps, [steps * batch] each. */
export interface StepRows {
  readonly rows: Int32Array
  readonly weights: Float32Array
}

/**
 * Which samples a step sees: a pure function of the step, so that a resumed run goes on in the same
 * order. Epoch e has the order permutation(seed, stream('shuffle', e), N); its last batch is padded
 * with weight 0, or dropped.
 */
export class SampleOrder {
  readonly stepsPerEpoch: number
  /** Samples that an epoch sees. */
  readonly samplesPerEpoch: number
  private cached: { epoch: number; order: Uint32Array } | null = null

  constructor(private readonly options: OrderOptions) {
    const { samples, batch, dropLast, whole = 1 } = options
    const used = Math.floor(samples / whole) * whole
    this.stepsPerEpoch = dropLast ? Math.floor(used / batch) : Math.ceil(used / batch)
    this.samplesPerEpoch = dropLast ? this.stepsPerEpoch * batch : used
  }

  /** Samples of weight 1 in a step. */
  samplesOf(step: number): number {
    const { batch } = this.options
    return Math.min(batch, this.samplesPerEpoch - (step % this.stepsPerEpoch) * batch)
  }

  /** Weights of steps [from, to): 1 for samples, 0 for padding. */
  weights(from: number, to: number): Float32Array {
    const { batch } = this.options
    const weights = new Float32Array((to - from) * batch)
    for (let step = from; step < to; step++) {
      const at = (step - from) * batch
      weights.fill(1, at, at + this.samplesOf(step))
    }
    return weights
  }

  /** Rows and weights of steps [from, to). */
  rows(from: number, to: number): StepRows {
    const { batch } = this.options
    const rows = new Int32Array((to - from) * batch)
    for (let step = from; step < to; step++) {
      const order = this.orderOf(Math.floor(step / this.stepsPerEpoch))
      const begin = (step % this.stepsPerEpoch) * batch
      const at = (step - from) * batch
      const count = this.samplesOf(step)
      rows.set(order.subarray(begin, begin + count), at)
    }
    return { rows, weights: this.weights(from, to) }
  }

  private orderOf(epoch: number): Uint32Array {
    const { seed, samples, shuffle } = this.options
    const wanted = shuffle ? epoch : 0
    if (this.cached?.epoch !== wanted) {
      const order = shuffle
        ? permutation(seed, stream('shuffle', epoch), samples)
        : Uint32Array.from({ length: samples }, (_, i) => i)
      this.cached = { epoch: wanted, order }
    }
    return this.cached.order
  }
}
