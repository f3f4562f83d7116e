/**
 * Plots and reports: `import { writeReport } from 'losscape/report'`.
 *
 * Vega, resvg and the font are loaded when the first figure is drawn.
 *
 * @module
 */
export type {
  AttentionCostResult,
  AttentionMapResult,
  AttentionResult,
  AttentionSpectrumResult,
  HistogramResult,
  LogBand,
  SurfaceResult,
} from './analyses.js'
export { attentionArrays, spectrumArrays, surfaceArrays } from './arrays.js'
export { attentionMapsChart } from './charts/attention-maps.js'
export {
  type AttentionSpectrumText,
  attentionSpectrumCharts,
  attentionSpectrumFigure,
} from './charts/attention-spectrum.js'
export { classScatter } from './charts/class-scatter.js'
export { cumulativeDensity } from './charts/cumulative.js'
export type { NamedSpectrum } from './charts/densities.js'
export { densityLinear } from './charts/density-linear.js'
export { type ComparisonText, densityOverlay } from './charts/density-overlay.js'
export { densitySymlog } from './charts/density-symlog.js'
export {
  coefficientHistogramChart,
  type HistogramText,
  histogramFigure,
  weightHistogramChart,
} from './charts/histograms.js'
export { comparisonOf, figuresOf } from './charts/index.js'
export { outliers } from './charts/outliers.js'
export { ridge } from './charts/ridge.js'
export {
  type Series,
  type SeriesAxis,
  type SeriesFigure,
  seriesChart,
} from './charts/series.js'
export { type NamedEigenvalues, sortedEigenvalues } from './charts/sorted.js'
export { lossSurfaceChart, type SurfaceText, surfaceFigure } from './charts/surface.js'
export { trainingCurves } from './charts/training.js'
export type {
  MetricsRow,
  ReportData,
  ReportSection,
  ReportTable,
  RunReport,
  SpectrumResult,
} from './data.js'
export { precisionFloor } from './data.js'
export { formatDuration, formatNumber, formatPercent, formatWithError } from './format.js'
export { type DrawnFigure, renderHtml } from './html.js'
export { svgToPng } from './png.js'
export { type ScalarRow, scalarRows } from './scalars.js'
export { renderSvg } from './svg.js'
export { type TextTableOptions, textTable } from './table.js'
export { type ChartSpec, type Figure, theme } from './theme.js'
export { type ReportOptions, writeReport } from './write.js'
