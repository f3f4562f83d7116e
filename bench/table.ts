import type { BenchResult, Metric } from './types.js'

const HEADER = ['case', 'ours', 'peer', 'ratio', 'limit', 'peer is', 'limit is']

/** The results as an aligned text table. */
export function formatTable(results: readonly BenchResult[]): string {
  const rows = [HEADER, ...results.map(row)]
  const widths = HEADER.map((_, column) => Math.max(...rows.map((cells) => cells[column].length)))
  return rows
    .map((cells) =>
      cells
        .map((cell, i) => (i >= 1 && i <= 4 ? cell.padStart(widths[i]) : cell.padEnd(widths[i])))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

function row(result: BenchResult): string[] {
  const value = (x: number | null) => (x === null ? '-' : formatValue(x, result.metric))
  return [
    result.case,
    value(result.ours),
    value(result.peer),
    result.ratio === null ? '-' : `${result.ratio.toFixed(2)}x`,
    value(result.limit),
    result.peerName ?? '-',
    result.limitName ?? '-',
  ]
}

/** Three significant digits and the unit. */
export function formatValue(value: number, metric: Metric): string {
  switch (metric) {
    case 'time_ms':
    case 'p99_ms':
      return `${round(value)} ms`
    case 'peak_bytes':
      return `${round(value / 2 ** 20)} MiB`
    case 'bandwidth_share':
    case 'floor_share':
      return value.toFixed(3)
    case 'relative_error':
      return value.toExponential(2)
  }
}

function round(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3)
}
