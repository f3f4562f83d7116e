import type { AttentionMapResult, AttentionResult } from '../analyses.js'
import type { RunReport } from '../data.js'
import { formatPercent } from '../format.js'
import { colors, type Figure, PLOT_WIDTH, titled } from '../theme.js'

const PICTURE = 'image'
/** Pixels along an edge of a picture at most: each is a rectangle in the SVG. */
const MOST_PIXELS = 16
/** Heads at most; more would be too small to see. */
const MOST_HEADS = 6

const KINDS: Record<AttentionMapResult['kind'], string> = {
  weights: 'weights',
  scores: 'scores before the learnable functions',
  clamped: 'positive weights',
}

/** The class token's attention over the patches: images down, heads across. */
export function attentionMapsChart(run: RunReport): Figure | undefined {
  const { attention } = run
  if (!attention || attention.maps.length === 0) return undefined
  const heads = Math.min(attention.heads, MOST_HEADS)
  const side = Math.floor(PLOT_WIDTH / (heads + 1)) - 8
  const [rows, columns] = attention.grid
  const maps = attention.maps.flatMap((map) => cellsOf(map, heads, attention.grid))
  const pictures = attention.maps.flatMap((map, i) => pixelsOf(map, attention.pictures[i]))
  const names = [PICTURE, ...Array.from({ length: heads }, (_, h) => headName(h))]
  const position = (axis: 'x' | 'y') => ({
    [axis]: { field: axis, type: 'quantitative', axis: null, scale: { domain: [0, 1] } },
    [`${axis}2`]: { field: `${axis}2` },
  })
  const encoding = { ...position('x'), ...position('y') }
  return {
    id: 'attention-maps',
    title: 'Attention of the class token',
    caption:
      `${KINDS[attention.maps[0].kind]} of the class token in the last block, each map over its own ` +
      `range, dark to bright; framed: the fewest patches that hold ${formatPercent(attention.mass)} ` +
      'of a map above its minimum.',
    spec: {
      title: titled('Attention of the class token', run.name),
      data: { values: [...pictures, ...maps] },
      facet: {
        row: {
          field: 'row',
          type: 'nominal',
          title: null,
          sort: null,
          header: { labelAngle: 0, labelAlign: 'left', labelFontSize: 10 },
        },
        column: {
          field: 'column',
          type: 'nominal',
          title: null,
          sort: names,
          header: { labelFontSize: 11 },
        },
      },
      spacing: 6,
      spec: {
        width: side,
        height: Math.max(1, Math.round((side * rows) / columns)),
        layer: [
          {
            transform: [{ filter: `datum.column === '${PICTURE}'` }],
            mark: { type: 'rect', stroke: null },
            encoding: {
              ...encoding,
              color: {
                field: 'v',
                type: 'quantitative',
                scale: { domain: [0, 1], range: ['#000000', '#ffffff'] },
                legend: null,
              },
            },
          },
          {
            transform: [{ filter: `datum.column !== '${PICTURE}'` }],
            mark: { type: 'rect', stroke: null },
            encoding: {
              ...encoding,
              color: {
                field: 'v',
                type: 'quantitative',
                scale: { domain: [0, 1], scheme: 'viridis' },
                legend: null,
              },
            },
          },
          {
            transform: [{ filter: 'datum.kept === 1' }],
            mark: { type: 'rect', filled: false, stroke: colors.accent, strokeWidth: 0.75 },
            encoding,
          },
        ],
        resolve: { scale: { color: 'independent' } },
      },
    },
  }
}

const headName = (h: number): string => `head ${h}`

function rowName({ image, label }: AttentionMapResult): string {
  return label === null ? `no. ${image}` : `no. ${image}, class ${label}`
}

interface Cell {
  row: string
  column: string
  x: number
  x2: number
  y: number
  y2: number
  v: number
  kept?: number
}

function cellsOf(map: AttentionMapResult, heads: number, grid: AttentionResult['grid']): Cell[] {
  return map.heads.slice(0, heads).flatMap((values, h) => {
    const low = Math.min(...values)
    const range = Math.max(...values) - low || 1
    return cells(rowName(map), headName(h), grid, (i) => ({
      v: (values[i] - low) / range,
      kept: map.masks[h][i],
    }))
  })
}

/** Means over squares, so that a picture has few rectangles. */
function pixelsOf(
  map: AttentionMapResult,
  picture: AttentionResult['pictures'][number] | undefined,
): Cell[] {
  if (!picture) return []
  const { rows, columns, values } = picture
  const factor = Math.max(1, Math.ceil(Math.max(rows, columns) / MOST_PIXELS))
  const grid: [number, number] = [Math.ceil(rows / factor), Math.ceil(columns / factor)]
  const sums = new Float64Array(grid[0] * grid[1])
  const counts = new Float64Array(sums.length)
  for (const [at, value] of values.entries()) {
    const cell =
      Math.floor(Math.floor(at / columns) / factor) * grid[1] + Math.floor((at % columns) / factor)
    sums[cell] += value
    counts[cell]++
  }
  return cells(rowName(map), PICTURE, grid, (i) => ({ v: sums[i] / counts[i] }))
}

function cells(
  row: string,
  column: string,
  [rows, columns]: readonly [number, number],
  of: (i: number) => { v: number; kept?: number },
): Cell[] {
  return Array.from({ length: rows * columns }, (_, i) => {
    const [r, c] = [Math.floor(i / columns), i % columns]
    const [x, y] = [c / columns, 1 - (r + 1) / rows]
    return { row, column, x, x2: x + 1 / columns, y, y2: y + 1 / rows, ...of(i) }
  })
}
