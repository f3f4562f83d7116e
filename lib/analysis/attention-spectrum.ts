import { argumentError } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import { requireOptions } from '../options.js'
import type { BlockMatrices } from '../train/attention-reader.js'
import { requireMatrices } from './attention-matrices.js'
import { type HostMatrix, lowRankSingularValues, singularValues } from './singular-values.js'

/** Natural logarithms by index, over the matrices; -∞ where a singular value is 0. */
export interface LogValues {
  readonly min: Float64Array
  readonly mean: Float64Array
  readonly max: Float64Array
}

/** Singular values of the attention of one block. */
export interface AttentionSpectrum {
  readonly block: number
  /** Of the scores s q kᵀ: at most D of the N can differ from 0. */
  readonly scores: LogValues
  /** Of the weights. */
  readonly weights: LogValues
  /** Smallest and largest number of singular values of the weights above `tolerance` σ_1. */
  readonly rank: { readonly min: number; readonly max: number }
  /** Smallest and largest score. */
  readonly range: { readonly min: number; readonly max: number }
}

export interface AttentionSpectrumOptions {
  /** In units of σ_1. Default 1e-10, far above rounding in f64 and far below what matters. */
  readonly tolerance?: number
  /**
   * 'factors' (default): where scores or weights are products of thin factors, from those, exactly
   * and at the cost of r x r numbers. 'full': always from the N x N matrix.
   */
  readonly method?: 'factors' | 'full'
  readonly signal?: AbortSignal
  /** After matrices: done, of all. */
  readonly onProgress?: (done: number, total: number) => void
}

/**
 * Singular values of attention before and after its activation, index by index over all heads and
 * images: the logarithms of their minimum, mean and maximum. A learnable head with weights Z Wᵀ
 * has r of them; softmax has full rank in general.
 *
 * Source: arXiv 2503.10632 (v3), section 5: 3 heads, 5 images, last block.
 *
 * @throws ERR_ARGUMENT, ERR_NOT_FINITE, ERR_ABORTED
 *
 * @example
 * const [last] = await attentionMatrices(device, model, params, test, { blocks: [11] })
 * const { weights, rank } = await attentionSpectrum(last)
 */
export async function attentionSpectrum(
  matrices: BlockMatrices,
  options: AttentionSpectrumOptions = {},
): Promise<AttentionSpectrum> {
  const where = 'attentionSpectrum()'
  const tokens = requireMatrices(where, matrices)
  requireOptions(where, options, ['tolerance', 'method', 'signal', 'onProgress'])
  const { tolerance = 1e-10, method = 'factors' } = options
  if (!(typeof tolerance === 'number' && tolerance >= 0 && tolerance < 1)) {
    throw argumentError(where, 'tolerance', 'a number from 0 to 1', tolerance)
  }
  if (method !== 'factors' && method !== 'full') {
    throw argumentError(where, 'method', "'factors' or 'full'", method)
  }
  return withProgress(options, async ({ signal, onProgress }) => {
    const { images, factors, block } = matrices
    const heads = factors.length
    const total = images.length * heads
    const scores: Float64Array[] = []
    const weights: Float64Array[] = []
    for (let at = 0; at < total; at++) {
      const [image, head] = [Math.floor(at / heads), at % heads]
      const one = new HeadOf(matrices, image, head, tokens)
      scores.push(padded(await one.scoreValues(method, signal), tokens))
      weights.push(padded(await one.weightValues(method, signal), tokens))
      onProgress?.(at + 1, total)
    }
    const ranks = weights.map((values) => values.filter((x) => x > tolerance * values[0]).length)
    return {
      block,
      scores: logValues(scores),
      weights: logValues(weights),
      rank: { min: Math.min(...ranks), max: Math.max(...ranks) },
      range: extremes(matrices.scores),
    }
  })
}

/** One head on one image. */
class HeadOf {
  private readonly at: number
  private readonly heads: number

  constructor(
    private readonly matrices: BlockMatrices,
    private readonly image: number,
    private readonly head: number,
    private readonly tokens: number,
  ) {
    this.heads = matrices.factors.length
    this.at = image * this.heads + head
  }

  scoreValues(method: 'factors' | 'full', signal?: AbortSignal): Promise<Float64Array> {
    const { queries, keys } = this.matrices
    const D = queries.length / (this.matrices.images.length * this.heads * this.tokens)
    return method === 'full' || D >= this.tokens
      ? singularValues(this.square(this.matrices.scores), { signal })
      : lowRankSingularValues(this.rows(queries, D), this.rows(keys, D), { signal })
  }

  weightValues(method: 'factors' | 'full', signal?: AbortSignal): Promise<Float64Array> {
    const factors = this.matrices.factors[this.head]
    if (method === 'full' || !factors) {
      return singularValues(this.square(this.matrices.weights), { signal })
    }
    const { r, w, z } = factors
    const size = this.tokens * r
    const data = z.subarray(this.image * size, (this.image + 1) * size)
    return lowRankSingularValues({ rows: this.tokens, columns: r, data }, w, { signal })
  }

  private square(all: ArrayLike<number> & { subarray(a: number, b: number): ArrayLike<number> }) {
    const size = this.tokens * this.tokens
    const data = all.subarray(this.at * size, (this.at + 1) * size)
    return { rows: this.tokens, columns: this.tokens, data }
  }

  /** This head's rows of [images, N, H, D]. */
  private rows(all: ArrayLike<number>, D: number): HostMatrix {
    const { tokens, heads } = this
    const data = Float64Array.from({ length: tokens * D }, (_, i) => {
      const [n, d] = [Math.floor(i / D), i % D]
      return all[((this.image * tokens + n) * heads + this.head) * D + d]
    })
    return { rows: tokens, columns: D, data }
  }
}

function padded(values: Float64Array, length: number): Float64Array {
  const all = new Float64Array(length)
  all.set(values.subarray(0, length))
  return all
}

function logValues(lists: readonly Float64Array[]): LogValues {
  const by = (of: (values: number[]) => number): Float64Array =>
    lists[0].map((_, i) => Math.log(of(lists.map((values) => values[i]))))
  return {
    min: by((values) => Math.min(...values)),
    mean: by((values) => values.reduce((sum, x) => sum + x, 0) / values.length),
    max: by((values) => Math.max(...values)),
  }
}

function extremes(values: ArrayLike<number>): { min: number; max: number } {
  let [min, max] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (let i = 0; i < values.length; i++) {
    min = Math.min(min, values[i])
    max = Math.max(max, values[i])
  }
  return { min, max }
}
