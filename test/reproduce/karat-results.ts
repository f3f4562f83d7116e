import type { KaratResults } from '../../lib/reproduce/karat/claims.js'
import type { MemoryRow } from '../../lib/reproduce/karat/memory.js'
import { VARIANT_NAMES, type VariantName } from '../../lib/reproduce/karat/settings.js'
import type { VariantResult } from '../../lib/reproduce/karat/variant.js'
import type { Results } from '../../lib/reproduce/paper.js'

/** What a variant is like when everything holds. */
const TYPICAL: Record<VariantName, { accuracy: number; nearZero: number; top: number | null }> = {
  softmax: { accuracy: 0.6, nearZero: 0.3, top: 10 },
  g1b: { accuracy: 0.8, nearZero: 0.4, top: null },
  g3b: { accuracy: 0.8, nearZero: 0.4, top: 30 },
  g3u: { accuracy: 0.8, nearZero: 0.4, top: null },
  g3bLatent: { accuracy: 0.3, nearZero: 0.4, top: null },
  g3bOutput: { accuracy: 0.5, nearZero: 0.4, top: null },
  g11b: { accuracy: 0.7, nearZero: 0.4, top: null },
}

const histogram = {
  name: 'start',
  range: 0.1,
  counts: [1, 2, 1],
  outside: 0,
  total: 4,
  mean: 0,
  deviation: 0.05,
}

/** A variant that shows what the paper says, but for what `over` changes. */
export function variant(
  name: VariantName,
  over: Partial<VariantResult> & { top?: number; roughness?: number } = {},
): VariantResult {
  const { top: largest, roughness, ...rest } = over
  const { accuracy, nearZero, top } = TYPICAL[name]
  const learnable = name !== 'softmax'
  const band = { min: [0, -1, null], mean: [0, -1, null], max: [0, -1, null] }
  return {
    completed: true,
    chance: 0.1,
    accuracy,
    rows: [2, 1, 0.5].map((loss, i) => ({
      epoch: i + 1,
      trainLoss: loss,
      testLoss: loss,
      testAccuracy: accuracy,
    })),
    parameters: { counted: learnable ? 70 : 0, law: learnable ? 70 : 0, all: 1000 },
    ranks: {
      r: 2,
      tokens: 5,
      beyond: learnable ? 1e-16 : 0.1,
      beyondLeast: learnable ? 1e-17 : 0.01,
      least: learnable ? 2 : 5,
      block: 1,
      scores: band,
      weights: band,
    },
    nearZero,
    histograms: [histogram, { ...histogram, name: 'epoch 3' }],
    cost: {
      parameters: 1000,
      attentionParameters: learnable ? 70 : 0,
      activationOperations: 100,
      batch: 4,
      forwardBytes: 1e5,
      trainingBytes: 3e5,
      forwardImagesPerSecond: 1000,
      trainingImagesPerSecond: 300,
    },
    landscape:
      (largest ?? top) === null
        ? null
        : {
            surface: {
              n: 1000,
              samples: 10,
              split: 'test',
              x: [-1, 0, 1],
              y: [-1, 0, 1],
              loss: [
                [1, 2, 3],
                [1, 0.5, 3],
                [1, 2, null],
              ],
              accuracy: null,
              explained: [0.7, 0.2],
              path: [
                { step: 0, x: 0.8, y: 0.1 },
                { step: 1, x: 0, y: 0 },
              ],
              roughness: {
                index: roughness ?? (name === 'g3b' ? 0.02 : 0.01),
                extrema: 0.1,
                triples: 6,
              },
              dtype: 'f32',
            },
            eigenvalues: [largest ?? top ?? 0, 1],
            nodes: [[-0.1, 0, 1, largest ?? top ?? 0]],
            weights: [[0.1, 0.7, 0.1, 0.1]],
          },
    ...rest,
  }
}

/** Memory of layers; `growth` bytes a byte of Z and parameters. */
export function memory(growth: number): MemoryRow[] {
  const row = (size: MemoryRow['size'], held: number): MemoryRow => ({
    size,
    arena: 1000 + growth * held,
    latents: held / 2,
    parameters: held / 2,
    scores: 5000,
  })
  return [row(null, 0), row({ G: 1, r: 2 }, 100), row({ G: 3, r: 12 }, 800)]
}

/** Results of one seed in which every claim holds. */
export function exemplary(): Results<KaratResults> {
  const one = <R>(result: R) => [{ seed: 0, result }]
  return {
    ...(Object.fromEntries(
      VARIANT_NAMES.map((name) => [name, one(variant(name))]),
    ) as unknown as Results<Record<VariantName, VariantResult>>),
    memory: one(memory(2)),
    transfer: one({ teacher: 0.8, student: 0.85, parameters: 900 }),
  }
}
