/**
 * Plots and reports: `import { writeReport } from 'losscape/report'`.
 *
 * Vega, resvg and the font are loaded when the first figure is drawn.
 *
 * @module
 */
export { spectrumArrays } from './arrays.js'
export { cumulativeDensity } from './charts/cumulative.js'
export { densityLinear } from './charts/density-linear.js'
export { densitySymlog } from './charts/density-symlog.js'
export { figuresOf } from './charts/index.js'
export { outliers } from './charts/outliers.js'
export { trainingCurves } from './charts/training.js'
export type { MetricsRow, ReportData, RunReport, SpectrumResult } from './data.js'
export { precisionFloor } from './data.js'
export { formatDuration, formatNumber, formatPercent, formatWithError } from './format.js'
export { type DrawnFigure, renderHtml } from './html.js'
export { svgToPng } from './png.js'
export { type ScalarRow, scalarRows } from './scalars.js'
export { renderSvg } from './svg.js'
export { type TextTableOptions, textTable } from './table.js'
export { type ChartSpec, type Figure, theme } from './theme.js'
export { type ReportOptions, writeReport } from './write.js'
