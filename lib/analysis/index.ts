/** Analyses of spectra and of the loss between parameter vectors. */
export {
  type AttentionCost,
  type AttentionCostOptions,
  attentionCost,
  attentionCounts,
} from './attention-cost.js'
export { type AttentionMap, type AttentionMapOptions, attentionMaps } from './attention-maps.js'
export { type AttentionMatricesOptions, attentionMatrices } from './attention-matrices.js'
export {
  type AttentionSpectrum,
  type AttentionSpectrumOptions,
  attentionSpectrum,
  type LogValues,
} from './attention-spectrum.js'
export {
  type ChannelStatistics,
  type ChannelStatisticsOptions,
  channelStatistics,
} from './channel-statistics.js'
export {
  type Decomposition,
  type DecompositionGap,
  type DecompositionOptions,
  decompositionGap,
  measureFrom,
  type SpectrumPart,
} from './decomposition.js'
export {
  type ChannelMoments,
  type EliminationMeasures,
  type EliminationOptions,
  eliminationMeasures,
  gaussianActivity,
  squaredWasserstein2,
  standardNormalDivergence,
  symmetricDivergence,
} from './elimination.js'
export {
  type FlatDirections,
  type FlatDirectionsOptions,
  flatDirections,
  standardizedFilters,
} from './flat-directions.js'
export { type LineOptions, type LinePath, linePath } from './line.js'
export type { GradientOptions } from './loss-gradient.js'
export {
  countOutliers,
  OUTLIER_RULES,
  type OutlierCount,
  type OutlierOptions,
  type OutlierRule,
} from './outliers.js'
export {
  type GradientOverlap,
  gradientOverlap,
  type SubspaceOverlap,
  subspaceOverlap,
  type VectorList,
} from './overlap.js'
export { type PathPoint, type PcaOptions, type PcaPlane, pcaPlane } from './pca-plane.js'
export { type Roughness, surfaceRoughness } from './roughness.js'
export {
  type HostMatrix,
  lowRankSingularValues,
  type SingularValueOptions,
  singularValues,
} from './singular-values.js'
export {
  gradientSmoothness,
  type Smoothness,
  type SmoothnessOptions,
  type TrainingPoint,
} from './smoothness.js'
export { type SpreadAffineOptions, spreadAffine } from './spread-affine.js'
export {
  type LayerRatios,
  layerRatios,
  type StandardizationRatios,
  standardizationRatios,
} from './standardization-ratios.js'
export {
  type LossSurface,
  lossSurface,
  type ParameterPlane,
  type SurfaceOptions,
} from './surface.js'
export {
  type HeadHistograms,
  type Histogram,
  type HistogramOptions,
  headHistograms,
  histogram,
  type NamedHistogram,
  type NamedParameters,
  weightHistograms,
} from './weight-histograms.js'
