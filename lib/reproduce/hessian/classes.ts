import { type DecompositionGap, decompositionGap } from '../../analysis/decomposition.js'
import { countOutliers } from '../../analysis/outliers.js'
import { type ClassPoint, classStructure } from '../../curvature/class-structure.js'
import { exactSpectrum } from '../../curvature/dense.js'
import { lanczos } from '../../curvature/lanczos.js'
import type { Experiment } from '../paper.js'
import {
  blobSet,
  type Context,
  descend,
  measure,
  network,
  type StoredSpectrum,
  short,
  withOperator,
} from './network.js'
import { type HessianSettings, partOf } from './settings.js'

/** H = G + F at one step of a training. */
export interface Stage {
  readonly step: number
  readonly loss: number
  readonly accuracy: number
  /** ‖H - G‖_F / ‖H‖_F and in the spectral norm. */
  readonly gap: number
  readonly spectralGap: number
  /** E_C = Σ_(i ≤ C) λ_i² / ‖H‖_F². */
  readonly energy: number
  /** Counts by rule; `threshold` is a tenth of λ_max. */
  readonly outliers: Readonly<Record<'gap' | 'energy' | 'edge' | 'threshold', number>>
  readonly largest: number
  /** -λ_min(H) / λ_max(H). */
  readonly negativeRatio: number
  readonly negativeShare: number
  /** -λ_min(G) in units of the rounding floor of G. */
  readonly gaussNewtonFloor: number
  /** Share of eigenvalues with |λ| < 1e-3 λ_max. */
  readonly flatShare: number
  readonly hessian: StoredSpectrum
}

/** The class-structured decomposition of G (Papyan 2018). */
export interface Structure {
  /** The top C eigenvalues of G, of G₀ + G₁ + G₂ and of G₁, descending. */
  readonly gaussNewton: readonly number[]
  readonly sum: readonly number[]
  readonly g1: readonly number[]
  /** Eigenvalues of G₁ with a partner among those of G, within a quarter. */
  readonly matched: number
  /** Shares of tr G. */
  readonly traces: Readonly<Record<'g0' | 'g1' | 'g2' | 'g3', number>>
  readonly points: readonly ClassPoint[]
}

export interface ClassCount {
  readonly classes: number
  /** n */
  readonly size: number
  readonly stages: readonly Stage[]
  /** At the last stage. */
  readonly structure: Structure
}

/** S1 and S5: spectra before and after training against the number of classes. */
export const classesExperiment: Experiment<HessianSettings, readonly ClassCount[]> = {
  title: 'classes',
  weight: 22,
  dependsOn: partOf('classes'),
  async run(context) {
    const { problem, counts, checkpoints } = context.settings.classes
    const results: ClassCount[] = []
    const total = counts.length * checkpoints.length
    for (const classes of counts) {
      const set = blobSet({ ...problem, classes }, context.seed)
      const model = network(set, problem.hidden, context.settings)
      let params: ArrayLike<number> = model.init(context.seed)
      let at = 0
      const stages: Stage[] = []
      for (const step of checkpoints) {
        context.onProgress(
          (results.length * checkpoints.length + stages.length) / total,
          `${classes} classes, step ${step}`,
        )
        params = await descend(context, model, set, params, step - at)
        at = step
        stages.push(await stageOf(context, { model, set, params }, step, classes))
      }
      const structure = await structureOf(context, { model, set, params }, classes)
      results.push({ classes, size: model.size, stages, structure })
    }
    return results
  },
}

type Point = Parameters<typeof withOperator>[2]

async function stageOf(
  context: Context,
  point: Point,
  step: number,
  classes: number,
): Promise<Stage> {
  const { device, signal, settings, seed } = context
  const { loss, accuracy } = await measure(context, point.model, point.params, point.set)
  const gap = await withOperator('hessian', device, point, {}, (hessian) =>
    withOperator('gauss-newton', device, point, {}, (gaussNewton) =>
      withOperator('remainder', device, point, {}, (remainder) =>
        decompositionGap(
          { hessian, gaussNewton, remainder },
          { exactUpTo: settings.exactUpTo, ...settings.quadrature, seed, signal },
        ),
      ),
    ),
  )
  return { step, loss, accuracy, ...summary(gap, classes) }
}

async function structureOf(
  { device, settings, signal, seed }: Context,
  point: Point,
  classes: number,
): Promise<Structure> {
  const { model, params, set } = point
  const { eigenvalues, traces, points } = await classStructure(device, model, params, set, {
    precision: 'f64',
    signal,
  })
  const top = await withOperator('gauss-newton', device, point, {}, (operator) =>
    operator.size <= settings.exactUpTo
      ? exactSpectrum(operator, { signal }).then(({ values }) => values.slice().reverse())
      : lanczos(operator, { k: 4 * classes, seed, signal }).then(({ values }) => values),
  )
  const first = (values: Float64Array) => Array.from(values.subarray(0, classes), short)
  const reference = eigenvalues.g1
  const share = (part: number) => short(part / traces.g)
  return {
    gaussNewton: first(top),
    sum: first(eigenvalues.sum),
    g1: first(reference),
    matched: countOutliers(top, { rule: 'class-structure', reference }).count,
    traces: {
      g0: share(traces.g0),
      g1: share(traces.g1),
      g2: share(traces.g2),
      g3: share(traces.g3),
    },
    points: points.map(({ label, other, x, y }) => ({ label, other, x: short(x), y: short(y) })),
  }
}

function summary(gap: DecompositionGap, classes: number) {
  const { measure: spectrum, largest } = gap.hessian
  const count = (options: Parameters<typeof countOutliers>[1]) =>
    countOutliers(spectrum, { classes, size: gap.size, ...options })
  const energy = count({ rule: 'energy' })
  const away = count({ rule: 'threshold', threshold: 1e-3, magnitude: true }).count
  return {
    gap: short(gap.gap),
    spectralGap: short(gap.spectralGap),
    energy: short(energy.strength),
    outliers: {
      gap: count({ rule: 'gap' }).count,
      energy: energy.count,
      edge: count({ rule: 'edge' }).count,
      threshold: count({ rule: 'threshold', threshold: 0.1 }).count,
    },
    largest: short(largest),
    negativeRatio: short(gap.negativeRatio),
    negativeShare: short(gap.hessian.negativeShare),
    gaussNewtonFloor: short(-gap.gaussNewton.smallest / gap.gaussNewton.floor),
    flatShare: short(1 - away / gap.size),
    hessian: stored(gap),
  }
}

function stored({ size, exact, hessian: { measure: spectrum } }: DecompositionGap): StoredSpectrum {
  if (exact) return { size, values: Array.from(spectrum.nodes[0], short) }
  return {
    size,
    nodes: spectrum.nodes.map((row) => Array.from(row, short)),
    weights: spectrum.weights.map((row) => Array.from(row, short)),
  }
}
