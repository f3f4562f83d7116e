import type { Experiment } from '../paper.js'
import {
  blobSet,
  descend,
  hessianSpectrum,
  measure,
  network,
  type StoredSpectrum,
} from './network.js'
import { type HessianSettings, partOf } from './settings.js'

export interface TrainingSpectra {
  /** n */
  readonly size: number
  readonly checkpoints: readonly {
    readonly step: number
    readonly loss: number
    readonly spectrum: StoredSpectrum
  }[]
  /** Diagonal blocks of the Hessian at the last checkpoint. */
  readonly layers: readonly { readonly name: string; readonly spectrum: StoredSpectrum }[]
}

/** The spectrum through one training, and layer by layer at its end. */
export const trainingExperiment: Experiment<HessianSettings, TrainingSpectra> = {
  title: 'through training',
  weight: 4,
  dependsOn: partOf('training'),
  async run(context) {
    const { problem, checkpoints: steps } = context.settings.training
    const set = blobSet(problem, context.seed)
    const model = network(set, problem.hidden, context.settings)
    let params: ArrayLike<number> = model.init(context.seed)
    let at = 0
    const depth = problem.hidden.length + 1
    const total = steps.length + depth
    const checkpoints: TrainingSpectra['checkpoints'][number][] = []
    for (const step of steps) {
      context.onProgress(checkpoints.length / total, `step ${step}`)
      params = await descend(context, model, set, params, step - at)
      at = step
      const { loss } = await measure(context, model, params, set)
      const spectrum = await hessianSpectrum(context, { model, params, set })
      checkpoints.push({ step, loss, spectrum })
    }
    const layers: TrainingSpectra['layers'][number][] = []
    for (let i = 0; i < depth; i++) {
      context.onProgress((steps.length + i) / total, `layer ${i}`)
      const spectrum = await hessianSpectrum(context, { model, params, set }, `layers.${i}.*`)
      layers.push({ name: `layers.${i}`, spectrum })
    }
    return { size: model.size, checkpoints, layers }
  },
}
