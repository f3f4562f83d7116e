import { attentionSpectrumFigure } from '../../report/charts/attention-spectrum.js'
import { densityOverlay } from '../../report/charts/density-overlay.js'
import { histogramFigure } from '../../report/charts/histograms.js'
import { seriesChart } from '../../report/charts/series.js'
import { surfaceFigure } from '../../report/charts/surface.js'
import type { ReportSection } from '../../report/data.js'
import { formatNumber, formatPercent } from '../../report/format.js'
import type { Figure } from '../../report/theme.js'
import type { Results, SeedResult } from '../paper.js'
import { variantTable } from '../table.js'
import { type KaratResults, roughnessOf, topOf } from './claims.js'
import type { MemoryRow } from './memory.js'
import { type KaratSettings, VARIANT_NAMES, VARIANTS, type VariantName } from './settings.js'
import type { VariantResult } from './variant.js'

type Part = Partial<Results<KaratResults>>
type Seeds = readonly SeedResult<VariantResult>[]
type Found = readonly (readonly [name: VariantName, seeds: Seeds])[]

/** Text, tables and pictures of the experiments; pictures of one network show the first seed. */
export function karatSections(results: Part, settings: KaratSettings): ReportSection[] {
  const found: Found = VARIANT_NAMES.flatMap((name) => {
    const seeds = results[name] as Seeds | undefined
    return seeds && seeds.length > 0 ? [[name, seeds] as const] : []
  })
  return [
    ...training(found, settings),
    ...transfer(results),
    ...attention(found, settings),
    ...landscapes(found, settings),
    ...weights(found),
    ...cost(found),
    ...memory(results.memory?.[0]?.result, settings),
  ]
}

const present = (...figures: (Figure | undefined)[]): Figure[] => figures.flatMap((f) => f ?? [])

function training(found: Found, { data, network, training }: KaratSettings): ReportSection[] {
  if (found.length === 0) return []
  const last = (r: VariantResult) => r.rows[r.rows.length - 1]
  const [kind] = data.spec.split(':')
  const curves = (key: 'trainLoss' | 'testAccuracy') =>
    found.flatMap(([name, seeds]) =>
      seeds.map(({ result }) => ({
        name: VARIANTS[name].label,
        points: result.rows.map((row) => [row.epoch, row[key] ?? Number.NaN] as const),
      })),
    )
  const figure = { subtitle: `${kind} · a line for every seed`, x: { title: 'Epoch' } }
  return [
    {
      title: 'Accuracy',
      text: [
        `${kind}, ${data.samples} training and ${data.test} test images. Vision transformers of width ` +
          `${network.width}, ${network.depth} blocks, ${network.heads} heads, r = ${network.rank}; AdamW at ` +
          `${training.learningRate} with a cosine after ${training.warmup} steps, weight decay ` +
          `${training.weightDecay}, gradients clipped at ${training.clipNorm}, batches of ` +
          `${training.batch}, ${training.epochs} epochs, no augmentation.`,
      ],
      tables: [
        variantTable(found, VARIANTS, [
          ['Test accuracy (%)', (r) => 100 * r.accuracy],
          ['Test loss', (r) => last(r)?.testLoss ?? Number.NaN],
          ['Training loss', (r) => last(r)?.trainLoss ?? Number.NaN],
          ['Parameters', (r) => r.parameters.all],
          ['In learnable attention', (r) => r.parameters.counted],
          ['By the law', (r) => r.parameters.law],
        ]),
      ],
      figures: [
        seriesChart({
          ...figure,
          id: 'karat-loss',
          title: 'Training loss',
          caption: 'Mean loss over the batches of an epoch.',
          y: { title: 'Loss', scale: 'log' },
          series: curves('trainLoss'),
        }),
        seriesChart({
          ...figure,
          id: 'karat-accuracy',
          title: 'Test accuracy',
          caption: 'Share of test images that are classified rightly.',
          y: { title: 'Accuracy', format: '.0%' },
          series: curves('testAccuracy'),
        }),
      ],
    },
  ]
}

function transfer({ transfer: seeds, softmax }: Part): ReportSection[] {
  if (!seeds?.length) return []
  const rows = seeds.map(({ seed, result }) => [
    `seed ${seed}`,
    formatPercent(softmax?.find((one) => one.seed === seed)?.result.accuracy),
    formatPercent(result.teacher),
    formatPercent(result.student),
    formatNumber(result.parameters),
  ])
  const header = ['Test accuracy', 'Softmax', 'Teacher G3B', 'Student', 'Parameters of the student']
  return [
    {
      title: 'Attention transfer',
      text: [
        'The student has no queries and keys: every image comes with the attention matrices that ' +
          'the trained teacher has for it.',
      ],
      tables: [{ header, rows }],
    },
  ]
}

function attention(found: Found, { analysis, network }: KaratSettings): ReportSection[] {
  if (found.length === 0) return []
  return [
    {
      title: 'Singular values of attention',
      text: [
        `All heads and blocks on ${analysis.images} test images, from the whole N x N matrices in ` +
          `float64; r = ${network.rank}.`,
      ],
      tables: [
        variantTable(found, VARIANTS, [
          ['Tokens N', (r) => r.ranks.tokens],
          ['σ_(r+1) / σ_1, largest', (r) => r.ranks.beyond],
          ['Above 1e-6 σ_1, fewest', (r) => r.ranks.least],
        ]),
      ],
      figures: found.flatMap(([name, seeds]) => {
        const { seed, result } = seeds[0]
        const { scores, weights, least } = result.ranks
        const rank = { min: least, max: least }
        const range = { min: 0, max: 0 }
        const drawn = attentionSpectrumFigure(
          { block: result.ranks.block, scores, weights, rank, range },
          { id: `karat-spectrum-${name}`, subtitle: `${VARIANTS[name].label} · seed ${seed}` },
        )
        return present(drawn)
      }),
    },
  ]
}

function landscapes(found: Found, { analysis }: KaratSettings): ReportSection[] {
  const shown = found.filter(([, seeds]) => seeds.some(({ result }) => result.landscape))
  if (shown.length === 0) return []
  const spectra = shown.flatMap(([name, seeds]) => {
    const { landscape, parameters } = seeds[0].result
    if (!landscape) return []
    const { nodes, weights } = landscape
    return [{ name: VARIANTS[name].label, size: parameters.all, measure: { nodes, weights } }]
  })
  return [
    {
      title: 'Loss surface and Hessian',
      text: [
        `Surfaces: ${analysis.grid} × ${analysis.grid} points in the plane of the start and the ends of ` +
          `all epochs, ${analysis.surfaceSamples} test images. Hessian: ${analysis.hessianSamples} training ` +
          'images, at the end of the training. Networks end at different losses: compare with care.',
      ],
      tables: [
        variantTable(shown, VARIANTS, [
          ['Roughness', roughnessOf],
          ['Extrema', (r) => r.landscape?.surface.roughness.extrema ?? Number.NaN],
          ['λ_1', topOf],
          ['λ_2', (r) => r.landscape?.eigenvalues[1] ?? Number.NaN],
          [
            'Variance in the plane',
            (r) => (r.landscape?.surface.explained ?? []).slice(0, 2).reduce((a, b) => a + b, 0),
          ],
          ['Training loss', (r) => r.rows[r.rows.length - 1]?.trainLoss ?? Number.NaN],
        ]),
      ],
      figures: [
        ...shown.flatMap(([name, seeds]) => {
          const { seed, result } = seeds[0]
          if (!result.landscape) return []
          const rest = { histograms: [], time_ms: 0, device: '' }
          return present(
            surfaceFigure(
              { ...result.landscape.surface, ...rest },
              { id: `karat-surface-${name}`, name: `${VARIANTS[name].label} · seed ${seed}` },
            ),
          )
        }),
        ...present(
          densityOverlay(spectra, {
            id: 'karat-hessian',
            title: 'Hessian spectra',
            subtitle: `trained networks · seed ${shown[0][1][0].seed}`,
          }),
        ),
      ],
    },
  ]
}

function weights(found: Found): ReportSection[] {
  if (found.length === 0) return []
  return [
    {
      title: 'Weights through training',
      tables: [
        variantTable(found, VARIANTS, [['Share within ±0.01 (%)', (r) => 100 * r.nearZero]]),
      ],
      figures: found
        .filter(([name]) => name === 'softmax' || name === 'g3b')
        .flatMap(([name, seeds]) =>
          present(
            histogramFigure(seeds[0].result.histograms, {
              id: `karat-weights-${name}`,
              title: 'Weights through training',
              subtitle: VARIANTS[name].label,
              caption: 'Density of all weights at the start, half way and at the end.',
              axis: 'Weight',
            }),
          ),
        ),
    },
  ]
}

function cost(found: Found): ReportSection[] {
  if (found.length === 0) return []
  const batch = found[0][1][0].result.cost.batch
  return [
    {
      title: 'Cost',
      text: [
        `A pass over ${batch} images, float32. Operations of the activation: an image, by the law of ` +
          "the paper's cost table, (3 G + 1) N² r h L and 3 N² h L for softmax. Memory is that of all " +
          'intermediate results; times are medians beside whatever else the machine did.',
      ],
      tables: [
        variantTable(found, VARIANTS, [
          ['Operations of the activation', (r) => r.cost.activationOperations],
          ['Forward (MiB)', (r) => r.cost.forwardBytes / 2 ** 20],
          ['With gradients (MiB)', (r) => r.cost.trainingBytes / 2 ** 20],
          ['Images/s forward', (r) => r.cost.forwardImagesPerSecond],
          ['Images/s with gradients', (r) => r.cost.trainingImagesPerSecond],
        ]),
      ],
    },
  ]
}

function memory(
  rows: readonly MemoryRow[] | undefined,
  { memory: { batch, tokens, heads, headWidth } }: KaratSettings,
): ReportSection[] {
  if (!rows?.length) return []
  const mebibytes = (bytes: number): string => formatNumber(bytes / 2 ** 20, 3)
  return [
    {
      title: 'Memory of a layer',
      text: [
        `Forward and backward of one layer, batch ${batch}, ${heads} heads of width ${headWidth}, ` +
          `${tokens} tokens, in MiB of float32, beside inputs and gradients. One tensor of scores ` +
          'would be the fourth column.',
      ],
      tables: [
        {
          header: ['Layer', 'Working memory', 'Z', 'Scores', 'Parameters'],
          rows: rows.map(({ size, arena, latents, scores, parameters }) => [
            size ? `G = ${size.G}, r = ${size.r}` : 'softmax',
            mebibytes(arena),
            mebibytes(latents),
            mebibytes(scores),
            mebibytes(parameters),
          ]),
        },
      ],
    },
  ]
}
