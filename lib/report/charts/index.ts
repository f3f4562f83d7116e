import type { RunReport } from '../data.js'
import type { Figure } from '../theme.js'
import { cumulativeDensity } from './cumulative.js'
import { densityLinear } from './density-linear.js'
import { densitySymlog } from './density-symlog.js'
import { outliers } from './outliers.js'
import { trainingCurves } from './training.js'

/** Every kind of figure, in the order of the report; later analyses add theirs here. */
const charts: readonly ((run: RunReport) => Figure | undefined)[] = [
  trainingCurves,
  densitySymlog,
  densityLinear,
  outliers,
  cumulativeDensity,
]

/** The figures for which a run has data. */
export function figuresOf(run: RunReport): Figure[] {
  return charts.flatMap((chart) => chart(run) ?? [])
}
