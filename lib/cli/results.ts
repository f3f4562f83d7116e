import type { NamedHistogram } from '../analysis/weight-histograms.js'
import type { HistogramResult } from '../report/analyses.js'

/** As JSON can hold it. */
export function orNull(value: number): number | null {
  return Number.isFinite(value) ? value : null
}

/** Rows of a row-major array. */
export function finiteRows(data: ArrayLike<number>, columns: number): (number | null)[][] {
  return Array.from({ length: data.length / columns }, (_, i) =>
    Array.from({ length: columns }, (_, j) => orNull(data[i * columns + j])),
  )
}

export function histogramResult({ counts, ...rest }: NamedHistogram): HistogramResult {
  return { ...rest, counts: [...counts] }
}
