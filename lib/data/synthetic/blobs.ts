import { requireOptions } from '../../options.js'
import { stream, uniforms } from '../../random/index.js'
import { atOnce, ranges, type Slices } from '../../slices.js'
import type { DataSet } from '../dataset.js'
import { statisticsSlices } from '../normalize.js'
import { amountOption, integerOption, SYNTHETIC, type SyntheticOptions } from './options.js'
import { makePoints } from './points.js'

/** Options of {@link blobs}. */
export interface BlobOptions extends SyntheticOptions {
  /** Number of classes C, one blob each. Default 5. */
  classes?: number
  /** Dimension d. Default 10. */
  dim?: number
  /** Standard deviation of every blob. Default 4. */
  std?: number
}

/**
 * Isotropic Gaussian blobs in R^d: centres uniform in [-10, 10]^d, then every feature standardized
 * with the mean and deviation of the training samples of all classes together. Default n 1000.
 *
 * Throws ERR_ARGUMENT.
 */
export function blobs(options: BlobOptions = {}): DataSet {
  return atOnce(blobSlices(options))
}

/** {@link blobs} in slices. */
export function* blobSlices(options: BlobOptions = {}): Slices<DataSet> {
  requireOptions('blobs()', options, [...SYNTHETIC, 'classes', 'dim', 'std'])
  const { seed = 0, split = 'train' } = options
  const classes = integerOption('classes', options.classes ?? 5)
  const dim = integerOption('dim', options.dim ?? 10)
  const std = amountOption('std', options.std ?? 4)
  const centres = uniforms(seed, stream('data', 100), 0, classes * dim).map((u) => 20 * u - 10)
  const make = (part: 'train' | 'test') =>
    makePoints(
      {
        name: 'blobs',
        classes,
        dim,
        noise: std,
        defaultSize: 1000,
        place(label, _sample, out) {
          out.set(centres.subarray(label * dim, (label + 1) * dim))
        },
      },
      seed,
      { ...options, split: part },
    )
  const set = yield* make(split)
  const train = split === 'train' ? set : yield* make('train')
  const { mean, std: scale } = yield* statisticsSlices(train)
  const inputs = new Float32Array(set.inputs)
  for (const [from, to] of ranges(inputs.length, 2 ** 18)) {
    for (let i = from; i < to; i++) inputs[i] = (inputs[i] - mean[i % dim]) / scale[i % dim]
    yield
  }
  return { ...set, inputs }
}
