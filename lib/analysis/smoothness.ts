import { argumentError, requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import type { DataSet } from '../data/dataset.js'
import type { Device } from '../device/device.js'
import { LosscapeError } from '../errors.js'
import type { Model } from '../nn/model.js'
import { requireOptions } from '../options.js'
import { GRADIENT_OPTIONS, type GradientOptions, LossGradient } from './loss-gradient.js'

/** Where a training has been: θ, and σ of models with state. */
export interface TrainingPoint {
  readonly params: ArrayLike<number>
  readonly state?: ArrayLike<number>
}

export interface SmoothnessOptions extends GradientOptions {
  /** η: distances along the gradient in units of it, learning rates; positive, ascending. */
  readonly steps: ArrayLike<number>
  readonly signal?: AbortSignal
  /** After points: done, of all. */
  readonly onProgress?: (done: number, total: number) => void
}

/** How the loss behaves along its gradient g at one point; a number for every η. */
export interface Smoothness {
  /** L(θ) */
  readonly loss: number
  /** ‖g‖ */
  readonly gradientNorm: number
  readonly steps: Float64Array
  /** L(θ - η g) */
  readonly losses: Float64Array
  /** ‖g(θ - η g) - g‖: how badly the gradient predicts those ahead. */
  readonly predictiveness: Float64Array
  /** Largest minus smallest of L(θ) and all L(θ - η g): the variation of the loss. */
  readonly variation: number
  /** Effective β: largest ‖g(θ - η g) - g‖ / (η ‖g‖), the gradient's Lipschitz constant seen. */
  readonly beta: number
}

/**
 * The Lipschitz analysis along a training path: at each point, loss and gradient after steps of
 * several lengths against the gradient. One pass forward and backward over the set for every point
 * and step.
 *
 * With norms over the batch the loss of training is that with batch statistics, whose batches are
 * the chunks here: give the set as many samples as a training step had, or a multiple.
 *
 * Source: Santurkar et al. 2018, arXiv 1805.11604 (figure 4); effective β as defined there.
 *
 * @example
 * const path = await gradientSmoothness(device, model, checkpoints, batch, { steps: [0.01, 0.03, 0.1] })
 * path.map(({ beta }) => beta)
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE; ERR_NOT_FINITE where loss or gradient at a point itself is not
 * finite; ERR_ABORTED
 */
export async function gradientSmoothness(
  device: Device,
  model: Model,
  points: readonly TrainingPoint[],
  set: DataSet,
  options: SmoothnessOptions,
): Promise<Smoothness[]> {
  const where = 'gradientSmoothness()'
  requireArguments(where, { device, model, set })
  requireOptions(where, options, [...GRADIENT_OPTIONS, 'steps', 'signal', 'onProgress'])
  if (!Array.isArray(points) || points.length === 0) {
    throw argumentError(where, 'points', 'a list of { params, state }', points)
  }
  const steps = Float64Array.from(options.steps ?? [])
  const ascending = steps.every((eta, i) => eta > (steps[i - 1] ?? 0) && Number.isFinite(eta))
  if (steps.length === 0 || !ascending) {
    throw argumentError(where, 'steps', 'positive numbers, ascending', options.steps)
  }
  return withProgress(options, async (guarded) => {
    const gradient = new LossGradient(device, model, set, options)
    try {
      const found: Smoothness[] = []
      for (const point of points) {
        found.push(await smoothnessAt(gradient, point, steps, guarded.signal))
        guarded.onProgress?.(found.length, points.length)
      }
      return found
    } finally {
      gradient.dispose()
    }
  })
}

async function smoothnessAt(
  gradient: LossGradient,
  { params, state }: TrainingPoint,
  steps: Float64Array,
  signal: AbortSignal | undefined,
): Promise<Smoothness> {
  const start = await gradient.at(params, state, signal)
  const gradientNorm = norm(start.gradient)
  if (!Number.isFinite(start.loss) || !Number.isFinite(gradientNorm)) {
    throw new LosscapeError(
      'ERR_NOT_FINITE',
      `The loss at a point of the path is ${start.loss}, its gradient's norm ${gradientNorm}.`,
    )
  }
  const losses = new Float64Array(steps.length)
  const predictiveness = new Float64Array(steps.length)
  for (const [k, eta] of steps.entries()) {
    const moved = Float64Array.from(params, (x, i) => x - eta * start.gradient[i])
    const there = await gradient.at(moved, state, signal)
    losses[k] = there.loss
    predictiveness[k] = norm(there.gradient.map((g, i) => g - start.gradient[i]))
  }
  const all = [start.loss, ...losses]
  const slopes = Array.from(predictiveness, (d, k) => d / (steps[k] * gradientNorm))
  return {
    loss: start.loss,
    gradientNorm,
    steps,
    losses,
    predictiveness,
    variation: Math.max(...all) - Math.min(...all),
    beta: gradientNorm === 0 ? 0 : Math.max(...slopes),
  }
}

function norm(v: Float64Array): number {
  return Math.sqrt(v.reduce((sum, x) => sum + x * x, 0))
}
