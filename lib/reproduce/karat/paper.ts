import type { Experiment, Paper } from '../paper.js'
import { type KaratResults, karatClaims } from './claims.js'
import { memoryExperiment } from './memory.js'
import { karatSections } from './sections.js'
import { type KaratSettings, karatSettings, VARIANT_NAMES, type VariantName } from './settings.js'
import { transferExperiment } from './transfer.js'
import { type VariantResult, variantExperiment } from './variant.js'

/** The paper's comparisons at a scale of minutes. */
export const karatPaper: Paper<KaratSettings, KaratResults> = {
  name: 'karat',
  title: 'Kolmogorov-Arnold attention, reproduced',
  reference:
    'Maity, Hitsman, Li, Dutta: Kolmogorov-Arnold Attention: Is Learnable Attention Better For ' +
    'Vision Transformers?, arXiv 2503.10632',
  settings: karatSettings,
  experiments: () => ({
    memory: memoryExperiment,
    ...(Object.fromEntries(VARIANT_NAMES.map((name) => [name, variantExperiment(name)])) as Record<
      VariantName,
      Experiment<KaratSettings, VariantResult>
    >),
    transfer: transferExperiment,
  }),
  conclude: (results, settings) => ({
    claims: karatClaims(results),
    sections: karatSections(results, settings),
  }),
}
