import { measureFrom } from '../../analysis/decomposition.js'
import { exactSpectrum } from '../../curvature/dense.js'
import type { SpectralMeasure } from '../../curvature/measure.js'
import { type CurvatureOptions, gaussNewton, hessian, remainder } from '../../curvature/network.js'
import { slq } from '../../curvature/slq.js'
import type { DataSet } from '../../data/dataset.js'
import { blobs } from '../../data/synthetic/blobs.js'
import type { Device } from '../../device/device.js'
import { mlp } from '../../nn/mlp.js'
import type { Model } from '../../nn/model.js'
import { evaluate } from '../../train/evaluate.js'
import { train } from '../../train/train.js'
import type { ExperimentContext } from '../paper.js'
import type { HessianSettings, Problem } from './settings.js'

export type Context = ExperimentContext<HessianSettings>

/** A spectrum as plain JSON: all eigenvalues, ascending, or a quadrature measure. */
export type StoredSpectrum =
  | { readonly size: number; readonly values: readonly number[] }
  | {
      readonly size: number
      readonly nodes: readonly (readonly number[])[]
      readonly weights: readonly (readonly number[])[]
    }

const OPERATORS = { hessian, 'gauss-newton': gaussNewton, remainder } as const

export function blobSet(
  problem: Problem,
  seed: number,
  split: 'train' | 'test' = 'train',
): DataSet {
  const { samples: n, dim, std, classes } = problem
  return blobs({ n, dim, std, classes, seed, split })
}

/** The network of an experiment: ReLU, all start values N(0, initStd²). */
export function network(
  set: DataSet,
  hidden: readonly number[],
  { initStd }: HessianSettings,
): Model {
  return mlp({
    input: set.shape,
    hidden,
    classes: set.classes ?? 1,
    init: { kind: 'normal', std: initStd },
  })
}

/** θ after further steps of full-batch gradient descent. */
export async function descend(
  { device, settings, signal }: Context,
  model: Model,
  set: DataSet,
  params: ArrayLike<number>,
  steps: number,
): Promise<ArrayLike<number>> {
  if (steps === 0) return params
  const run = await train(device, model, set, {
    optimizer: { kind: 'gd', lr: settings.learningRate },
    steps,
    params,
    precision: 'f64',
    signal,
  })
  return run.params
}

/** Mean loss and accuracy in float64. */
export async function measure(
  { device, signal }: Context,
  model: Model,
  params: ArrayLike<number>,
  set: DataSet,
): Promise<{ loss: number; accuracy: number }> {
  const { loss, accuracy } = await evaluate(device, model, params, set, {
    precision: 'f64',
    signal,
  })
  return { loss: short(loss), accuracy: accuracy ?? Number.NaN }
}

/** Runs `body` with an operator of a network in float64. */
export async function withOperator<T>(
  kind: keyof typeof OPERATORS,
  device: Device,
  at: { model: Model; params: ArrayLike<number>; set: DataSet },
  options: CurvatureOptions,
  body: (operator: ReturnType<typeof hessian>) => Promise<T>,
): Promise<T> {
  const operator = OPERATORS[kind](device, at.model, at.params, at.set, {
    precision: 'f64',
    ...options,
  })
  try {
    return await body(operator)
  } finally {
    operator.dispose()
  }
}

/** The spectrum of the Hessian, or of the block of some parameters. */
export function hessianSpectrum(
  { device, settings, signal, seed }: Context,
  at: { model: Model; params: ArrayLike<number>; set: DataSet },
  params?: string,
): Promise<StoredSpectrum> {
  const block = params === undefined ? {} : { params }
  return withOperator('hessian', device, at, block, async (operator) => {
    if (operator.size <= settings.exactUpTo) {
      const { values } = await exactSpectrum(operator, { signal })
      return { size: operator.size, values: Array.from(values, short) }
    }
    const { nodes, weights } = await slq(operator, { ...settings.quadrature, seed, signal })
    return {
      size: operator.size,
      nodes: nodes.map((row) => Array.from(row, short)),
      weights: weights.map((row) => Array.from(row, short)),
    }
  })
}

export function measureOf(spectrum: StoredSpectrum): SpectralMeasure {
  return 'values' in spectrum ? measureFrom(spectrum.values) : spectrum
}

/** Eight digits are more than any picture or verdict needs. */
export function short(value: number): number {
  return Number.isFinite(value) ? Number(value.toPrecision(8)) : value
}
