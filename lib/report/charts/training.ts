import type { MetricsRow, RunReport } from '../data.js'
import { type ChartSpec, colors, type Figure, PLOT_WIDTH, titled } from '../theme.js'
import { finiteOrNull, powerTicks } from './axes.js'

const looks = {
  train: { color: colors.primary, dash: [1, 0] },
  test: { color: colors.accent, dash: [5, 3] },
}

/** More points than a plot has pixels only make the file larger. */
const MAX_POINTS = 900

/** Loss and accuracy on both splits over training. */
export function trainingCurves(run: RunReport): Figure | undefined {
  const metrics = run.metrics ?? []
  const splits = (['train', 'test'] as const).filter((split) =>
    metrics.some((row) => row.split === split),
  )
  const rows = splits.flatMap((split) => thin(metrics.filter((row) => row.split === split)))
  const has = (key: 'loss' | 'accuracy') => rows.some((row) => finiteOrNull(row[key]) !== null)
  if (!has('loss') && !has('accuracy')) return undefined
  const x = horizontal(rows)
  const values = rows.map((row) => ({
    at: row[x.key],
    split: row.split,
    loss: finiteOrNull(row.loss),
    accuracy: finiteOrNull(row.accuracy),
  }))
  const sparse = rows.length <= 80
  const panels = (['loss', 'accuracy'] as const).filter(has)
  return {
    id: 'training',
    title: 'Training',
    caption: 'Mean loss and accuracy on the training and test splits.',
    spec: {
      title: titled('Training', run.name),
      data: { values },
      spacing: 14,
      resolve: { scale: { color: 'shared', x: 'shared' } },
      vconcat: panels.map((key, i) => {
        const last = i === panels.length - 1
        const present = values.flatMap((row) => (row[key] === null ? [] : [row[key]]))
        return panel(key, x.title, splits, present, { last, sparse, tall: panels.length === 1 })
      }),
    },
  }
}

/** Epochs where each split has one row an epoch or fractional epochs, else optimiser steps. */
function horizontal(rows: MetricsRow[]): { key: 'epoch' | 'step'; title: string } {
  const pairs = new Set(rows.map((row) => `${row.split} ${row.epoch}`))
  const byEpoch = pairs.size === rows.length && rows.every((row) => Number.isFinite(row.epoch))
  return byEpoch ? { key: 'epoch', title: 'Epoch' } : { key: 'step', title: 'Optimiser step' }
}

function panel(
  key: 'loss' | 'accuracy',
  xTitle: string,
  splits: readonly ('train' | 'test')[],
  present: number[],
  { last, sparse, tall }: { last: boolean; sparse: boolean; tall: boolean },
): ChartSpec {
  const low = Math.min(...present)
  const high = Math.max(...present)
  const logarithmic = key === 'loss' && low > 0 && high / low > 30
  return {
    width: PLOT_WIDTH,
    height: tall ? 236 : 108,
    mark: {
      type: 'line',
      point: sparse ? { filled: true, size: 28 } : false,
      strokeWidth: sparse ? 1.75 : 1.25,
    },
    encoding: {
      x: {
        field: 'at',
        type: 'quantitative',
        title: last ? xTitle : null,
        scale: { zero: false, nice: false, padding: 6 },
        axis: { tickCount: 8, tickMinStep: 1, format: ',d', labels: last, ticks: last },
      },
      y: {
        field: key,
        type: 'quantitative',
        title: key === 'loss' ? 'Loss' : 'Accuracy',
        scale: logarithmic
          ? { type: 'log', domain: [0.9 * low, 1.1 * high], nice: false }
          : { zero: key === 'loss', nice: true },
        axis: {
          ...(logarithmic ? { values: powerTicks(0.9 * low, 1.1 * high, 4) } : { tickCount: 4 }),
          format: key === 'accuracy' ? (high - low < 0.04 ? '.1%' : '.0%') : '.3~g',
        },
      },
      color: {
        field: 'split',
        type: 'nominal',
        scale: { domain: splits, range: splits.map((split) => looks[split].color) },
        legend: { symbolType: 'stroke', symbolSize: 260 },
      },
      strokeDash: {
        field: 'split',
        type: 'nominal',
        scale: { domain: splits, range: splits.map((split) => looks[split].dash) },
      },
    },
  }
}

/** At most MAX_POINTS rows, evenly spaced, first and last kept. */
function thin(rows: MetricsRow[]): MetricsRow[] {
  if (rows.length <= MAX_POINTS) return rows
  const stride = (rows.length - 1) / (MAX_POINTS - 1)
  return Array.from({ length: MAX_POINTS }, (_, i) => rows[Math.round(i * stride)])
}
