/** Training, evaluation, prediction, and the files that they leave. */
export {
  type Checkpoint,
  type CheckpointSetting,
  loadCheckpoint,
  saveCheckpoint,
} from './checkpoint.js'
export { DEIT_CROP_RATIO, type DeitOptions, type DeitRecipe, deitRecipe } from './deit.js'
export type { EmaOptions, EmaSpec } from './ema.js'
export { type EvaluateOptions, type Evaluation, evaluate } from './evaluate.js'
export { loadTimm } from './load-timm.js'
export { type LoadedNetwork, loadTorchvision } from './load-torchvision.js'
export type { EpochSums, MetricsRow } from './metrics.js'
export type {
  AdamSpec,
  GradientDescentSpec,
  OptimizerSpec,
  ParameterGroup,
  SgdSpec,
} from './optimizer.js'
export type { TrainOptions, TrainProgress } from './options.js'
export { type PredictOptions, Predictor, type PredictorOptions, predictor } from './predict.js'
export {
  type CreateRunOptions,
  createRun,
  openRun,
  type RunConfig,
  RunFolder,
} from './run-folder.js'
export {
  resolveSchedule,
  type Schedule,
  type ScheduleOptions,
  type ScheduleSpec,
  type Warmup,
} from './schedule.js'
export {
  ConfusionMatrix,
  type ConfusionOptions,
  pixelClasses,
  type SegmentationScores,
  segmentationScores,
} from './segmentation-metrics.js'
export { loadStart, loadStartState, type StartOptions } from './start.js'
export { type TrainResult, train } from './train.js'
export { loadModel, loadState, saveModel } from './weights.js'
