import { type RunReport, usableMeasure } from '../data.js'
import { type Figure, plainText } from '../theme.js'
import { attentionMapsChart } from './attention-maps.js'
import { attentionSpectrumCharts } from './attention-spectrum.js'
import { cumulativeDensity } from './cumulative.js'
import { densityLinear } from './density-linear.js'
import { densityOverlay } from './density-overlay.js'
import { densitySymlog } from './density-symlog.js'
import { coefficientHistogramChart, weightHistogramChart } from './histograms.js'
import { outliers } from './outliers.js'
import { lossSurfaceChart } from './surface.js'
import { trainingCurves } from './training.js'

/** Every kind of figure, in the order of the report; later analyses add theirs here. */
const charts: readonly ((run: RunReport) => Figure | readonly Figure[] | undefined)[] = [
  trainingCurves,
  densitySymlog,
  densityLinear,
  outliers,
  cumulativeDensity,
  lossSurfaceChart,
  weightHistogramChart,
  attentionSpectrumCharts,
  attentionMapsChart,
  coefficientHistogramChart,
]

/** The figures for which a run has data. */
export function figuresOf(run: RunReport): Figure[] {
  return charts.flatMap((chart) => chart(run) ?? [])
}

/** Figures that compare the runs of a report: their densities, when at least two have one. */
export function comparisonOf(runs: readonly RunReport[]): Figure[] {
  const spectra = runs.flatMap(({ name, spectrum }) => {
    const measure = spectrum && usableMeasure(spectrum)
    return measure ? [{ name: shorten(name), size: spectrum.n, measure }] : []
  })
  if (spectra.length < 2) return []
  const subtitle = `${spectra.length} spectra`
  return [densityOverlay(spectra, { id: 'compared', subtitle }) ?? []].flat()
}

/** Names of a legend, which has one line for each. */
function shorten(name: string): string {
  const letters = [...plainText(name)]
  return letters.length > 40 ? `${letters.slice(0, 39).join('')}…` : letters.join('')
}
