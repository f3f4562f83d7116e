import { type Figure, PLOT_WIDTH, titled } from '../theme.js'
import { logY, symmetricLogX } from './axes.js'
import { type NamedSpectrum, sharedDensities } from './densities.js'
import { colorOf, dashOf } from './series.js'

/** Words of a figure that compares spectra. */
export interface ComparisonText {
  readonly id?: string
  readonly title?: string
  readonly subtitle: string
  readonly caption?: string
}

/** Densities of several spectra over one symmetric-log axis. */
export function densityOverlay(
  spectra: readonly NamedSpectrum[],
  { id = 'densities', title = 'Spectra compared', subtitle, caption }: ComparisonText,
): Figure | undefined {
  const shared = sharedDensities(spectra)
  if (!shared) return undefined
  const { threshold, domain, rows, peak } = shared
  const low = Math.min(0.3, 1e-3 * peak)
  const names = rows.map(({ name }) => name)
  return {
    id,
    title,
    caption:
      caption ??
      'Eigenvalues per decade of all spectra on one symmetric-log axis: height × decades = number ' +
        'of eigenvalues.',
    spec: {
      title: titled(title, subtitle),
      width: PLOT_WIDTH,
      height: 236,
      data: {
        values: rows.flatMap(({ name, grid, counts }) =>
          Array.from(grid, (t, i) => ({ name, t, count: Math.max(counts[i], low / 10) })),
        ),
      },
      mark: { type: 'line', strokeWidth: 1.5, clip: true },
      encoding: {
        x: { ...symmetricLogX('Eigenvalue λ (symmetric-log)', domain, threshold), field: 't' },
        y: { ...logY('Eigenvalues per decade', low, 2 * peak), field: 'count' },
        color: colorOf(names),
        strokeDash: dashOf(names),
      },
    },
  }
}
