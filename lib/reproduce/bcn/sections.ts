import { densityOverlay } from '../../report/charts/density-overlay.js'
import { type Series, seriesChart } from '../../report/charts/series.js'
import type { ReportSection } from '../../report/data.js'
import type { Figure } from '../../report/theme.js'
import type { Results, SeedResult } from '../paper.js'
import { rangeText, variantTable } from '../table.js'
import { type BcnResults, betaOf, divergenceOf, topOf } from './claims.js'
import { STACK_NORM_NAMES, STACK_NORMS, type StackRow } from './initialization.js'
import { type Regime, rateOf } from './network.js'
import { type BcnSettings, VARIANT_NAMES, VARIANTS, type VariantName } from './settings.js'
import type { VariantResult } from './variant.js'

type Part = Partial<Results<BcnResults>>
type Found = readonly (readonly [name: VariantName, seeds: readonly SeedResult<VariantResult>[]])[]

/** Text, tables and pictures of the experiments. */
export function bcnSections(results: Part, settings: BcnSettings): ReportSection[] {
  const found: Found = VARIANT_NAMES.flatMap((name) => {
    const seeds = results[name] as readonly SeedResult<VariantResult>[] | undefined
    return seeds && seeds.length > 0 ? [[name, seeds] as const] : []
  })
  return [
    ...initialization(results.initialization ?? [], settings),
    ...(found.length > 0
      ? [
          training(found, settings),
          channels(found, settings),
          smoothness(found, settings),
          curvature(found, settings),
        ]
      : []),
  ]
}

function initialization(
  seeds: readonly SeedResult<readonly StackRow[]>[],
  { stack }: BcnSettings,
): ReportSection[] {
  if (seeds.length === 0) return []
  const { depth, channels, groups, images, pixels } = stack
  const shown = [Math.min(4, depth - 1), depth - 1]
  const rows = STACK_NORM_NAMES.map((norm) => {
    const own = seeds.flatMap(({ result }) => result.filter((row) => row.norm === norm))
    const cell = (key: 'divergence' | 'dead' | 'linear', l: number) =>
      rangeText(own.map((row) => row[key][l]))
    return [
      STACK_NORMS[norm].label,
      ...shown.map((l) => cell('divergence', l)),
      cell('dead', depth - 1),
      cell('linear', depth - 1),
    ]
  })
  const series = STACK_NORM_NAMES.flatMap((norm) =>
    seeds.flatMap(({ result }) =>
      result
        .filter((row) => row.norm === norm)
        .map((row) => ({
          name: STACK_NORMS[norm].label,
          points: row.divergence.map((d, l) => [l + 1, Math.max(d, 1e-6)] as const),
        })),
    ),
  )
  return [
    {
      title: 'Channels at the start',
      text: [
        `A stack of ${depth} layers 1 x 1 convolution (He) → norm → ReLU, ${channels} channels in ` +
          `${groups} groups, ${images} Gaussian images of ${pixels} pixels. Before each ReLU: the mean ` +
          'divergence KL(N(μ, s²), N(0, 1)) of the channels, and the shares of channels that are ' +
          'active for less than 2 % (dead) or more than 98 % (linear) of the values.',
      ],
      tables: [
        {
          header: [
            'Over the seeds',
            ...shown.map((l) => `Divergence, layer ${l + 1}`),
            `Dead, layer ${depth}`,
            `Linear, layer ${depth}`,
          ],
          rows,
        },
      ],
      figures: [
        seriesChart({
          id: 'bcn-start',
          title: 'Channels at the start',
          subtitle: 'stack of 1 x 1 convolutions · a line for every seed',
          caption:
            'Mean divergence of the channels from N(0, 1) before each ReLU; below 1e-6 drawn there.',
          x: { title: 'Layer' },
          y: { title: 'Divergence', scale: 'log' },
          series,
        }),
      ],
    },
  ]
}

/** A line for every variant and seed. */
function lines(
  found: Found,
  points: (r: VariantResult) => readonly (readonly [number, number])[],
): Series[] {
  return found.flatMap(([name, seeds]) =>
    seeds.map(({ result }) => ({ name: VARIANTS[name].label, points: points(result) })),
  )
}

const REGIMES: readonly Regime[] = ['large', 'micro']

const batchText = (regime: Regime, { training }: BcnSettings): string =>
  `batch ${regime === 'large' ? training.batch : training.micro}`

function training(found: Found, settings: BcnSettings): ReportSection {
  const { data, network, training } = settings
  const [kind] = data.spec.split(':')
  return {
    title: 'Micro-batches',
    text: [
      `${kind}, ${data.samples} training and ${data.test} test images. ResNet-${network.depth} of ` +
        `width ${network.width}, ${network.groups} groups; SGD with momentum ${training.momentum}, ` +
        `weight decay ${training.weightDecay}, learning rate ${rateOf('large', settings)} at batch ` +
        `${training.batch} and ${rateOf('micro', settings)} at ${training.micro}, cosine after a ` +
        `warm-up of ${100 * training.warmup} %, ${training.epochs} epochs at both, no augmentation. ` +
        `At batch ${training.micro} BCN uses running estimates of rate ${training.rate}. Nothing is ` +
        'tuned for one of the norms.',
    ],
    tables: [
      variantTable(found, VARIANTS, [
        ...REGIMES.flatMap((regime): [string, (r: VariantResult) => number][] => {
          const at = batchText(regime, settings)
          return [
            [`Test accuracy (%), ${at}`, (r) => 100 * r[regime].accuracy],
            [`Training loss, ${at}`, (r) => r[regime].trainLoss ?? Number.NaN],
          ]
        }),
        ['Parameters', (r) => r.parameters],
      ]),
    ],
    figures: REGIMES.map((regime) =>
      seriesChart({
        id: `bcn-accuracy-${regime}`,
        title: `Test accuracy, ${batchText(regime, settings)}`,
        subtitle: `${kind} · a line for every seed`,
        caption: 'Share of test images that are classified rightly.',
        x: { title: 'Epoch' },
        y: { title: 'Accuracy', format: '.0%' },
        series: lines(found, (r) =>
          r[regime].tests.map(({ share, accuracy }) => [share * training.epochs, accuracy]),
        ),
      }),
    ),
  }
}

function channels(found: Found, settings: BcnSettings): ReportSection {
  const { analysis, training } = settings
  const lastOf = (r: VariantResult, regime: Regime, key: 'distance' | 'dead' | 'linear') =>
    r[regime].channels.at(-1)?.[key] ?? Number.NaN
  return {
    title: 'Channels through the training',
    text: [
      `Norms that a ReLU follows directly, on ${analysis.images} test images with the statistics of ` +
        'evaluation, affine parts included. Divergence: median over the channels, mean over the ' +
        'layers; distance: squared 2-Wasserstein between the channels of a group.',
    ],
    tables: REGIMES.map((regime) => ({
      ...variantTable(found, VARIANTS, [
        ['Divergence over the training', (r) => divergenceOf(r[regime])],
        ['Distance at the end', (r) => lastOf(r, regime, 'distance')],
        ['Dead at the end', (r) => lastOf(r, regime, 'dead')],
        ['Linear at the end', (r) => lastOf(r, regime, 'linear')],
      ]),
    })).map(({ header, rows }, i) => ({
      header: [`Over the seeds, ${batchText(REGIMES[i], settings)}`, ...header.slice(1)],
      rows,
    })),
    figures: REGIMES.map((regime) =>
      seriesChart({
        id: `bcn-channels-${regime}`,
        title: `Divergence of the channels, ${batchText(regime, settings)}`,
        subtitle: 'norms before a ReLU · a line for every seed',
        caption: 'KL(N(μ, s²), N(0, 1)), median over channels, mean over layers.',
        x: { title: 'Epoch' },
        y: { title: 'Divergence', scale: 'log' },
        series: lines(found, (r) =>
          r[regime].channels.map(({ share, divergence }) => [
            share * training.epochs,
            divergence ?? Number.NaN,
          ]),
        ),
      }),
    ),
  }
}

function smoothness(found: Found, settings: BcnSettings): ReportSection {
  const { analysis, training } = settings
  const rate = rateOf('large', settings)
  const etas = analysis.steps.map((factor) => factor * rate).join(', ')
  const curve = (key: 'beta' | 'variation') =>
    lines(found, (r) =>
      r.smoothness.map((row) => [row.share * training.epochs, row[key] ?? Number.NaN]),
    )
  const figure = {
    subtitle: `batch ${training.batch} · a line for every seed`,
    x: { title: 'Epoch' },
  }
  const end = (r: VariantResult) => r.smoothness[r.smoothness.length - 1]
  return {
    title: 'Smoothness along the training',
    text: [
      `Steps of η = ${etas} against the gradient of one batch of ${training.batch} training images, ` +
        'with its statistics. Effective β: largest ‖g(θ - η g) - g‖ / (η ‖g‖). Networks at different ' +
        'losses have different gradients: read the losses beside it.',
    ],
    tables: [
      variantTable(found, VARIANTS, [
        ['Effective β, geometric mean', (r) => betaOf(r.smoothness)],
        ['β at the end', (r) => end(r)?.beta ?? Number.NaN],
        ['Change of the gradient at the end', (r) => end(r)?.predictiveness ?? Number.NaN],
        ['Gradient norm at the end', (r) => end(r)?.gradientNorm ?? Number.NaN],
        ['Loss at the end', (r) => end(r)?.loss ?? Number.NaN],
      ]),
    ],
    figures: [
      seriesChart({
        ...figure,
        id: 'bcn-beta',
        title: 'Effective smoothness',
        caption: 'Largest change of the gradient per distance, along the gradient.',
        y: { title: 'β', scale: 'log' },
        series: curve('beta'),
      }),
      seriesChart({
        ...figure,
        id: 'bcn-variation',
        title: 'Variation of the loss along the gradient',
        caption: 'Largest minus smallest loss over all steps.',
        y: { title: 'Variation', scale: 'log' },
        series: curve('variation'),
      }),
    ],
  }
}

function curvature(found: Found, { analysis }: BcnSettings): ReportSection {
  const shown = found.filter(([, seeds]) => seeds.some(({ result }) => result.landscape))
  const spectra = shown.flatMap(([name, [{ result }]]) => {
    if (!result.landscape) return []
    const { nodes, weights } = result.landscape
    return [{ name: VARIANTS[name].label, size: result.parameters, measure: { nodes, weights } }]
  })
  const overlay: Figure | undefined =
    spectra.length > 0
      ? densityOverlay(spectra, {
          id: 'bcn-hessian',
          title: 'Hessian spectra',
          subtitle: `trained networks, frozen statistics · seed ${shown[0][1][0].seed}`,
        })
      : undefined
  const standardized = shown.filter(([name]) => VARIANTS[name].ws)
  const flat = (key: 'count' | 'share' | 'residual' | 'control') => (r: VariantResult) =>
    r.landscape?.flat?.[key] ?? Number.NaN
  return {
    title: 'Hessian and flat directions',
    text: [
      `At the end of the training at the large batch, ${analysis.hessianSamples} training images, ` +
        'statistics over the batch frozen. A standardised filter does not see its mean: each gives an ' +
        'exact null vector. ‖H u‖ / ‖H‖ is that of combinations of all of them, beside that of a random ' +
        'direction. Centring and scaling: shares of the squared gradient in the standardised filters that ' +
        'are taken away, means over the layers.',
    ],
    tables: [
      variantTable(shown, VARIANTS, [
        ['λ_1', topOf],
        ['λ_2', (r) => r.landscape?.eigenvalues[1] ?? Number.NaN],
        ['Loss of a batch', (r) => r.smoothness.at(-1)?.loss ?? Number.NaN],
      ]),
      ...(standardized.length > 0
        ? [
            variantTable(standardized, VARIANTS, [
              ['Flat directions', flat('count')],
              ['Of all (%)', (r) => 100 * flat('share')(r)],
              ['‖H u‖ / ‖H‖', flat('residual')],
              ['Random direction', flat('control')],
              ['Centring', (r) => r.landscape?.ratios?.centering ?? Number.NaN],
              ['Scaling', (r) => r.landscape?.ratios?.scaling ?? Number.NaN],
            ]),
          ]
        : []),
    ],
    figures: overlay ? [overlay] : [],
  }
}
