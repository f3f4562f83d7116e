/** Augmentation of images: pure functions, and the plan that training applies. */
export { type AffineMap, affine, rotate } from './affine.js'
export { augmentImage } from './augment.js'
export {
  brightness,
  colourJitter,
  contrast,
  hue,
  type JitterPlan,
  saturation,
  sharpness,
} from './colour.js'
export { type Border, flip, paddedCrop, randomPart } from './crop.js'
export { Draws } from './draws.js'
export { fromInterleaved, type Image, image, type Pixels } from './image.js'
export {
  autoContrast,
  equalize,
  invert,
  type OperationName,
  posterize,
  solarize,
  solarizeAdd,
} from './operations.js'
export {
  type AugmentOptions,
  type AugmentPlan,
  type PaddedCrop,
  type ResizedCrop,
  resolveAugment,
} from './options.js'
export { parseRandAugment, type RandAugmentPlan, randAugment } from './rand-augment.js'
export {
  type AxisWeights,
  axisWeights,
  type Box,
  centreCrop,
  type Interpolation,
  part,
  resized,
  resizedPart,
} from './resample.js'
