import type { SpectrumResult } from '../report/data.js'
import { formatNumber, formatWithError } from '../report/format.js'
import { textTable } from '../report/table.js'
import type { SavedSpectrum } from './spectrum-files.js'

/** What `spectrum --json` prints: these fields in this order, and no others. */
export function contract(spectrum: SavedSpectrum): Omit<SpectrumResult, 'dtype'> {
  const { n, samples, eigenvalues, residuals, trace, density, nodes, weights, time_ms, device } =
    spectrum
  return { n, samples, eigenvalues, residuals, trace, density, nodes, weights, time_ms, device }
}

/** The ends side by side and the trace, for a terminal. */
export function spectrumTable({
  eigenvalues,
  residuals,
  trace,
  n,
  samples,
}: SavedSpectrum): string {
  const { top, bottom } = eigenvalues
  const cell = (value: number | undefined): string =>
    value === undefined ? '' : formatNumber(value, 5)
  const rows = top.map((value, i) => [
    String(i + 1),
    cell(value),
    formatNumber(residuals.top[i], 2),
    cell(bottom[i]),
    bottom[i] === undefined ? '' : formatNumber(residuals.bottom[i], 2),
  ])
  const align = ['right', 'right', 'right', 'right', 'right'] as const
  return [
    `n = ${formatNumber(n)}, mean over ${formatNumber(samples)} samples`,
    '',
    textTable(['', 'top', 'residual', 'bottom', 'residual'], rows, { align: [...align] }),
    '',
    `trace ${formatWithError(trace.value, trace.stderr)}`,
  ].join('\n')
}
