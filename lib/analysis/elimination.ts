import { argumentError, isVector } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { erf } from '../ops/erf.js'
import { requireOptions } from '../options.js'

/** What a layer's channels are like before their ReLU, over samples and places. */
export interface ChannelMoments {
  /** μ_c */
  readonly mean: ArrayLike<number>
  /** s_c, the square root of the biased variance. */
  readonly std: ArrayLike<number>
  /** p_c, share of values above 0. */
  readonly positive: ArrayLike<number>
}

/**
 * KL divergence of N(μ, s²) from N(0, 1): ½ (s² + μ² - 1 - ln s²). 0 for what batch norm without an
 * affine part gives; infinite for a constant channel.
 */
export function standardNormalDivergence(mean: number, std: number): number {
  return 0.5 * (std * std + mean * mean - 1 - 2 * Math.log(std))
}

/**
 * Symmetric KL divergence of two Gaussians, KL(p, q) + KL(q, p)
 * = ½ [(s² + Δ²) / s'² + (s'² + Δ²) / s²] - 1 with Δ = μ - μ'.
 */
export function symmetricDivergence(
  mean: number,
  std: number,
  otherMean: number,
  otherStd: number,
): number {
  const shift = (mean - otherMean) ** 2
  const [a, b] = [std * std, otherStd * otherStd]
  return 0.5 * ((a + shift) / b + (b + shift) / a) - 1
}

/** Squared 2-Wasserstein distance of two Gaussians, (μ - μ')² + (s - s')²; finite for s = 0 too. */
export function squaredWasserstein2(
  mean: number,
  std: number,
  otherMean: number,
  otherStd: number,
): number {
  return (mean - otherMean) ** 2 + (std - otherStd) ** 2
}

/** Φ(μ / s), the share of positive values of N(μ, s²): what p_c would be for a Gaussian channel. */
export function gaussianActivity(mean: number, std: number): number {
  if (std === 0) return mean > 0 ? 1 : 0
  return 0.5 * (1 + erf(mean / std / Math.SQRT2))
}

export interface EliminationOptions {
  /** Groups of neighbouring channels whose distances are taken. Default 1: all of the layer. */
  readonly groups?: number
  /** τ: a channel active for less is dead, for more than 1 - τ linear. Default 0.02. */
  readonly tau?: number
}

/** How near a layer's channels are to being switched off, or on, for every input. */
export interface EliminationMeasures {
  /** C */
  readonly channels: number
  /** Divergence of the channels from N(0, 1): mean, median and largest. */
  readonly divergence: { readonly mean: number; readonly median: number; readonly max: number }
  /** Mean over pairs of channels of one group; NaN for groups of one. */
  readonly symmetric: number
  readonly wasserstein: number
  /** Share of channels with p_c < τ: the ReLU is off. */
  readonly dead: number
  /** Share of channels with p_c > 1 - τ: the ReLU is the identity. */
  readonly linear: number
  /** The same shares as Gaussian channels of these moments would have them. */
  readonly predictedDead: number
  readonly predictedLinear: number
  /** Largest -μ_c / s_c: how many deviations the mean of the worst channel lies below 0. */
  readonly margin: number
}

/**
 * Measures of elimination: a ReLU channel that is off for every input is gone, and training slows
 * near such points. Batch norm keeps each channel at distance; layer and group norm fix pooled
 * moments only, so single channels may drift. The measures are this package's definitions; the
 * paper's own "statistical difference" is of that kind.
 *
 * Source: after Qiao et al., arXiv 1911.09738.
 *
 * @example
 * const [layer] = await channelStatistics(device, model, params, set)
 * const { divergence, dead } = eliminationMeasures(layer, { groups: 4 })
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE
 */
export function eliminationMeasures(
  moments: ChannelMoments,
  options: EliminationOptions = {},
): EliminationMeasures {
  const where = 'eliminationMeasures()'
  requireOptions(where, options, ['groups', 'tau'])
  for (const name of ['mean', 'std', 'positive'] as const) {
    if (!isVector(moments?.[name])) {
      throw argumentError(where, name, 'one number a channel', moments?.[name])
    }
  }
  const { mean, std, positive } = moments
  const { groups = 1, tau = 0.02 } = options
  const C = mean.length
  if (C === 0 || std.length !== C || positive.length !== C) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `${where} expected as many means, deviations and shares, got ${C}, ${std.length}, ${positive.length}.`,
    )
  }
  if (!Number.isSafeInteger(groups) || groups < 1 || C % groups !== 0) {
    throw argumentError(where, 'groups', `a divisor of ${C} channels`, groups)
  }
  if (!(tau > 0 && tau < 0.5)) throw argumentError(where, 'tau', 'in (0, 0.5)', tau)
  const divergences = Array.from(mean, (m, c) => standardNormalDivergence(m, std[c]))
  const predicted = Array.from(mean, (m, c) => gaussianActivity(m, std[c]))
  const share = (list: ArrayLike<number>, is: (p: number) => boolean) =>
    Array.from(list).filter(is).length / C
  return {
    channels: C,
    divergence: {
      mean: divergences.reduce((a, b) => a + b, 0) / C,
      median: median(divergences),
      max: Math.max(...divergences),
    },
    symmetric: pairMean(moments, groups, symmetricDivergence),
    wasserstein: pairMean(moments, groups, squaredWasserstein2),
    dead: share(positive, (p) => p < tau),
    linear: share(positive, (p) => p > 1 - tau),
    predictedDead: share(predicted, (p) => p < tau),
    predictedLinear: share(predicted, (p) => p > 1 - tau),
    margin: Math.max(...Array.from(mean, (m, c) => (m === 0 ? 0 : -m / std[c]))),
  }
}

type Distance = typeof squaredWasserstein2

/** Mean of a distance over all pairs of channels within a group. */
function pairMean({ mean, std }: ChannelMoments, groups: number, distance: Distance): number {
  const D = mean.length / groups
  let [sum, pairs] = [0, 0]
  for (let c = 0; c < mean.length; c++) {
    const end = (Math.floor(c / D) + 1) * D
    for (let k = c + 1; k < end; k++) {
      sum += distance(mean[c], std[c], mean[k], std[k])
      pairs++
    }
  }
  return sum / pairs
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
}
