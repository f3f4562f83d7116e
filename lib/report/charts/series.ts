import { type ChartSpec, colors, type Figure, PLOT_WIDTH, palette, titled } from '../theme.js'
import { finiteOrNull, POWER_LABEL, powerTicks, ticksAt } from './axes.js'

/** Points of one line, in order. */
export interface Series {
  /** Its colour and place in the legend; lines of one name (seeds, say) share both. */
  readonly name: string
  /** Numbers that are not finite leave a gap. */
  readonly points: readonly (readonly [x: number, y: number])[]
}

/** One axis in words and numbers. */
export interface SeriesAxis {
  /** Quantity and unit: `Loss`, `Optimiser step`. */
  readonly title: string
  /** Default 'linear'. 'log' leaves out what is not positive. */
  readonly scale?: 'linear' | 'log'
  /** Ticks; default: chosen. */
  readonly ticks?: readonly number[]
  /** d3 format of the labels. Default '.3~g'. */
  readonly format?: string
  /** The axis begins at 0. Default false. */
  readonly zero?: boolean
}

export interface SeriesFigure {
  readonly id: string
  readonly title: string
  readonly subtitle: string
  readonly caption: string
  readonly x: SeriesAxis
  readonly y: SeriesAxis
  readonly series: readonly Series[]
  /** Horizontal lines with a word, such as a threshold. */
  readonly rules?: readonly { readonly y: number; readonly label: string }[]
  /** Vertical lines with a word, such as the moment of a change. */
  readonly marks?: readonly { readonly x: number; readonly label: string }[]
  /** Points on the lines. Default: for at most 40 a line. */
  readonly points?: boolean
}

/** Points a line; more than a plot has pixels only make the file larger. */
const MOST_POINTS = 600

/** Lines over one axis: the loss between two solutions, a count against the number of classes. */
export function seriesChart(figure: SeriesFigure): Figure {
  const { id, title, caption, x, y, series } = figure
  const names = [...new Set(series.map((s) => s.name))]
  const values = series.flatMap((s, line) =>
    thin(s.points).map(([a, b]) => ({
      name: s.name,
      line,
      x: shown(a, x),
      y: shown(b, y),
    })),
  )
  const dots = figure.points ?? series.every((s) => s.points.length <= 40)
  const known = (key: 'x' | 'y'): number[] => values.flatMap((v) => v[key] ?? [])
  const xChannel = channel(x, known('x'))
  const yChannel = channel(y, [...known('y'), ...(figure.rules ?? []).map((rule) => rule.y)])
  return {
    id,
    title,
    caption,
    spec: {
      title: titled(title, figure.subtitle),
      width: PLOT_WIDTH,
      height: 236,
      layer: [
        ...(figure.rules ?? []).map((rule) => ruleLayer(rule, yChannel)),
        ...(figure.marks ?? []).map((mark) => markLayer(mark, xChannel)),
        {
          data: { values },
          mark: {
            type: 'line',
            strokeWidth: series.length > names.length ? 1.25 : 1.75,
            point: dots ? { filled: true, size: 30 } : false,
            clip: true,
          },
          encoding: {
            x: { ...xChannel, field: 'x' },
            y: { ...yChannel, field: 'y' },
            detail: { field: 'line', type: 'nominal' },
            color: colorOf(names),
            strokeDash: dashOf(names),
          },
        },
      ],
    },
  }
}

const DASHES = [
  [1, 0],
  [6, 3],
  [2, 2],
  [8, 3, 2, 3],
]

/** Colour by name; a single name needs no legend. */
export function colorOf(names: readonly string[]): ChartSpec {
  return {
    field: 'name',
    type: 'nominal',
    scale: { domain: names, range: names.map((_, i) => palette[i % palette.length]) },
    legend:
      names.length > 1
        ? { symbolType: 'stroke', symbolSize: 260, labelLimit: 300, columns: legendColumns(names) }
        : null,
  }
}

export function dashOf(names: readonly string[]): ChartSpec {
  return {
    field: 'name',
    type: 'nominal',
    scale: { domain: names, range: names.map((_, i) => DASHES[i % DASHES.length]) },
    legend: null,
  }
}

/** As many as fit the plot's width: about 6 pixels a letter and 34 for the symbol. */
function legendColumns(names: readonly string[]): number {
  const widest = Math.max(...names.map((name) => [...name].length))
  return Math.max(1, Math.floor((PLOT_WIDTH + 40) / (6 * widest + 34)))
}

function shown(value: number, { scale }: SeriesAxis): number | null {
  return scale === 'log' && !(value > 0) ? null : finiteOrNull(value)
}

function channel({ title, scale, ticks, format = '.3~g', zero }: SeriesAxis, values: number[]) {
  const [low, high] = [Math.min(...values), Math.max(...values)]
  const logarithmic = scale === 'log' && values.length > 0
  const decades = logarithmic ? powerTicks(0.9 * low, 1.1 * high, 6) : []
  return {
    type: 'quantitative',
    title,
    scale: logarithmic
      ? { type: 'log', domain: [0.9 * low, 1.1 * high], nice: false }
      : values.length > 0
        ? { zero: zero ?? false, nice: ticks === undefined, padding: zero ? 0 : 8 }
        : { domain: [0, 1] },
    axis: ticks
      ? { format, ...ticksAt(ticks) }
      : decades.length > 1
        ? { ...ticksAt(decades), labelExpr: POWER_LABEL }
        : { format, tickCount: 6 },
  }
}

function ruleLayer({ y, label }: { y: number; label: string }, channelY: ChartSpec): ChartSpec {
  const at = { y: { ...channelY, datum: y } }
  return {
    data: { values: [{}] },
    layer: [
      { mark: { type: 'rule', color: colors.faint, strokeDash: [4, 3] }, encoding: at },
      {
        mark: { type: 'text', align: 'right', dy: -5, fontSize: 10, color: colors.muted },
        encoding: { ...at, x: { value: PLOT_WIDTH }, text: { value: label } },
      },
    ],
  }
}

function markLayer({ x, label }: { x: number; label: string }, channelX: ChartSpec): ChartSpec {
  const at = { x: { ...channelX, datum: x } }
  return {
    data: { values: [{}] },
    layer: [
      { mark: { type: 'rule', color: colors.faint, strokeDash: [4, 3] }, encoding: at },
      {
        mark: { type: 'text', align: 'left', dx: 5, fontSize: 10, color: colors.muted },
        encoding: { ...at, y: { value: 6 }, text: { value: label } },
      },
    ],
  }
}

function thin<T>(points: readonly T[]): readonly T[] {
  if (points.length <= MOST_POINTS) return points
  const stride = (points.length - 1) / (MOST_POINTS - 1)
  return Array.from({ length: MOST_POINTS }, (_, i) => points[Math.round(i * stride)])
}
