import { classScatter } from '../../report/charts/class-scatter.js'
import { densityOverlay } from '../../report/charts/density-overlay.js'
import { ridge } from '../../report/charts/ridge.js'
import { type Series, seriesChart } from '../../report/charts/series.js'
import { sortedEigenvalues } from '../../report/charts/sorted.js'
import { formatNumber } from '../../report/format.js'
import type { Figure } from '../../report/theme.js'
import type { SeedResult } from '../paper.js'
import type { BatchResult } from './batch.js'
import type { ClassCount } from './classes.js'
import { measureOf, type StoredSpectrum } from './network.js'
import type { SweepPoint } from './sweeps.js'
import type { TrainingSpectra } from './training.js'

type Seeds<R> = readonly SeedResult<R>[]

const named = (name: string, spectrum: StoredSpectrum) => ({
  name,
  size: spectrum.size,
  measure: measureOf(spectrum),
})

const count = (seeds: Seeds<unknown>): string =>
  `${seeds.length} seed${seeds.length === 1 ? '' : 's'}`

const present = (...figures: (Figure | undefined)[]): Figure[] => figures.flatMap((f) => f ?? [])

/** All eigenvalues at the start and at the end, for the most classes. */
export function beforeAndAfter(seeds: Seeds<readonly ClassCount[]>): Figure[] {
  const { seed, result } = seeds[0]
  const most = result[result.length - 1]
  const curves = [most.stages[0], most.stages[most.stages.length - 1]].flatMap((stage) =>
    'values' in stage.hessian
      ? [{ name: stage.step === 0 ? 'random start' : 'trained', values: stage.hessian.values }]
      : [],
  )
  return present(
    sortedEigenvalues(curves, {
      id: 'before-and-after',
      title: 'Hessian before and after training',
      subtitle: `C = ${most.classes} · n = ${formatNumber(most.size)} · seed ${seed}`,
    }),
  )
}

export function throughTraining(seeds: Seeds<TrainingSpectra>): Figure[] {
  const { seed, result } = seeds[0]
  return present(
    ridge(
      result.checkpoints.map(({ step, spectrum }) => named(`step ${step}`, spectrum)),
      {
        id: 'through-training',
        title: 'Spectrum through training',
        subtitle: `all eigenvalues of the Hessian · n = ${formatNumber(result.size)} · seed ${seed}`,
      },
    ),
  )
}

export function layers(seeds: Seeds<TrainingSpectra>): Figure[] {
  const { seed, result } = seeds[0]
  const last = result.checkpoints[result.checkpoints.length - 1]
  return present(
    ridge(
      [
        named('whole', last.spectrum),
        ...result.layers.map(({ name, spectrum }) => named(name, spectrum)),
      ],
      {
        id: 'layers',
        title: 'Spectra of the layers',
        subtitle: `diagonal blocks of the Hessian after ${last.step} steps · seed ${seed}`,
        caption:
          'The whole Hessian and its diagonal blocks, one for the weights and biases of each layer. ' +
          'The blocks of a ReLU network equal those of G, so none has negative eigenvalues: these ' +
          'come from the coupling of layers. ' +
          'Heights are logarithmic (eigenvalues per decade) and the same scale for all rows.',
      },
    ),
  )
}

export function outlierCounts(seeds: Seeds<readonly ClassCount[]>): Figure[] {
  const classes = seeds[0].result.map((entry) => entry.classes)
  const mean = (of: (entry: ClassCount) => number): Series['points'] =>
    classes.map((c, k) => [
      c,
      seeds.reduce((sum, { result }) => sum + of(result[k]), 0) / seeds.length,
    ])
  const last = (entry: ClassCount) => entry.stages[entry.stages.length - 1]
  const rules = [
    ['gap', 'gap'],
    ['energy, 90 %', 'energy'],
    ['above 0.1 λ_max', 'threshold'],
  ] as const
  return [
    seriesChart({
      id: 'outliers-classes',
      title: 'Outliers against classes',
      subtitle: `after training · mean over ${count(seeds)}`,
      caption:
        'Number of outliers by three rules against the number of classes, and C itself for ' +
        'comparison. The robust bulk edge counts far more and stands in the table.',
      x: { title: 'Classes C', ticks: classes, format: 'd' },
      y: { title: 'Outliers', zero: true },
      series: [
        ...rules.map(([name, rule]) => ({ name, points: mean((e) => last(e).outliers[rule]) })),
        { name: 'C', points: classes.map((c) => [c, c] as const) },
      ],
    }),
    seriesChart({
      id: 'energy-classes',
      title: 'Weight of the top C eigenvalues',
      subtitle: `E_C = Σ λ² of the top C over ‖H‖² · ${count(seeds)}`,
      caption:
        'Before training the top C eigenvalues are nothing special; afterwards they carry it.',
      x: { title: 'Classes C', ticks: classes, format: 'd' },
      y: { title: 'E_C', zero: true },
      rules: [
        { y: 0.75, label: 'after: above 0.75' },
        { y: 0.2, label: 'before: below 0.2' },
      ],
      series: seeds.flatMap(({ result }) => [
        { name: 'trained', points: result.map((e) => [e.classes, last(e).energy] as const) },
        {
          name: 'random start',
          points: result.map((e) => [e.classes, e.stages[0].energy] as const),
        },
      ]),
    }),
  ]
}

/** The class means for the most classes, and how far their eigenvalues reach those of G. */
export function classStructure(seeds: Seeds<readonly ClassCount[]>): Figure[] {
  const { seed, result } = seeds[0]
  const { classes, structure } = result[result.length - 1]
  const ranked = (name: string, values: readonly number[]): Series => ({
    name,
    points: values.map((value, i) => [i + 1, value] as const),
  })
  return present(
    classScatter(structure.points, { subtitle: `C = ${classes} · after training · seed ${seed}` }),
    seriesChart({
      id: 'class-eigenvalues',
      title: 'Outliers of G and of its class means',
      subtitle: `C = ${classes} · after training · seed ${seed}`,
      caption:
        'The C largest eigenvalues of G, of the class means G₀ + G₁ + G₂ together, and of G₁ alone.',
      x: { title: 'Rank from the largest', format: 'd' },
      y: { title: 'Eigenvalue', zero: true },
      series: [
        ranked('G', structure.gaussNewton),
        ranked('G₀ + G₁ + G₂', structure.sum),
        ranked('G₁', structure.g1),
      ],
    }),
  )
}

export function clusterCounts(seeds: Seeds<readonly SweepPoint[]>): Figure[] {
  return [
    seriesChart({
      id: 'outliers-clusters',
      title: 'Outliers against clusters',
      subtitle: `equal labels and network · ${count(seeds)}`,
      caption: 'Eigenvalues above a tenth of the largest, one line a seed.',
      x: {
        title: 'Clusters in the data',
        ticks: seeds[0].result.map(({ value }) => value),
        format: 'd',
      },
      y: { title: 'Eigenvalues above 0.1 λ_max', zero: true },
      series: seeds.map(({ seed, result }) => ({
        name: `seed ${seed}`,
        points: result.map((p) => [p.value, p.large] as const),
      })),
    }),
  ]
}

export function widths(seeds: Seeds<readonly SweepPoint[]>): Figure[] {
  return widthFigures(seeds, 'width')
}

export function realData(seeds: Seeds<readonly SweepPoint[]>): Figure[] {
  return widthFigures(seeds, 'data')
}

function widthFigures(seeds: Seeds<readonly SweepPoint[]>, id: string): Figure[] {
  const { seed, result } = seeds[0]
  return present(
    densityOverlay(
      result.map((p) => named(`width ${p.value}, n = ${formatNumber(p.size)}`, p.hessian)),
      {
        id: `${id}-densities`,
        title: 'Spectra of growing networks',
        subtitle: `same data and steps · seed ${seed}`,
      },
    ),
    seriesChart({
      id: `${id}-counts`,
      title: 'Parameters and eigenvalues that count',
      subtitle: `${count(seeds)}`,
      caption:
        'The number of parameters, and of eigenvalues above one per cent of the largest in ' +
        'magnitude: extra parameters mostly add to the bulk at zero.',
      x: { title: 'Width of both hidden layers', ticks: result.map((p) => p.value), format: 'd' },
      y: { title: 'Number', scale: 'log' },
      series: [
        { name: 'parameters n', points: result.map((p) => [p.value, p.size] as const) },
        ...seeds.map((s) => ({
          name: '|λ| > 0.01 λ_max',
          points: s.result.map((p) => [p.value, p.nonNegligible] as const),
        })),
      ],
    }),
  )
}

export function separability(seeds: Seeds<readonly SweepPoint[]>): Figure[] {
  const { seed, result } = seeds[0]
  return present(
    densityOverlay(
      result.map((p) => named(`deviation ${p.value}`, p.hessian)),
      {
        id: 'separability-densities',
        title: 'Spectra of more and more overlapping data',
        subtitle: `same network and steps · seed ${seed}`,
      },
    ),
    seriesChart({
      id: 'separability-largest',
      title: 'Largest and median eigenvalue against overlap',
      subtitle: `${count(seeds)}`,
      caption: 'Overlap moves the outliers; the median magnitude follows as the fit gets worse.',
      x: { title: 'Deviation of the blobs', ticks: result.map((p) => p.value), format: '.3~g' },
      y: { title: 'Eigenvalue', scale: 'log' },
      series: seeds.flatMap((s) => [
        { name: 'λ_max', points: s.result.map((p) => [p.value, p.largest] as const) },
        { name: 'median |λ|', points: s.result.map((p) => [p.value, p.median] as const) },
      ]),
    }),
  )
}

export function batches(seeds: Seeds<BatchResult>): Figure[] {
  const [first] = seeds
  return present(
    seriesChart({
      id: 'batch-switch',
      title: 'Loss through the switch to small batches',
      subtitle: `loss over all samples · ${count(seeds)}`,
      caption: 'The loss jumps when the batch shrinks, as if a basin were left, then falls again.',
      x: { title: 'Optimiser step', format: ',d' },
      y: { title: 'Training loss', zero: true },
      points: false,
      marks: [{ x: first.result.switchAt, label: 'small batches' }],
      series: seeds.map(({ seed, result }) => ({
        name: `seed ${seed}`,
        points: result.trajectory,
      })),
    }),
    seriesChart({
      id: 'batch-line',
      title: 'Straight lines between solutions',
      subtitle: `from the large-batch solution (α = 0) · ${count(seeds)}`,
      caption:
        'Training loss on the straight line to the small-batch solution (no barrier) and to a ' +
        'large-batch solution from another start (a barrier).',
      x: { title: 'Position α' },
      y: { title: 'Training loss', scale: 'log' },
      points: false,
      series: seeds.flatMap(({ result }) => [
        { name: 'to the small-batch solution', points: pairs(result.line) },
        { name: 'to another start', points: pairs(result.independentLine) },
      ]),
    }),
    densityOverlay(
      [
        named('large batch', first.result.large.spectrum),
        named('small batch', first.result.small.spectrum),
      ],
      {
        id: 'batch-densities',
        title: 'Spectra after large and small batches',
        subtitle: `seed ${first.seed}`,
      },
    ),
  )
}

function pairs({ alpha, loss }: BatchResult['line']): Series['points'] {
  return alpha.map((a, i) => [a, loss[i]] as const)
}
