import { argumentError, requireArguments } from '../arguments.js'
import { requireOptions } from '../options.js'
import { imageShape, imageSize } from './augment/options.js'
import type { DataSet } from './dataset.js'

/** Options of {@link withSize}. */
export interface SizeOptions {
  /** Share of the resized image's shorter side that is cut out. Default 1: no crop. */
  readonly cropRatio?: number
  /** Default 'bilinear'. */
  readonly interpolation?: 'bilinear' | 'bicubic'
}

/**
 * The set with images that models get in another size, as evaluation does it: the shorter side is
 * brought to ⌊size / cropRatio⌋ (with antialiasing when it shrinks) and the centre cut out. Inputs
 * stay as they are, shared with `set`; the device resizes batch by batch, by two matrix products.
 *
 * @throws ERR_ARGUMENT; ERR_SHAPE when samples are no images
 *
 * @example
 * const test = data.withSize(cifar, 224, { cropRatio: 0.9, interpolation: 'bicubic' })
 */
export function withSize(
  set: DataSet,
  size: number | readonly [height: number, width: number],
  options: SizeOptions = {},
): DataSet {
  requireArguments('withSize()', { set })
  requireOptions('withSize()', options, ['cropRatio', 'interpolation'])
  const { cropRatio = 1, interpolation = 'bilinear' } = options
  imageShape(set)
  if (!(cropRatio > 0 && cropRatio <= 1)) {
    throw argumentError('withSize()', 'cropRatio', 'in (0, 1]', cropRatio)
  }
  if (interpolation !== 'bilinear' && interpolation !== 'bicubic') {
    throw argumentError('withSize()', 'interpolation', "'bilinear' or 'bicubic'", interpolation)
  }
  return { ...set, resize: { size: imageSize('withSize()', size), cropRatio, interpolation } }
}
