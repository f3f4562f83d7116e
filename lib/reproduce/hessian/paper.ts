import type { Paper } from '../paper.js'
import { batchExperiment } from './batch.js'
import { type HessianResults, hessianClaims } from './claims.js'
import { classesExperiment } from './classes.js'
import { hessianSections } from './sections.js'
import { type HessianSettings, hessianSettings } from './settings.js'
import {
  clustersExperiment,
  dataExperiment,
  separabilityExperiment,
  widthExperiment,
} from './sweeps.js'
import { trainingExperiment } from './training.js'

/** Experiments of the paper at a scale where every eigenvalue can be computed. */
export const hessianPaper: Paper<HessianSettings, HessianResults> = {
  name: 'hessian',
  title: 'The Hessian of over-parametrized networks, reproduced',
  reference:
    'Sagun, Evci, Güney, Dauphin, Bottou: Empirical Analysis of the Hessian of ' +
    'Over-Parametrized Neural Networks, arXiv 1706.04454',
  settings: hessianSettings,
  experiments: (settings) => ({
    classes: classesExperiment,
    training: trainingExperiment,
    clusters: clustersExperiment,
    width: widthExperiment,
    separability: separabilityExperiment,
    batch: batchExperiment,
    ...(settings.data && { data: dataExperiment }),
  }),
  conclude: (results, settings) => ({
    claims: hessianClaims(results),
    sections: hessianSections(results, settings),
  }),
}
