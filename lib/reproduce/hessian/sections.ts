import type { ReportSection, ReportTable } from '../../report/data.js'
import { formatNumber, formatPercent } from '../../report/format.js'
import type { Results, SeedResult } from '../paper.js'
import { rangeText } from '../table.js'
import type { HessianResults } from './claims.js'
import { topOf } from './claims.js'
import type { ClassCount, Stage, Structure } from './classes.js'
import * as figures from './figures.js'
import type { HessianSettings } from './settings.js'
import type { SweepPoint } from './sweeps.js'

/** Text, tables and pictures of the experiments; pictures of single spectra show the first seed. */
export function hessianSections(
  results: Partial<Results<HessianResults>>,
  settings: HessianSettings,
): ReportSection[] {
  return [
    ...decomposition(results, settings),
    ...outliers(results, settings),
    ...structure(results),
    ...width(results, settings),
    ...separability(results, settings),
    ...batch(results, settings),
    ...realData(results, settings),
  ]
}

type Part = Partial<Results<HessianResults>>

function decomposition({ classes, training }: Part, settings: HessianSettings): ReportSection[] {
  if (!classes?.length) return []
  const { problem, checkpoints } = settings.classes
  const last = checkpoints[checkpoints.length - 1]
  return [
    {
      title: 'Before and after training: H = G + F',
      text: [
        `Blobs in ${problem.dim} dimensions (deviation ${problem.std}, jointly standardised), ` +
          `${problem.samples} samples; ReLU network with hidden layers ${problem.hidden.join(', ')}; ` +
          `start N(0, ${settings.initStd}²); full-batch gradient descent, rate ` +
          `${settings.learningRate}, ${last} steps. All eigenvalues in float64. ` +
          'G is the Gauss-Newton part, F the remainder.',
      ],
      tables: [
        stageTable(classes, [
          ['Loss', (s) => s.loss],
          ['‖H − G‖_F / ‖H‖_F', (s) => s.gap],
          ['E_C', (s) => s.energy],
          ['|λ| < 1e-3 λ_max', (s) => s.flatShare],
          ['λ < 0', (s) => s.negativeShare],
          ['−λ_min / λ_max', (s) => s.negativeRatio],
        ]),
      ],
      figures: [
        ...figures.beforeAndAfter(classes),
        ...(training ? figures.throughTraining(training) : []),
        ...(training ? figures.layers(training) : []),
      ],
    },
  ]
}

/** A row for each number of classes, before and after; cells are ranges over seeds. */
function stageTable(
  seeds: readonly SeedResult<readonly ClassCount[]>[],
  columns: readonly (readonly [string, (stage: Stage) => number])[],
): ReportTable {
  const rows = seeds[0].result.flatMap(({ classes }, k) =>
    [0, seeds[0].result[k].stages.length - 1].map((s) => [
      `C = ${classes}, step ${seeds[0].result[k].stages[s].step}`,
      ...columns.map(([, value]) =>
        rangeText(seeds.map(({ result }) => value(result[k].stages[s]))),
      ),
    ]),
  )
  return { header: ['Over the seeds', ...columns.map(([name]) => name)], rows }
}

function outliers({ classes, clusters }: Part, settings: HessianSettings): ReportSection[] {
  if (!classes?.length) return []
  const sections: ReportSection = {
    title: 'Outliers against classes and clusters',
    text: [
      'Rules: gap (largest ratio of neighbours), energy (fewest eigenvalues with 90 % of ‖H‖_F²), ' +
        'edge (above median + 6 MAD on the square-root scale), a tenth of λ_max. They disagree, ' +
        'so all are shown.',
      ...(clusters?.length
        ? [
            `Clusters: ${settings.clusters.problem.classes} labels, given in turn to the clusters; ` +
              `the same network, ${settings.clusters.steps} steps.`,
          ]
        : []),
    ],
    tables: [
      outlierTable(classes),
      ...(clusters?.length ? [sweepTable('Clusters', clusters)] : []),
    ],
    figures: [
      ...figures.outlierCounts(classes),
      ...(clusters?.length ? figures.clusterCounts(clusters) : []),
    ],
  }
  return [sections]
}

function outlierTable(seeds: readonly SeedResult<readonly ClassCount[]>[]): ReportTable {
  const rules = ['gap', 'energy', 'edge', 'threshold'] as const
  const rows = seeds[0].result.map(({ classes }, k) => [
    `C = ${classes}`,
    ...rules.map((rule) =>
      rangeText(seeds.map(({ result }) => result[k].stages.at(-1)?.outliers[rule] ?? Number.NaN)),
    ),
  ])
  return { header: ['After training', 'gap', 'energy', 'edge', '0.1 λ_max'], rows }
}

function sweepTable(
  label: string,
  seeds: readonly SeedResult<readonly SweepPoint[]>[],
): ReportTable {
  const columns: readonly (readonly [string, (point: SweepPoint) => number])[] = [
    ['n', (p) => p.size],
    ['Loss', (p) => p.loss],
    ['λ_max', (p) => p.largest],
    ['|λ| > 0.01 λ_max', (p) => p.nonNegligible],
    ['λ > 0.1 λ_max', (p) => p.large],
    ['E_C', (p) => p.energy],
    ['median |λ|', (p) => p.median],
  ]
  const rows = seeds[0].result.map(({ value }, k) => [
    formatNumber(value),
    ...columns.map(([, of]) => rangeText(seeds.map(({ result }) => of(result[k])))),
  ])
  return { header: [label, ...columns.map(([name]) => name)], rows }
}

function structure({ classes: seeds }: Part): ReportSection[] {
  if (!seeds?.length) return []
  const columns: readonly (readonly [string, (s: Structure) => number])[] = [
    ['λ_1(G)', (s) => s.gaussNewton[0]],
    ['λ_1(G₀ + G₁ + G₂)', (s) => s.sum[0]],
    ['λ_1(G₁)', (s) => s.g1[0]],
    ['G₁ matched in G', (s) => s.matched],
    ['tr G₀ / tr G', (s) => s.traces.g0],
    ['tr G₁ / tr G', (s) => s.traces.g1],
    ['tr G₂ / tr G', (s) => s.traces.g2],
    ['tr G₃ / tr G', (s) => s.traces.g3],
  ]
  const rows = seeds[0].result.map(({ classes }, k) => [
    `C = ${classes}`,
    ...columns.map(([, of]) => rangeText(seeds.map(({ result }) => of(result[k].structure)))),
  ])
  return [
    {
      title: 'Class structure of the Gauss-Newton part',
      text: [
        'G = G₀ + G₁ + G₂ + G₃: means over the samples of a class for its own output (G₀), for the ' +
          'others on average (G₁), their spread (G₂), and what varies within classes (G₃).',
      ],
      tables: [{ header: ['After training', ...columns.map(([name]) => name)], rows }],
      figures: figures.classStructure(seeds),
    },
  ]
}

function width({ width: seeds }: Part, settings: HessianSettings): ReportSection[] {
  if (!seeds?.length) return []
  const { problem, steps } = settings.width
  return [
    {
      title: 'Growing the network at fixed data',
      text: [
        `${problem.classes} classes, ${problem.samples} samples, ${steps} steps. At a fixed number ` +
          'of steps wider networks have reached a smaller loss, and the whole spectrum shrinks ' +
          'with it: compare shapes, not heights.',
      ],
      tables: [sweepTable('Width', seeds)],
      figures: figures.widths(seeds),
    },
  ]
}

function separability({ separability: seeds }: Part, settings: HessianSettings): ReportSection[] {
  if (!seeds?.length) return []
  const { problem, steps } = settings.separability
  return [
    {
      title: 'Changing the data at a fixed network',
      text: [
        `${problem.classes} blobs that overlap more and more, ${steps} steps. Overlapping blobs are ` +
          'not fitted as well in that time, so the bulk grows too.',
      ],
      tables: [sweepTable('Deviation', seeds)],
      figures: figures.separability(seeds),
    },
  ]
}

function batch({ batch: seeds }: Part, settings: HessianSettings): ReportSection[] {
  if (!seeds?.length) return []
  const { problem, large, small, steps } = settings.batch
  const rows = seeds.map(({ seed, result }) => [
    `seed ${seed}`,
    formatNumber(result.large.loss, 3),
    formatNumber(result.spike, 3),
    formatNumber(result.small.loss, 3),
    formatNumber(result.line.barrier, 3),
    formatNumber(result.independentLine.barrier, 3),
    formatNumber(topOf(result.large), 3),
    formatNumber(topOf(result.small), 3),
    formatPercent(result.large.testAccuracy),
    formatPercent(result.small.testAccuracy),
  ])
  return [
    {
      title: 'Large and small batches',
      text: [
        `${problem.samples} samples of ${problem.classes} blobs in ${problem.dim} dimensions ` +
          `(deviation ${problem.std}), hidden layers ${problem.hidden.join(', ')}, plain SGD at rate ` +
          `${settings.learningRate} in fixed cyclic order: ${steps} steps of batch ${large}, then ` +
          `${steps} of batch ${small} from there.`,
      ],
      tables: [
        {
          header: [
            '',
            'Loss, large',
            'Jump',
            'Loss, small',
            'Line over chord',
            'To another start',
            'λ_max, large',
            'λ_max, small',
            'Test, large',
            'Test, small',
          ],
          rows,
        },
      ],
      figures: figures.batches(seeds),
    },
  ]
}

function realData({ data: seeds }: Part, settings: HessianSettings): ReportSection[] {
  if (!seeds?.length || !settings.data) return []
  const { spec, samples, steps } = settings.data
  const [kind] = spec.split(':')
  return [
    {
      title: 'Growing the network on real data',
      text: [`${kind}, the first ${samples} samples, ${steps} steps of full-batch descent.`],
      tables: [sweepTable('Width', seeds)],
      figures: figures.realData(seeds),
    },
  ]
}
