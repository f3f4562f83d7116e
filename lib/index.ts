// biome-ignore-all assist/source/organizeImports: grouped for readers.
/**
 * Loss landscapes of neural networks: programs that can be transformed, models and their training,
 * Hessian operators and their spectra. Plots and reports are in `losscape/report`.
 *
 * @example
 * import { data, hessian, lanczos, models, open, slq, train } from 'losscape'
 *
 * const device = await open({ threads: 2 })
 * const set = await data.load('glyphs', { limit: 2000 })
 * const model = models.mlp({ input: [16, 16], hidden: [32], classes: 10 })
 * const run = await train(device, model, set, { optimizer: { kind: 'sgd', lr: 0.1, momentum: 0.9 } })
 * const H = hessian(device, model, run.params, set)
 * const ends = await lanczos(H, { k: 12, which: 'both-ends' })
 * const density = await slq(H, { probes: 10, steps: 80 })
 *
 * @module
 */

// Devices, and programs of one's own on them.
export { type Device, type OpenOptions, open } from './device/device.js'
export {
  compile,
  type Executable,
  type ExecutableOptions,
  type ExecutableReport,
} from './device/executable.js'
export { chromeTrace, type TraceEvent } from './device/chrome-trace.js'
export type { NativeInfo, NativeMemory, NumericArray, OperationProfile } from './native.js'
export { type ErrorCode, LosscapeError } from './errors.js'

// Data sets.
export * as data from './data/index.js'
export type { DataSet, LoadOptions, Normalization } from './data/index.js'

// Models.
export * as models from './nn/index.js'
export type {
  Activation,
  AttentionChoice,
  CifarResnetOptions,
  ConvitOptions,
  ConvnetOptions,
  FloatVector,
  KaratOptions,
  LossSpec,
  MlpOptions,
  Model,
  ModelDefinition,
  NormOption,
  ParameterLayout,
  ResnetOptions,
  ResnextOptions,
  StatisticsMode,
  SwinOptions,
  TensorMap,
  VggOptions,
  VitOptions,
} from './nn/index.js'

// Attention on traced tensors, and the parameters of learnable attention.
export {
  attentionScores,
  attentionWeights,
} from './nn/attention/attend.js'
export {
  karatActivationFlops,
  karatParameterCount,
  type KaratSize,
} from './nn/attention/cost.js'
export { karatAttention, karatWeights, type ScoreOptions } from './nn/attention/karat.js'
export { karatParameters } from './nn/attention/parameters.js'
export { type AttentionAnatomy, attentionAnatomy } from './nn/attention/anatomy.js'
export type { BlockMatrices, HeadFactors } from './train/attention-reader.js'
export {
  type AttentionTransferOptions,
  attentionStudent,
  attentionTransferSet,
} from './train/attention-transfer.js'

// Training, evaluation, prediction, run folders.
export {
  type Checkpoint,
  ConfusionMatrix,
  type ConfusionOptions,
  createRun,
  DEIT_CROP_RATIO,
  type DeitOptions,
  type DeitRecipe,
  deitRecipe,
  type EmaOptions,
  type EvaluateOptions,
  type Evaluation,
  evaluate,
  loadCheckpoint,
  loadModel,
  loadStart,
  loadStartState,
  loadState,
  loadTimm,
  type LoadedNetwork,
  loadTorchvision,
  type MetricsRow,
  type OptimizerSpec,
  openRun,
  pixelClasses,
  type Predictor,
  type PredictorOptions,
  predictor,
  type RunConfig,
  type RunFolder,
  type ScheduleSpec,
  type SegmentationScores,
  saveCheckpoint,
  saveModel,
  segmentationScores,
  type TrainOptions,
  type TrainProgress,
  type TrainResult,
  train,
} from './train/index.js'

// Curvature: operators.
export { type CurvatureOptions, gaussNewton, hessian, remainder } from './curvature/network.js'
export {
  empiricalFisher,
  fisher,
  fisherMonteCarlo,
  gradientCovariance,
} from './curvature/fisher.js'
export type { OperatorDescription, SampleSelection } from './curvature/description.js'
export type { DrawOptions } from './curvature/draws.js'
export {
  type GaussNewtonDiagonalOptions,
  gaussNewtonDiagonal,
} from './curvature/gauss-newton-diagonal.js'
export {
  type ClassPoint,
  type ClassStructure,
  type ClassStructureOptions,
  classStructure,
} from './curvature/class-structure.js'
export { denseOperator, operatorFrom, type ProductFunction } from './curvature/operators.js'
export { finiteDifference, type GradientFunction } from './curvature/finite-difference.js'
export { type InverseOptions, inverse } from './curvature/inverse.js'
export type { WrappedOperator } from './curvature/wrap.js'
export {
  masked,
  negated,
  preconditioned,
  type RankOneTerm,
  type SumTerm,
  scaled,
  shifted,
  squared,
  summed,
} from './curvature/wrappers.js'
export { checkOperator, type OperatorCheck } from './curvature/check.js'
export type { DeviceOperator } from './curvature/native-operator.js'
export type { LinearOperator, Precision, ProductOptions } from './curvature/operator.js'

// Curvature: algorithms, for any operator.
export {
  type BlockEigenResult,
  type BlockLanczosCheckpoint,
  type BlockLanczosOptions,
  type BlockLanczosProgress,
  blockLanczos,
} from './curvature/block-lanczos.js'
export {
  type EigenResult,
  type LanczosOptions,
  type LanczosProgress,
  lanczos,
} from './curvature/lanczos.js'
export type {
  Eigenpairs,
  EigenpairsOptions,
  EigenpairsProgress,
} from './curvature/eigenpairs.js'
export { type LobpcgOptions, lobpcg } from './curvature/lobpcg.js'
export { type PowerIterationOptions, powerIteration } from './curvature/power-iteration.js'
export { type SubspaceIterationOptions, subspaceIteration } from './curvature/subspace-iteration.js'
export type { LanczosCheckpoint } from './curvature/lanczos-checkpoint.js'
export type { Reorthogonalize } from './curvature/lanczos-run.js'
export { type SlqOptions, type SlqProgress, type SlqResult, slq } from './curvature/slq.js'
export type { FinishedProbes } from './curvature/slq-resume.js'
export { hutchinsonTrace, type TraceOptions, type TraceResult } from './curvature/trace.js'
export {
  type OperatorTrace,
  type OperatorTraceOptions,
  operatorTrace,
  type TraceMethod,
} from './curvature/operator-trace.js'
export {
  type DiagonalMethod,
  type DiagonalOptions,
  diagonal,
  type OperatorDiagonal,
} from './curvature/diagonal.js'
export {
  type FrobeniusNorm,
  type FrobeniusOptions,
  frobenius,
  type SpectralNorm,
  type SpectralNormOptions,
  spectralNorm,
} from './curvature/norms.js'
export {
  type DenseMatrix,
  denseMatrix,
  type ExactSpectrum,
  exactSpectrum,
} from './curvature/dense.js'
export {
  cumulative,
  cumulativeBand,
  type Estimate,
  functional,
  type SpectralMeasure,
  wasserstein1,
} from './curvature/measure.js'
export {
  type Density,
  type DensityConvention,
  type DensityOptions,
  density,
  symmetricLogDensity,
} from './curvature/density.js'
export * as functionals from './curvature/functionals.js'
export {
  type WassersteinBound,
  type WassersteinBoundOptions,
  wassersteinBound,
} from './curvature/spectral-error.js'
export { type TridiagonalEigen, tridiagonalEigen } from './curvature/tridiagonal.js'

// Analyses of spectra, of the loss between and around solutions, and of attention.
export {
  type AttentionCost,
  type AttentionCostOptions,
  type AttentionMap,
  type AttentionMapOptions,
  type AttentionMatricesOptions,
  type AttentionSpectrum,
  type AttentionSpectrumOptions,
  attentionCost,
  attentionCounts,
  attentionMaps,
  attentionMatrices,
  attentionSpectrum,
  type ChannelMoments,
  type ChannelStatistics,
  type ChannelStatisticsOptions,
  channelStatistics,
  countOutliers,
  type Decomposition,
  type DecompositionGap,
  type DecompositionOptions,
  decompositionGap,
  type EliminationMeasures,
  type EliminationOptions,
  eliminationMeasures,
  type FlatDirections,
  type FlatDirectionsOptions,
  flatDirections,
  type GradientOptions,
  type GradientOverlap,
  gaussianActivity,
  gradientOverlap,
  gradientSmoothness,
  type HeadHistograms,
  type Histogram,
  type HistogramOptions,
  type HostMatrix,
  headHistograms,
  histogram,
  type LayerRatios,
  type LineOptions,
  layerRatios,
  type LinePath,
  type LogValues,
  type LossSurface,
  linePath,
  lossSurface,
  lowRankSingularValues,
  type NamedHistogram,
  type NamedParameters,
  type OutlierCount,
  type OutlierOptions,
  type OutlierRule,
  type ParameterPlane,
  type PathPoint,
  type PcaOptions,
  type PcaPlane,
  pcaPlane,
  type Roughness,
  type SingularValueOptions,
  type Smoothness,
  type SmoothnessOptions,
  type SpectrumPart,
  type SpreadAffineOptions,
  type StandardizationRatios,
  type SubspaceOverlap,
  type SurfaceOptions,
  type TrainingPoint,
  singularValues,
  spreadAffine,
  squaredWasserstein2,
  standardizationRatios,
  standardizedFilters,
  standardNormalDivergence,
  subspaceOverlap,
  surfaceRoughness,
  symmetricDivergence,
  weightHistograms,
} from './analysis/index.js'

// Programs: operations on traced tensors, tracing, transforms.
export * as ops from './ops/index.js'
export {
  evaluate as evaluateReference,
  formatProgram,
  grad,
  gradProgram,
  hessianVectorProduct,
  jvp,
  jvpProgram,
  type Linearized,
  linearize,
  linearizeProgram,
  type Operation,
  type Program,
  type Shape,
  simplify,
  type Tensor,
  type TensorType,
  type TracedFunction,
  tapNames,
  trace,
  valueAndGrad,
  verify,
  vjp,
  vjpProgram,
  vmap,
  vmapProgram,
  withTaps,
} from './program/index.js'
