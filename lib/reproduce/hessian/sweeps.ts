import { countOutliers } from '../../analysis/outliers.js'
import type { DataSet } from '../../data/dataset.js'
import { load } from '../../data/load.js'
import { LosscapeError } from '../../errors.js'
import type { Experiment } from '../paper.js'
import {
  blobSet,
  type Context,
  descend,
  hessianSpectrum,
  measure,
  measureOf,
  network,
  type StoredSpectrum,
  short,
} from './network.js'
import { type HessianSettings, partOf } from './settings.js'

/** The Hessian of one trained network of a sweep. */
export interface SweepPoint {
  /** What is swept: clusters, width or deviation. */
  readonly value: number
  /** n */
  readonly size: number
  readonly loss: number
  readonly accuracy: number
  readonly largest: number
  /** Median of |λ|. */
  readonly median: number
  /** E_C. */
  readonly energy: number
  /** Eigenvalues with |λ| > 1 % of λ_max. */
  readonly nonNegligible: number
  /** Eigenvalues above a tenth of λ_max. */
  readonly large: number
  readonly hessian: StoredSpectrum
}

interface Variant {
  readonly value: number
  readonly set: DataSet
  readonly hidden: readonly number[]
}

async function sweep(
  context: Context,
  variants: readonly Variant[],
  steps: number,
  what: string,
): Promise<SweepPoint[]> {
  const points: SweepPoint[] = []
  for (const { value, set, hidden } of variants) {
    context.onProgress(points.length / variants.length, `${what} ${value}`)
    const model = network(set, hidden, context.settings)
    const params = await descend(context, model, set, model.init(context.seed), steps)
    const { loss, accuracy } = await measure(context, model, params, set)
    const hessian = await hessianSpectrum(context, { model, params, set })
    points.push({ value, loss, accuracy, ...summary(hessian, set.classes ?? 1), hessian })
  }
  return points
}

function summary(hessian: StoredSpectrum, classes: number) {
  const spectrum = measureOf(hessian)
  const { size } = hessian
  const count = (options: Parameters<typeof countOutliers>[1]) =>
    countOutliers(spectrum, { classes, size, ...options })
  const nonNegligible = count({ rule: 'threshold', threshold: 0.01, magnitude: true })
  const magnitudes = spectrum.nodes
    .flatMap((row, p) => Array.from(row, (t, l) => [Math.abs(t), spectrum.weights[p][l]] as const))
    .sort(([a], [b]) => a - b)
  let mass = 0
  const half = spectrum.nodes.length / 2
  const median = magnitudes.find(([, weight]) => {
    mass += weight
    return mass >= half
  })
  return {
    size,
    largest: short(Math.max(...spectrum.nodes.map((row) => Math.max(...Array.from(row))))),
    median: short(median?.[0] ?? 0),
    energy: short(count({ rule: 'energy' }).strength),
    nonNegligible: nonNegligible.count,
    large: count({ rule: 'threshold', threshold: 0.1 }).count,
  }
}

/** E3: clusters of one blob each, with labels given in turn, under a fixed network. */
export const clustersExperiment: Experiment<HessianSettings, readonly SweepPoint[]> = {
  title: 'clusters',
  weight: 4,
  dependsOn: partOf('clusters'),
  run(context) {
    const { problem, counts, steps } = context.settings.clusters
    const variants = counts.map((clusters) => {
      const set = blobSet({ ...problem, classes: clusters }, context.seed)
      const targets = Int32Array.from(set.targets, (cluster) => cluster % problem.classes)
      return {
        value: clusters,
        set: { ...set, classes: problem.classes, targets },
        hidden: problem.hidden,
      }
    })
    return sweep(context, variants, steps, 'clusters')
  },
}

/** S2: wider networks on fixed data. */
export const widthExperiment: Experiment<HessianSettings, readonly SweepPoint[]> = {
  title: 'width',
  weight: 6,
  dependsOn: partOf('width'),
  run(context) {
    const { problem, widths, steps } = context.settings.width
    const set = blobSet(problem, context.seed)
    const variants = widths.map((width) => ({ value: width, set, hidden: [width, width] }))
    return sweep(context, variants, steps, 'width')
  },
}

/** S3: wider, more overlapping blobs under a fixed network. */
export const separabilityExperiment: Experiment<HessianSettings, readonly SweepPoint[]> = {
  title: 'separability',
  weight: 5,
  dependsOn: partOf('separability'),
  run(context) {
    const { problem, stds, steps } = context.settings.separability
    const variants = stds.map((std) => ({
      value: std,
      set: blobSet({ ...problem, std }, context.seed),
      hidden: problem.hidden,
    }))
    return sweep(context, variants, steps, 'deviation')
  },
}

/** E2 on real data: wider networks on a sub-sample. */
export const dataExperiment: Experiment<HessianSettings, readonly SweepPoint[]> = {
  title: 'width on real data',
  weight: 60,
  dependsOn: partOf('data'),
  async run(context) {
    const { data } = context.settings
    if (!data) throw new LosscapeError('ERR_ARGUMENT', 'No data set was named.')
    const set = await load(data.spec, { limit: data.samples, signal: context.signal })
    if (set.classes === null) {
      throw new LosscapeError('ERR_ARGUMENT', `${data.spec}: this experiment needs class labels.`)
    }
    const variants = data.widths.map((width) => ({ value: width, set, hidden: [width, width] }))
    return sweep(context, variants, data.steps, 'width')
  },
}
