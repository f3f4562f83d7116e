import type { RunReport } from '../data.js'
import { formatNumber } from '../format.js'
import { type ChartSpec, colors, type Figure, titled } from '../theme.js'
import { computedEigenvalues, type Eigenvalue } from './eigenvalue-strip.js'
import { spectrumSubtitle } from './subtitle.js'

/** Stem plots of the computed eigenvalues at both ends with residual bars. */
export function outliers(run: RunReport): Figure | undefined {
  const spectrum = run.spectrum
  const eigenvalues = spectrum ? computedEigenvalues(spectrum) : []
  if (!spectrum || eigenvalues.length === 0) return undefined
  const panels = (['top', 'bottom'] as const).flatMap((end) => {
    const rows = eigenvalues.filter((e) => e.end === end)
    return rows.length > 0 ? [panel(end, rows)] : []
  })
  const worst = Math.max(...eigenvalues.map((e) => e.residual))
  return {
    id: 'outliers',
    title: 'Extreme eigenvalues',
    caption:
      'Computed eigenvalues at both ends; vertical scales differ. Bars: residual norm, within ' +
      `which a true eigenvalue lies (largest ${formatNumber(worst, 2)}).`,
    spec: {
      title: titled('Extreme eigenvalues', spectrumSubtitle(run)),
      spacing: 24,
      hconcat: panels,
    },
  }
}

function panel(end: 'top' | 'bottom', rows: Eigenvalue[]): ChartSpec {
  const extent = [Math.min(0, ...rows.map((r) => r.low)), Math.max(0, ...rows.map((r) => r.high))]
  const domain = extent[0] === extent[1] ? [-1, 1] : extent
  // A bar shorter than the point's radius would only blur it.
  const visible = rows.filter((r) => r.residual > 0.012 * (domain[1] - domain[0]))
  const ranks = rows.map((row) => row.rank)
  const stride = Math.ceil(ranks.length / 10)
  const x = {
    field: 'rank',
    type: 'quantitative',
    title: end === 'top' ? 'Rank from the largest' : 'Rank from the smallest',
    scale: { domain: [0.25, Math.max(...ranks) + 0.75], nice: false },
    axis: {
      values: ranks.filter((rank) => rank === 1 || rank % stride === 0),
      format: 'd',
      domain: false,
      ticks: false,
    },
  }
  const y = {
    type: 'quantitative',
    title: end === 'top' ? 'Eigenvalue λ' : null,
    scale: { domain, nice: true, zero: true },
    axis: { format: '.3~g' },
  }
  const color = end === 'top' ? colors.primary : colors.accent
  return {
    width: 200,
    height: 236,
    data: { values: rows },
    layer: [
      { mark: { type: 'rule', color: colors.faint }, encoding: { y: { ...y, datum: 0 } } },
      {
        mark: { type: 'rule', color, strokeWidth: 1.5, opacity: 0.55 },
        encoding: { x, y: { ...y, field: 'value' }, y2: { datum: 0 } },
      },
      {
        data: { values: visible },
        mark: { type: 'rule', color: colors.text, strokeWidth: 1.25 },
        encoding: { x, y: { ...y, field: 'low' }, y2: { field: 'high' } },
      },
      ...['low', 'high'].map((field) => ({
        data: { values: visible },
        mark: { type: 'tick', orient: 'horizontal', color: colors.text, thickness: 1.25, width: 7 },
        encoding: { x, y: { ...y, field } },
      })),
      {
        mark: { type: 'point', filled: true, color, size: 42, opacity: 1 },
        encoding: { x, y: { ...y, field: 'value' } },
      },
    ],
  }
}
