/** A Vega-Lite specification as plain JSON. */
export type ChartSpec = Record<string, unknown>

/** A chart with its words, ready for SVG, PNG and HTML. */
export interface Figure {
  /** Kind of chart, usable in file names: `density`, `outliers`, ... */
  id: string
  title: string
  /** What is seen and how to read it, one or two sentences. */
  caption: string
  spec: ChartSpec
}

/**
 * Colours by Okabe and Ito (2008), distinguishable with every common colour-vision deficiency
 * and, by lightness, in grey print.
 */
export const colors = {
  primary: '#0072B2',
  accent: '#D55E00',
  text: '#1F2933',
  muted: '#5F6B7A',
  faint: '#9AA5B1',
  grid: '#E6EAEE',
  band: '#EEF0F3',
  paper: '#FFFFFF',
} as const

/** Colours of series, in this order, of the same source; with dashes they also tell in grey print. */
export const palette = [
  ...['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#1F2933', '#9AA5B1'],
] as const

/** Arimo is bundled for PNG and has the widths of Arial, which browsers fall back to. */
export const FONT_FAMILY = 'Arimo, Arial, Helvetica, Liberation Sans, sans-serif'

/** Width of every plot area in pixels; figures align in a grid. */
export const PLOT_WIDTH = 460
/** Room left of the plot area, fixed so that panels of one figure and figures of one column align. */
const Y_AXIS_EXTENT = 34

/** The one Vega-Lite theme of all figures. */
export const theme = {
  background: colors.paper,
  font: FONT_FAMILY,
  padding: 12,
  view: { stroke: null },
  title: {
    anchor: 'start',
    frame: 'group',
    color: colors.text,
    fontSize: 14,
    fontWeight: 700,
    subtitleColor: colors.muted,
    subtitleFontSize: 11,
    subtitlePadding: 4,
    offset: 12,
  },
  axis: {
    domainColor: colors.faint,
    gridColor: colors.grid,
    tickColor: colors.faint,
    tickSize: 4,
    labelColor: colors.muted,
    labelFontSize: 11,
    labelPadding: 4,
    titleColor: colors.text,
    titleFontSize: 11.5,
    titleFontWeight: 400,
    titlePadding: 8,
  },
  axisX: { grid: false },
  axisY: {
    domain: false,
    ticks: false,
    minExtent: Y_AXIS_EXTENT,
    maxExtent: Y_AXIS_EXTENT,
    tickCount: 5,
  },
  legend: {
    orient: 'top',
    direction: 'horizontal',
    labelColor: colors.text,
    labelFontSize: 11,
    title: null,
    symbolSize: 60,
    symbolStrokeWidth: 2,
    offset: 4,
  },
  line: { strokeWidth: 1.75, strokeCap: 'round', strokeJoin: 'round' },
} as const

/** Characters of the subtitle's size that fit the plot's width. */
const SUBTITLE_LENGTH = 76

/** Title block of a figure; text is plain and a long subtitle ends in an ellipsis. */
export function titled(title: string, subtitle: string): ChartSpec {
  const letters = [...plainText(subtitle)]
  const fits = letters.length <= SUBTITLE_LENGTH
  const shown = fits ? letters : [...letters.slice(0, SUBTITLE_LENGTH - 1), '…']
  return { text: title, subtitle: shown.join(''), limit: 2 * PLOT_WIDTH }
}

/** Text without the control characters that XML forbids. */
export function plainText(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
  return text.replace(/[\u0000-\u001f\u007f\ufffe\uffff]+|[\ud800-\udfff](?![\udc00-\udfff])/g, ' ')
}
