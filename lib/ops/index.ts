/** Operations on traced tensors. Importing this file registers all of them. */
export { type AttentionOptions, attention } from './attention.js'
export {
  type BatchChannelNormOptions,
  type BatchNormOptions,
  batchChannelNorm,
  batchNorm,
  type ChannelNormOptions,
  channelNorm,
  type EstimatedBatchNormOptions,
  type EstimateOptions,
  estimatedBatchNorm,
  type GroupNormOptions,
  groupNorm,
  instanceNorm,
  type NormWithStatistics,
} from './channel_norm.js'
export { constant, iota, onesLike, zerosLike } from './constant.js'
export { COTANGENT, stopGradient, tap } from './control.js'
export {
  type ConvolutionOptions,
  type ConvolutionTransposeOptions,
  convolution,
  convolutionTranspose,
  type ImageLayout,
  type Padding,
  type PerAxis,
} from './convolution.js'
export { type CrossEntropyOptions, crossEntropy } from './cross_entropy.js'
export {
  abs,
  add,
  cast,
  clamp,
  cos,
  div,
  eq,
  erf,
  exp,
  expm1,
  floor,
  ge,
  gelu,
  gt,
  isFinite,
  le,
  leakyRelu,
  log,
  log1p,
  logicalAnd,
  logicalNot,
  logicalOr,
  lt,
  maximum,
  minimum,
  mul,
  ne,
  neg,
  type Operand,
  pow,
  relu,
  round,
  rsqrt,
  sigmoid,
  sign,
  silu,
  sin,
  softplus,
  sqrt,
  sub,
  tanh,
  where,
} from './elementwise.js'

import './fused.js'

export { gather, scatterAdd } from './indexing.js'
export { type KaratEdgesOptions, karatEdges } from './karat_edges.js'
export { type KaratLatentOptions, karatLatent } from './karat_latent.js'
export { type KaratBase, type KaratBasis, karatFeatureCount } from './karat-bases.js'
export { type EdgeBasis, edgeParameters } from './karat-edges-functions.js'
export { hinge, logistic, marginLogistic, squaredError } from './losses.js'
export { matmul } from './matmul.js'
export { broadcastTo, concat, pad, reshape, slice, transpose } from './movement.js'
export { type Affine, layerNorm, rmsNorm } from './norms.js'
export {
  type AdaptivePoolOptions,
  type AveragePoolOptions,
  adaptiveAveragePool,
  adaptiveMaxPool,
  averagePool,
  globalAveragePool,
  type MaxPoolOptions,
  maxPool,
  type PoolOptions,
} from './pooling.js'
export { dropout, type RandomKind, random } from './random.js'
export {
  argmax,
  logSoftmax,
  logsumexp,
  max,
  mean,
  min,
  moments,
  softmax,
  sum,
} from './reduce.js'
export { type ResizeOptions, resize } from './resize.js'
export { simplexProject } from './simplex.js'
export { type WeightStandardizeOptions, weightStandardize } from './weight_standardize.js'
export type { StandardizePreset, StandardizeSettings } from './weight-standardize-options.js'
export type { StandardizeForm } from './weight-standardize-reference.js'
