import { type Figure, PLOT_WIDTH, titled } from '../theme.js'
import { powerTicks, symmetricLogX, ticksAt } from './axes.js'
import type { ComparisonText } from './density-overlay.js'
import { colorOf, dashOf } from './series.js'

/** All eigenvalues of one matrix, in any order. */
export interface NamedEigenvalues {
  readonly name: string
  readonly values: ArrayLike<number>
}

/** Points a curve. */
const POINTS = 240

/**
 * Eigenvalues by rank from the largest: logarithmic ranks show every outlier and the whole bulk, a
 * symmetric-log height shows sizes and signs.
 */
export function sortedEigenvalues(
  spectra: readonly NamedEigenvalues[],
  { id = 'sorted', title = 'Eigenvalues by rank', subtitle, caption }: ComparisonText,
): Figure | undefined {
  const rows = spectra
    .map(({ name, values }) => ({
      name,
      values: Float64Array.from(values).filter(Number.isFinite).sort().reverse(),
    }))
    .filter(({ values }) => values.length > 0)
  if (rows.length === 0) return undefined
  const low = Math.min(0, ...rows.map(({ values }) => values[values.length - 1]))
  const high = Math.max(0, ...rows.map(({ values }) => values[0]))
  const radius = Math.max(-low, high)
  const c = 1e-6 * radius || 1e-6
  const most = Math.max(...rows.map(({ values }) => values.length))
  const names = rows.map(({ name }) => name)
  const domain = [low < 0 ? 1.5 * low : -c, 1.5 * high || c] as const
  const { axis, ...y } = symmetricLogX('Eigenvalue λ (symmetric-log)', domain, c)
  return {
    id,
    title,
    caption:
      caption ??
      'All eigenvalues from the largest down; ranks are logarithmic, so outliers and bulk are both ' +
        'seen. Below zero: negative curvature.',
    spec: {
      title: titled(title, subtitle),
      width: PLOT_WIDTH,
      height: 236,
      data: {
        values: rows.flatMap(({ name, values }) =>
          ranks(values.length).map((rank) => ({ name, rank, value: values[rank - 1] })),
        ),
      },
      mark: { type: 'line', strokeWidth: 1.5, point: { filled: true, size: 10 } },
      encoding: {
        x: {
          field: 'rank',
          type: 'quantitative',
          title: 'Rank from the largest',
          scale: { type: 'log', domain: [0.9, 1.1 * most], nice: false },
          axis: { ...ticksAt(powerTicks(1, most, 6)), format: ',d' },
        },
        y: { ...y, axis: { ...(axis as object), grid: true, labelOverlap: false }, field: 'value' },
        color: colorOf(names),
        strokeDash: dashOf(names),
      },
    },
  }
}

/** Whole numbers from 1 to n, evenly spread over the logarithm. */
function ranks(n: number): number[] {
  const all = Array.from({ length: POINTS }, (_, i) => Math.round(n ** (i / (POINTS - 1))))
  return [...new Set([...all, n])]
}
