/** Convolutional networks. */
export { type CifarResnetOptions, cifarResnet, resnet20 } from './cifar-resnet.js'
export { type Folded, type FoldOptions, fold } from './fold.js'
export { lenet } from './lenet.js'
export type { NormKind, NormOption, NormSettings } from './norm-options.js'
export type { ConvnetOptions } from './options.js'
export {
  type ResidualOptions,
  type ResnetOptions,
  type ResnextOptions,
  resnet,
  resnext,
} from './resnet.js'
export { type SegmentationOptions, segmentation } from './segmentation.js'
export type { StandardizationOption, StandardizationSettings } from './standardize.js'
export { type VggOptions, vgg } from './vgg.js'
export {
  adaptiveStandardization,
  type FilterAffine,
  standardizedWeights,
} from './weight-standardization.js'
