import { requireOptions } from '../../options.js'
import { stream, uniforms } from '../../random/index.js'
import type { DataSet } from '../dataset.js'
import { statistics } from '../normalize.js'
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
  const set = make(split)
  const { mean, std: scale } = statistics(split === 'train' ? set : make('train'))
  const inputs = (set.inputs as Float32Array).map((x, i) => (x - mean[i % dim]) / scale[i % dim])
  return { ...set, inputs }
}
