import type { ClassPoint } from '../../curvature/class-structure.js'
import { type Figure, PLOT_WIDTH, palette, titled } from '../theme.js'
import type { ComparisonText } from './density-overlay.js'

/**
 * Class means of the Gauss-Newton factors in the plane: crosses D_(c, c), dots D_(c, c') with
 * c' ≠ c; colour is c. Clusters of one colour are what makes outliers (Papyan 2018).
 */
export function classScatter(
  points: readonly ClassPoint[],
  { id = 'class-structure', title = 'Class structure', subtitle, caption }: ComparisonText,
): Figure | undefined {
  const values = points
    .filter(({ x, y }) => Number.isFinite(x) && Number.isFinite(y))
    .map(({ label, other, x, y }) => ({
      c: `class ${label}`,
      kind: label === other ? "c' = c" : "c' ≠ c",
      x,
      y,
    }))
  if (values.length === 0) return undefined
  const classes = [...new Set(values.map(({ c }) => c))]
  const axis = { tickCount: 5, format: '.2~g' }
  return {
    id,
    title,
    caption:
      caption ??
      "Means of the Gauss-Newton factors over the samples of class c, for every class c', in their " +
        'two leading principal directions. Colour: c. Clusters of one colour make the outliers.',
    spec: {
      title: titled(title, subtitle),
      width: PLOT_WIDTH,
      height: 280,
      data: { values },
      mark: { type: 'point', filled: true, size: 60, opacity: 0.85 },
      encoding: {
        x: { field: 'x', type: 'quantitative', title: 'First direction', axis },
        y: { field: 'y', type: 'quantitative', title: 'Second direction', axis },
        color: {
          field: 'c',
          type: 'nominal',
          scale: { domain: classes, range: classes.map((_, i) => palette[i % palette.length]) },
          legend: { columns: 5, symbolType: 'circle' },
        },
        shape: {
          field: 'kind',
          type: 'nominal',
          scale: { domain: ["c' = c", "c' ≠ c"], range: ['cross', 'circle'] },
          legend: { columns: 2 },
        },
      },
    },
  }
}
