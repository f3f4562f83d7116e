import { requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import type { DataSet } from '../data/dataset.js'
import type { Device } from '../device/device.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import { resolveStatistics } from '../nn/batch.js'
import type { LossSpec } from '../nn/loss.js'
import type { Model, StatisticsMode } from '../nn/model.js'
import { type DeviceParameters, uploadParameters, uploadState } from '../nn/upload.js'
import { requireOptions } from '../options.js'
import { Evaluator } from '../train/evaluate.js'

export interface LineOptions {
  /** Ends in units of θ_B - θ_A. Default 0 and 1. */
  readonly from?: number
  readonly to?: number
  /** Points from end to end. Default 21. */
  readonly points?: number
  /** Default 'cross-entropy' for labels, 'mse' for values. */
  readonly loss?: LossSpec
  /** Samples per chunk. Default 1024, at most the data set. */
  readonly batch?: number
  /** Default 'f32'. */
  readonly precision?: 'f32' | 'f64'
  /** State σ of the model, the same at every point. Default `model.initState()`. */
  readonly state?: ArrayLike<number>
  /**
   * Statistics of normalisation, to be chosen for models that couple samples: of the state, or of
   * each `batch`, which then must divide the samples.
   */
  readonly statistics?: StatisticsMode
  readonly signal?: AbortSignal
  /** After points: done, of all. */
  readonly onProgress?: (done: number, total: number) => void
}

export interface LinePath {
  /** Positions α, ascending; 0 and 1 are among them. */
  readonly alpha: Float64Array
  /** Mean loss at (1 - α) θ_A + α θ_B. */
  readonly loss: Float64Array
  /** Share of right answers; null for regression. */
  readonly accuracy: Float64Array | null
  /**
   * Largest height of the loss over the chord (1 - α) L(θ_A) + α L(θ_B), over α in [0, 1]; 0 when
   * the line stays below it.
   */
  readonly barrier: number
  /** Where it is. */
  readonly barrierAt: number
  /** Largest loss over α in [0, 1]. */
  readonly maximum: number
}

/**
 * Loss and accuracy along the straight line between two parameter vectors of one model, evaluated
 * natively off the event loop, one pass over the set a point.
 *
 * Source: Goodfellow, Vinyals, Saxe 2015; the barrier as in Frankle et al. 2020.
 *
 * @example
 * const { barrier } = await linePath(device, model, large.params, small.params, set, { points: 41 })
 *
 * @throws ERR_SHAPE, ERR_ARGUMENT, ERR_NOT_FINITE, ERR_ABORTED
 */
export async function linePath(
  device: Device,
  model: Model,
  thetaA: ArrayLike<number>,
  thetaB: ArrayLike<number>,
  set: DataSet,
  options: LineOptions = {},
): Promise<LinePath> {
  requireOptions('linePath()', options, [
    ...(['from', 'to', 'points', 'loss', 'batch', 'precision', 'signal', 'onProgress'] as const),
    ...(['state', 'statistics'] as const),
  ])
  if (options.state !== undefined) requireArguments('linePath()', { state: options.state })
  requireArguments('linePath()', { device, model, set })
  for (const params of [thetaA, thetaB]) requireArguments('linePath()', { params })
  return withProgress(options, (guarded) => along(device, model, thetaA, thetaB, set, guarded))
}

async function along(
  device: Device,
  model: Model,
  thetaA: ArrayLike<number>,
  thetaB: ArrayLike<number>,
  set: DataSet,
  options: LineOptions,
): Promise<LinePath> {
  const { loss, batch, precision = 'f32', signal, onProgress } = options
  model.layout.requireLength(thetaA.length)
  model.layout.requireLength(thetaB.length)
  const alpha = positions(options)
  const losses = new Float64Array(alpha.length)
  const accuracy = new Float64Array(alpha.length)
  const statistics = resolveStatistics(model, options.statistics)
  const evaluator = new Evaluator(device, model, set, { loss, batch, precision, statistics })
  let sigma: DeviceParameters | null = null
  try {
    sigma = uploadState(device, model, options.state, precision)
    const fixed = sigma?.views ?? []
    for (const [k, a] of alpha.entries()) {
      throwIfAborted(signal)
      const point = Float64Array.from(thetaA, (x, i) => (1 - a) * x + a * thetaB[i])
      const theta = uploadParameters(device, model.layout, point, precision)
      try {
        const result = await evaluator.run([...theta.views, ...fixed], signal)
        if (!Number.isFinite(result.loss)) {
          throw new LosscapeError(
            'ERR_NOT_FINITE',
            `The loss on the line is ${result.loss} at α = ${a}.`,
          )
        }
        losses[k] = result.loss
        accuracy[k] = result.accuracy ?? Number.NaN
      } finally {
        theta.buffer.dispose()
      }
      onProgress?.(k + 1, alpha.length)
    }
  } finally {
    sigma?.buffer.dispose()
    evaluator.dispose()
  }
  const labels = !accuracy.some(Number.isNaN)
  return { alpha, loss: losses, accuracy: labels ? accuracy : null, ...barrierOf(alpha, losses) }
}

/** Equally spaced, with 0 and 1 put in where they fall between. */
function positions({ from = 0, to = 1, points = 21 }: LineOptions): Float64Array {
  if (!Number.isInteger(points) || points < 2) {
    throw new LosscapeError('ERR_ARGUMENT', `A line needs at least 2 points, got ${points}.`)
  }
  if (!(Number.isFinite(from) && Number.isFinite(to) && from < to)) {
    throw new LosscapeError('ERR_ARGUMENT', `A line runs from < to, got from ${from} to ${to}.`)
  }
  const even = Array.from({ length: points }, (_, k) => from + ((to - from) * k) / (points - 1))
  return Float64Array.from(new Set([0, 1, ...even])).sort()
}

/** @param alpha with 0 and 1 among them */
function barrierOf(
  alpha: Float64Array,
  loss: Float64Array,
): Pick<LinePath, 'barrier' | 'barrierAt' | 'maximum'> {
  const start = loss[alpha.indexOf(0)]
  const end = loss[alpha.indexOf(1)]
  let best = { barrier: 0, barrierAt: 0, maximum: Math.max(start, end) }
  for (const [k, a] of alpha.entries()) {
    if (a < 0 || a > 1) continue
    const height = loss[k] - ((1 - a) * start + a * end)
    const maximum = Math.max(best.maximum, loss[k])
    best = height > best.barrier ? { barrier: height, barrierAt: a, maximum } : { ...best, maximum }
  }
  return best
}
