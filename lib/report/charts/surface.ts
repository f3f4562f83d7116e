import type { SurfaceResult } from '../analyses.js'
import type { RunReport } from '../data.js'
import { formatNumber, formatPercent } from '../format.js'
import { type ChartSpec, colors, type Figure, PLOT_WIDTH, titled } from '../theme.js'

/** Bands of the colour scale: their borders read as contour lines. */
const BANDS = 14

/** The loss over the plane of a training, with its path; what is not finite stays white. */
export function lossSurfaceChart(run: RunReport): Figure | undefined {
  return run.surface && surfaceFigure(run.surface, { name: run.name })
}

export interface SurfaceText {
  readonly name: string
  /** Default 'surface'. */
  readonly id?: string
}

/** {@link lossSurfaceChart} of a surface that belongs to no run. */
export function surfaceFigure(
  surface: SurfaceResult,
  { name, id = 'surface' }: SurfaceText,
): Figure | undefined {
  const { x, y, loss, path, explained } = surface
  const [dx, dy] = [step(x), step(y)]
  const values = loss.flatMap((row, j) =>
    row.flatMap((value, i) =>
      value === null || !(value > 0)
        ? []
        : [
            {
              x: x[i] - dx / 2,
              x2: x[i] + dx / 2,
              y: y[j] - dy / 2,
              y2: y[j] + dy / 2,
              ln: Math.log(value),
            },
          ],
    ),
  )
  if (values.length === 0) return undefined
  const heights = values.map(({ ln }) => ln)
  const low = heights.reduce((a, b) => Math.min(a, b))
  const high = heights.reduce((a, b) => Math.max(a, b))
  const share = (k: number): string => formatPercent(explained[k])
  const axis = (title: string, list: readonly number[], d: number): ChartSpec => ({
    type: 'quantitative',
    title,
    scale: { domain: [list[0] - d / 2, list[list.length - 1] + d / 2], nice: false, zero: false },
    axis: { format: '.2~g', tickCount: 6, grid: false },
  })
  const xChannel = axis(`First component (${share(0)} of the variance)`, x, dx)
  const yChannel = axis(`Second component (${share(1)})`, y, dy)
  const points = path.map((point, order) => ({ ...point, order }))
  const subtitle = `${name} · roughness ${formatNumber(surface.roughness.index, 3)}`
  return {
    id,
    title: 'Loss surface',
    caption:
      `Mean ${surface.split} loss over ${formatNumber(surface.samples)} samples in the plane of the ` +
      'two leading principal components of the checkpoints; line: the training, ending in the ' +
      'cross. Colours are equal steps of ln L. Roughness: mean squared second difference of ln L ' +
      'over its squared range.',
    spec: {
      title: titled('Loss surface', subtitle),
      width: PLOT_WIDTH,
      height: 330,
      layer: [
        {
          data: { values },
          mark: { type: 'rect', stroke: null },
          encoding: {
            x: { ...xChannel, field: 'x' },
            x2: { field: 'x2' },
            y: { ...yChannel, field: 'y' },
            y2: { field: 'y2' },
            color: {
              field: 'ln',
              type: 'quantitative',
              scale: {
                type: 'quantize',
                domain: high > low ? [low, high] : [low - 1, high + 1],
                scheme: { name: 'viridis', count: BANDS },
              },
              legend: {
                title: 'ln L',
                orient: 'right',
                direction: 'vertical',
                gradientLength: 280,
                format: '.2f',
              },
            },
          },
        },
        pathLayer(points, xChannel, yChannel, { type: 'line', strokeWidth: 2 }),
        pathLayer(points, xChannel, yChannel, { type: 'point', filled: true, size: 26 }),
        pathLayer(points.slice(-1), xChannel, yChannel, {
          type: 'point',
          shape: 'cross',
          filled: true,
          size: 130,
        }),
      ],
    },
  }
}

function pathLayer(
  values: readonly object[],
  x: ChartSpec,
  y: ChartSpec,
  mark: ChartSpec,
): ChartSpec {
  return {
    data: { values },
    mark: { ...mark, color: colors.paper, clip: true, opacity: 0.95 },
    encoding: {
      x: { ...x, field: 'x' },
      y: { ...y, field: 'y' },
      order: { field: 'order', type: 'quantitative' },
    },
  }
}

function step(list: readonly number[]): number {
  return list.length > 1 ? (list[list.length - 1] - list[0]) / (list.length - 1) : 1
}
