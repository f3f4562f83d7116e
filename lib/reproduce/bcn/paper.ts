import type { Experiment, Paper } from '../paper.js'
import { type BcnResults, bcnClaims } from './claims.js'
import { initializationRows, type StackRow } from './initialization.js'
import { bcnSections } from './sections.js'
import { type BcnSettings, bcnSettings, VARIANT_NAMES, type VariantName } from './settings.js'
import { type VariantResult, variantExperiment } from './variant.js'

/** Channels of a stack at its start; nothing is trained. */
const initialization: Experiment<BcnSettings, readonly StackRow[]> = {
  title: 'channels at the start',
  weight: 0.1,
  dependsOn: ({ stack }) => stack,
  run: ({ device, settings, seed, signal }) =>
    initializationRows(device, settings.stack, { seed, signal }),
}

/** The papers' comparisons at a scale of minutes. */
export const bcnPaper: Paper<BcnSettings, BcnResults> = {
  name: 'bcn',
  title: 'Batch-channel normalization and weight standardization, reproduced',
  reference:
    'Qiao, Wang, Liu, Shen, Yuille: Micro-Batch Training with Batch-Channel Normalization and ' +
    'Weight Standardization, arXiv 1903.10520; Rethinking Normalization and Elimination ' +
    'Singularity in Neural Networks, arXiv 1911.09738',
  settings: bcnSettings,
  experiments: () => ({
    initialization,
    ...(Object.fromEntries(VARIANT_NAMES.map((name) => [name, variantExperiment(name)])) as Record<
      VariantName,
      Experiment<BcnSettings, VariantResult>
    >),
  }),
  conclude: (results, settings) => ({
    claims: bcnClaims(results),
    sections: bcnSections(results, settings),
  }),
}
