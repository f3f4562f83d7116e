import { symmetricLogDensity } from '../../curvature/density.js'
import { precisionFloor, type RunReport, spectralRadius, usableMeasure } from '../data.js'
import { formatNumber } from '../format.js'
import { colors, type Figure, PLOT_WIDTH, titled } from '../theme.js'
import { logY, symmetricLogX } from './axes.js'
import { eigenvalueStrip, floorBand, holdingEigenvalues } from './eigenvalue-strip.js'
import { spectrumSubtitle } from './subtitle.js'

/**
 * Eigenvalues per decade on a symmetric-log axis: n φ(u) ln 10 with φ the density in
 * u = sign(λ) ln(1 + |λ|/c), c = 1e-6 of the largest magnitude.
 */
export function densitySymlog(run: RunReport): Figure | undefined {
  const spectrum = run.spectrum
  const measure = spectrum && usableMeasure(spectrum)
  if (!spectrum || !measure) return undefined
  const c = 1e-6 * spectralRadius(spectrum) || 1e-6
  const smooth = symmetricLogDensity(measure, { linearThreshold: c, points: 512 })
  const perDecade = Array.from(smooth.values, (x) => x * spectrum.n * Math.LN10)
  const peak = Math.max(...perDecade)
  const low = Math.min(0.1, 1e-3 * peak)
  const ends = [smooth.grid[0], smooth.grid[smooth.grid.length - 1]] as const
  const domain = holdingEigenvalues(spectrum, ends)
  const x = symmetricLogX('Eigenvalue λ (symmetric-log)', domain, c)
  const floor = formatNumber(precisionFloor(spectrum), 2)
  return {
    id: 'density-symlog',
    title: 'Eigenvalues per decade',
    caption:
      'Spectral density by stochastic Lanczos quadrature on a symmetric-log axis, which shows bulk ' +
      'and outliers at once: height × decades = number of eigenvalues. Ticks below: computed ' +
      'extreme eigenvalues with residual bars. ' +
      `Grey: below the precision floor ${floor}, where sign and size are rounding.`,
    spec: {
      title: titled('Eigenvalues per decade', spectrumSubtitle(run)),
      spacing: 6,
      resolve: { scale: { x: 'shared' } },
      vconcat: [
        {
          width: PLOT_WIDTH,
          height: 220,
          layer: [
            ...floorBand(spectrum, { ...x, title: null }, domain),
            {
              data: {
                values: perDecade.map((count, i) => ({
                  t: smooth.grid[i],
                  // Values far below the axis are clipped there, not drawn along it.
                  count: Math.max(count, low / 10),
                })),
              },
              mark: {
                type: 'area',
                color: colors.primary,
                fillOpacity: 0.14,
                line: { color: colors.primary, strokeWidth: 1.5 },
                clip: true,
              },
              encoding: {
                x: { ...x, field: 't', title: null, axis: { labels: false, ticks: false } },
                y: { ...logY('Eigenvalues per decade', low, 2 * peak), field: 'count' },
                y2: { datum: low / 10 },
              },
            },
          ],
        },
        eigenvalueStrip(spectrum, x, domain),
      ],
    },
  }
}
