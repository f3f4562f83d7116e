import { existsSync } from 'node:fs'
import {
  type DataSet,
  labelNoise,
  load,
  type Split,
  subset,
  withNormalization,
  withSize,
} from '../data/index.js'
import { LosscapeError } from '../errors.js'
import type { FloatVector } from '../nn/layout.js'
import type { LossSpec } from '../nn/loss.js'
import type { RunConfig, RunFolder } from '../train/run-folder.js'
import { fromFlags, UsageError } from './exit.js'
import { shellWord } from './options.js'

/** What `losscape train` records of its data in `config.json`. */
export interface RunData {
  readonly [option: string]: unknown
  readonly spec: string
  readonly limit?: number
  readonly labelNoise?: number
  /** Height and width that the model sees, and how evaluation gets there. */
  readonly size?: number
  readonly cropRatio?: number
  readonly interpolation?: 'bilinear' | 'bicubic'
}

/** Images in the size that the model sees. */
export function sized(
  set: DataSet,
  { size, cropRatio, interpolation }: Pick<RunData, 'size' | 'cropRatio' | 'interpolation'>,
): DataSet {
  return size === undefined ? set : withSize(set, size, { cropRatio, interpolation })
}

export interface RunDataRequest {
  split: Split
  /** Another data set than the run's, in the run's normalization. */
  spec?: string
  /** At most so many samples, the first in file order. */
  samples?: number
  signal?: AbortSignal
}

/**
 * Loads a split of a run's data as the run saw it: its normalization, and for the training split
 * of its own data its limit and label noise.
 */
export async function loadRunData(run: RunFolder, request: RunDataRequest): Promise<DataSet> {
  const { split, samples, signal } = request
  const recorded = run.config.data as RunConfig['data'] & Partial<RunData>
  const spec = request.spec ?? recorded.spec
  if (spec === undefined) {
    throw new UsageError(`${run.path} does not record its data: tell it with --data.`)
  }
  const own = split === 'train' && (request.spec === undefined || spec === recorded.spec)
  const limit = own ? recorded.limit : undefined
  const noise = own ? (recorded.labelNoise ?? 0) : 0
  // Which labels are noisy depends on the whole set, so the first samples are taken after it.
  const early = noise > 0 ? limit : least(limit, samples)
  const read = () => load(spec, { split, limit: early, signal })
  const stored = await (request.spec === undefined ? read() : fromFlags(read))
  const set = sized(withNormalization(stored, recorded.normalization), recorded)
  if (noise === 0) return set
  const noisy = labelNoise(set, noise, run.config.seed)
  return samples === undefined ? noisy : subset(noisy, { limit: samples })
}

function least(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined ? b : b === undefined ? a : Math.min(a, b)
}

/** The loss that a run was trained with. */
export function runLoss(run: RunFolder): LossSpec | undefined {
  return run.config.training.loss as LossSpec | undefined
}

/** The parameters of a finished run. Throws ERR_IO saying so when it is not finished. */
export async function loadParameters(run: RunFolder): Promise<FloatVector> {
  if (!existsSync(run.file('model.safetensors'))) {
    throw new LosscapeError(
      'ERR_IO',
      `The training of ${run.path} was interrupted: finish it with ` +
        `losscape train --resume --out ${shellWord(run.path)}`,
    )
  }
  return run.loadParameters()
}
