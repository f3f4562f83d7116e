/** Results of analyses in a run folder, as plain JSON; what is not finite is null there. */

/** Counts of numbers in equal bins over [-range, range]. */
export interface HistogramResult {
  name: string
  range: number
  counts: number[]
  /** Numbers beyond the range. */
  outside: number
  total: number
  mean: number
  deviation: number
}

/** The JSON of `losscape surface --json`, kept as `surface.json`. */
export interface SurfaceResult {
  /** Number of parameters. */
  n: number
  /** Samples that the loss was averaged over. */
  samples: number
  split: 'train' | 'test'
  /** Coordinates along both directions; 0 is the end of the training. */
  x: number[]
  y: number[]
  /** Mean loss, one row for every y. */
  loss: (number | null)[][]
  accuracy: number[][] | null
  /** Shares of the variance of all principal components, descending. */
  explained: number[]
  /** The training in the plane; the last point is (0, 0). */
  path: { step: number; x: number; y: number }[]
  roughness: { index: number | null; extrema: number | null; triples: number }
  /** All weights at some of the steps. */
  histograms: HistogramResult[]
  time_ms: number
  device: string
  dtype: 'f32' | 'f64'
}

/** Natural logarithms of singular values by index, over heads and images. */
export interface LogBand {
  min: (number | null)[]
  mean: (number | null)[]
  max: (number | null)[]
}

/** Singular values of one block's attention matrices. */
export interface AttentionSpectrumResult {
  block: number
  /** Of the scaled scores, before softmax or the learnable functions. */
  scores: LogBand
  /** Of the weights that multiply the values. */
  weights: LogBand
  /** Numerical ranks of the weights over heads and images, smallest and largest. */
  rank: { min: number; max: number }
  /** Smallest and largest score seen. */
  range: { min: number; max: number }
}

/** Attention of the class token over the patches of one image, one map a head. */
export interface AttentionMapResult {
  /** Place of the image in the data set. */
  image: number
  label: number | null
  /** What a map shows. */
  kind: 'weights' | 'scores' | 'clamped'
  /** [heads][rows * columns]; as the model has them, not normalised. */
  heads: number[][]
  /** 1 where a patch belongs to the fewest that hold `mass` of the head's sum. */
  masks: number[][]
}

/** What a vision transformer and its attention cost. */
export interface AttentionCostResult {
  parameters: number
  /** Of learnable functions and projectors. */
  attentionParameters: number
  /**
   * Operations by which the paper counts the activation of all scores, multiply-add as one; null
   * where it has no law.
   */
  activationOperations: number | null
  forwardBytes: number
  trainingBytes: number
  batch: number
  forwardImagesPerSecond: number
  trainingImagesPerSecond: number
}

/** The JSON of `losscape attention --json`, kept as `attention.json`. */
export interface AttentionResult {
  model: string
  attention: string
  images: number
  split: 'train' | 'test'
  tokens: number
  heads: number
  blocks: number
  /** Patches of an image. */
  grid: [rows: number, columns: number]
  /** Share of a head's sum that a mask holds. */
  mass: number
  spectra: AttentionSpectrumResult[]
  maps: AttentionMapResult[]
  /** Grey values in [0, 1] of the images of the maps, row-major. */
  pictures: { rows: number; columns: number; values: number[] }[]
  /** Of coefficients and projectors, head by head; [] for softmax. */
  coefficients: HistogramResult[]
  cost: AttentionCostResult
  time_ms: number
  device: string
}
