/** Models and losses. */
export type {
  AttentionChoice,
  KaratBasisChoice,
  KaratHead,
  KaratInit,
  KaratOptions,
  KaratOrder,
  KaratProjection,
  KaratShare,
} from './attention/options.js'
export { parseAttention } from './attention/parse.js'
export { type ConvitOptions, convit } from './convit.js'
export {
  adaptiveStandardization,
  type CifarResnetOptions,
  type ConvnetOptions,
  cifarResnet,
  type FilterAffine,
  type Folded,
  type FoldOptions,
  fold,
  lenet,
  type NormKind,
  type NormOption,
  type NormSettings,
  type ResidualOptions,
  type ResnetOptions,
  type ResnextOptions,
  resnet,
  resnet20,
  resnext,
  type SegmentationOptions,
  type StandardizationOption,
  type StandardizationSettings,
  segmentation,
  standardizedWeights,
  type VggOptions,
  vgg,
} from './convnet/index.js'
export type { Initializer, Parameter } from './init.js'
export type { FloatVector, LayoutEntry, ParameterLayout } from './layout.js'
export type { Likelihood, Loss, LossSpec } from './loss.js'
export { type Activation, type MlpInit, type MlpOptions, mlp } from './mlp.js'
export {
  type ApplyContext,
  type ApplyOptions,
  defineModel as define,
  type Model,
  type ModelDefinition,
  type StatisticsMode,
  type TensorMap,
} from './model.js'
export { type ModelOptions, type ParseContext, parseModel as parse } from './parse.js'
export { type SwinOptions, swin } from './swin.js'
export { vit } from './vit.js'
export type { VitOptions, VitSize } from './vit-config.js'
