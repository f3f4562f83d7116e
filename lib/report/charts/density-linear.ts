import { precisionFloor, type RunReport } from '../data.js'
import { formatNumber } from '../format.js'
import { colors, type Figure, PLOT_WIDTH, titled } from '../theme.js'
import { logY } from './axes.js'
import { eigenvalueStrip, holdingEigenvalues } from './eigenvalue-strip.js'
import { spectrumSubtitle } from './subtitle.js'

/** Eigenvalue density on a linear axis, logarithmic in height, over the computed eigenvalues. */
export function densityLinear(run: RunReport): Figure | undefined {
  const spectrum = run.spectrum
  if (!spectrum) return undefined
  const { grid, values } = spectrum.density
  const points = grid.flatMap((t, i) =>
    Number.isFinite(t) && Number.isFinite(values[i]) ? [{ t, density: values[i] }] : [],
  )
  const peak = Math.max(0, ...points.map((point) => point.density))
  if (points.length < 2 || peak <= 0) return undefined

  const ends = points.map((point) => point.t)
  const domain = holdingEigenvalues(spectrum, [Math.min(...ends), Math.max(...ends)])
  // One eigenvalue spread over the range; a decade below it the curve is quadrature rounding.
  const low = Math.min(0.1 / Math.max(spectrum.n, 1) / (domain[1] - domain[0]), 1e-3 * peak)
  const high = 2 * peak
  const x = {
    type: 'quantitative',
    title: 'Eigenvalue λ',
    scale: { domain, nice: false },
    axis: { tickCount: 8 },
  }
  // Values far below the axis are clipped there, not drawn along it.
  const visible = points.map(({ t, density }) => ({ t, density: Math.max(density, low / 10) }))
  return {
    id: 'density',
    title: 'Eigenvalue density',
    caption:
      'Smoothed spectral density (mass 1, logarithmic height) by stochastic Lanczos quadrature. ' +
      'Ticks below: computed extreme eigenvalues with residual bars. ' +
      `Magnitudes under the precision floor ${formatNumber(precisionFloor(spectrum), 2)} are rounding.`,
    spec: {
      title: titled('Eigenvalue density', spectrumSubtitle(run)),
      spacing: 6,
      resolve: { scale: { x: 'shared' } },
      vconcat: [
        {
          width: PLOT_WIDTH,
          height: 220,
          data: { values: visible },
          mark: {
            type: 'area',
            color: colors.primary,
            fillOpacity: 0.14,
            line: { color: colors.primary, strokeWidth: 1.5 },
            clip: true,
          },
          encoding: {
            x: { ...x, field: 't', title: null, axis: { labels: false, ticks: false } },
            y: { ...logY('Density', low, high), field: 'density' },
            y2: { datum: low / 10 },
          },
        },
        eigenvalueStrip(spectrum, x, domain),
      ],
    },
  }
}
