import type { HistogramResult } from '../analyses.js'
import type { RunReport } from '../data.js'
import { formatNumber } from '../format.js'
import type { Figure } from '../theme.js'
import { type Series, seriesChart } from './series.js'

/** All weights at moments of a training. */
export function weightHistogramChart(run: RunReport): Figure | undefined {
  return histogramFigure(run.surface?.histograms ?? [], {
    id: 'weights',
    title: 'Weights through training',
    subtitle: run.name,
    caption:
      'Density of all weights at steps of the training, over equal bins; weights beyond the axis ' +
      'count in none.',
    axis: 'Weight',
  })
}

/** Coefficients and projectors of learnable attention, head by head. */
export function coefficientHistogramChart(run: RunReport): Figure | undefined {
  return histogramFigure(run.attention?.coefficients ?? [], {
    id: 'coefficients',
    title: 'Coefficients by head',
    subtitle: run.name,
    caption:
      'Density of the basis coefficients and of the projector of every attention head, each over ' +
      'its own range.',
    axis: 'Coefficient',
    alike: (name) => name.replace(/^.* (coefficients|projector)$/, '$1'),
  })
}

export interface HistogramText {
  readonly id: string
  readonly title: string
  readonly subtitle: string
  readonly caption: string
  readonly axis: string
  /** Name in the legend; histograms of one name share a colour. Default: their own. */
  readonly alike?: (name: string) => string
}

/** Densities of histograms as lines over one axis; bins that are empty leave a gap. */
export function histogramFigure(
  histograms: readonly HistogramResult[],
  { id, title, subtitle, caption, axis, alike = (name) => name }: HistogramText,
): Figure | undefined {
  const series = histograms.flatMap(({ name, range, counts, total }): Series[] => {
    const width = (2 * range) / counts.length
    const points = counts.map(
      (count, i) => [-range + (i + 0.5) * width, count / (total * width)] as const,
    )
    return points.some(([, density]) => density > 0) ? [{ name: alike(name), points }] : []
  })
  if (series.length === 0) return undefined
  const deviations = histograms.map(({ deviation }) => deviation)
  const spread = [Math.min(...deviations), Math.max(...deviations)].map((x) => formatNumber(x, 3))
  return seriesChart({
    id,
    title,
    subtitle: `${subtitle} · standard deviation ${[...new Set(spread)].join(' … ')}`,
    caption,
    x: { title: axis },
    y: { title: 'Density', scale: 'log' },
    series,
    points: false,
  })
}
