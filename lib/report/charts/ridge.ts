import { type ChartSpec, colors, type Figure, PLOT_WIDTH, titled } from '../theme.js'
import { symmetricLogX, ticksAt } from './axes.js'
import { type NamedSpectrum, sharedDensities } from './densities.js'
import type { ComparisonText } from './density-overlay.js'

/** Height of the tallest ridge in rows: a little overlap reads as one landscape. */
const OVERLAP = 1.5
/** Pixels between base lines. */
const ROW = 42

/**
 * Ridge plot: one density a row, the first on top, over one symmetric-log axis; for a spectrum
 * through training (a row a checkpoint) or layer by layer. Heights are logarithmic and alike.
 */
export function ridge(
  spectra: readonly NamedSpectrum[],
  { id = 'ridge', title = 'Spectrum through training', subtitle, caption }: ComparisonText,
): Figure | undefined {
  const shared = sharedDensities(spectra)
  if (!shared) return undefined
  const { threshold, domain, rows, peak } = shared
  const low = Math.min(0.3, 1e-3 * peak)
  const height = (count: number): number =>
    count <= low ? 0 : (OVERLAP * Math.log(count / low)) / Math.log(peak / low)
  const base = (row: number): number => rows.length - 1 - row
  const values = rows.flatMap(({ grid, counts }, row) =>
    Array.from(grid, (t, i) => ({ row, t, from: base(row), to: base(row) + height(counts[i]) })),
  )
  const x = symmetricLogX('Eigenvalue λ (symmetric-log)', domain, threshold)
  const labels = [...rows].reverse().map(({ name }) => name)
  const widest = Math.max(...labels.map((label) => [...label].length))
  const extent = Math.min(150, 8 + 6 * widest)
  const y: ChartSpec = {
    type: 'quantitative',
    title: null,
    scale: { domain: [0, rows.length - 1 + OVERLAP], nice: false },
    axis: {
      ...ticksAt(labels.map((_, i) => i)),
      labelExpr: `${JSON.stringify(labels)}[round(datum.value)]`,
      labelLimit: 150,
      labelOverlap: false,
      labelColor: colors.text,
      minExtent: extent,
      maxExtent: extent,
    },
  }
  return {
    id,
    title,
    caption:
      caption ??
      'One density a row on one symmetric-log axis. Heights are logarithmic (eigenvalues per ' +
        'decade) and the same scale for all rows.',
    spec: {
      title: titled(title, subtitle),
      width: PLOT_WIDTH + 34 - extent,
      height: ROW * (rows.length - 1 + OVERLAP),
      // A layer a row: later rows stand in front of earlier ones.
      layer: rows.map((_, row) => ({
        data: { values: values.filter((value) => value.row === row) },
        mark: {
          type: 'area',
          color: colors.primary,
          fillOpacity: 0.28,
          line: { color: colors.primary, strokeWidth: 1.25 },
          clip: true,
        },
        encoding: {
          x: { ...x, field: 't' },
          y: { ...y, field: 'to', stack: null },
          y2: { field: 'from' },
        },
      })),
    },
  }
}
