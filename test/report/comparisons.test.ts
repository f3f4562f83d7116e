import { describe, expect, it } from 'vitest'
import {
  classScatter,
  comparisonOf,
  densityOverlay,
  type Figure,
  renderSvg,
  ridge,
  type SeriesFigure,
  seriesChart,
  sortedEigenvalues,
  svgToPng,
} from '../../lib/report/index.js'
import { trainedSpectrum } from './synthetic.js'

const spectrum = (name: string, ...values: number[]) => ({
  name,
  size: values.length,
  measure: { nodes: [values], weights: [values.map(() => 1 / values.length)] },
})
const text = { subtitle: 'n = 4' }

async function drawn(figure: Figure | undefined): Promise<string> {
  expect(figure).toBeDefined()
  const svg = await renderSvg((figure as Figure).spec)
  expect(svg).not.toMatch(/NaN|Infinity|undefined/)
  expect(svg).toContain((figure as Figure).title)
  return svg
}

const lines = (over: Partial<SeriesFigure>): Figure =>
  seriesChart({
    id: 'x',
    title: 'Loss on a line',
    subtitle: '',
    caption: '',
    x: { title: 'Position' },
    y: { title: 'Loss' },
    series: [
      {
        name: 'a',
        points: [
          [0, 1],
          [1, 2],
        ],
      },
      {
        name: 'b',
        points: [
          [0, 3],
          [1, Number.NaN],
        ],
      },
    ],
    ...over,
  })

describe('figures that compare spectra', () => {
  const spectra = [spectrum('first', -0.1, 0, 1e-4, 5), spectrum('second', 0, 0, 2, 40)]

  it('overlay densities with a legend that names each', async () => {
    const svg = await drawn(densityOverlay(spectra, text))
    expect(svg).toContain('>first<')
    expect(svg).toContain('>second<')
    expect((await svgToPng(svg, { scale: 0.5 })).length).toBeGreaterThan(1000)
    expect(densityOverlay([], text)).toBeUndefined()
  })

  it('stack ridges with the label of every row, the first on top', async () => {
    const rows = [0, 10, 100, 1000].map((step, i) =>
      spectrum(`step ${step}`, -1 / (i + 1), 0, 3, i),
    )
    const svg = await drawn(ridge(rows, text))
    const at = (step: string): number => {
      const label = new RegExp(`translate\\([^,]+,([-\\d.]+)\\)[^>]*>step ${step}<`).exec(svg)
      return Number(label?.[1])
    }
    expect(at('0')).toBeLessThan(at('10'))
    expect(at('10')).toBeLessThan(at('100'))
    expect(at('100')).toBeLessThan(at('1000'))
  })

  it('sort eigenvalues of any sign, and draw the zero matrix', async () => {
    const svg = await drawn(
      sortedEigenvalues(
        [
          { name: 'start', values: [3, -2, 1e-9, 0] },
          { name: 'end', values: [7, -1e-3, 1e-9, 0] },
        ],
        text,
      ),
    )
    expect(svg).toContain('−')
    await drawn(sortedEigenvalues([{ name: 'zero', values: [0, 0, 0] }], text))
    await drawn(densityOverlay([spectrum('zero', 0, 0)], text))
    await drawn(ridge([spectrum('zero', 0, 0)], text))
    expect(sortedEigenvalues([{ name: 'none', values: [] }], text)).toBeUndefined()
  })

  it('appear in a report of several runs, not of one', () => {
    const spectrum = trainedSpectrum()
    const run = (name: string) => ({ name, summary: '', spectrum })
    expect(comparisonOf([run('a')])).toEqual([])
    expect(comparisonOf([run('a'), { name: 'b', summary: '' }])).toEqual([])
    expect(comparisonOf([run('a'), run('b')]).map(({ id }) => id)).toEqual(['compared'])
  })
})

describe('seriesChart()', () => {
  it('leaves gaps, draws rules and marks with their words', async () => {
    const svg = await drawn(
      lines({ rules: [{ y: 1.5, label: 'limit' }], marks: [{ x: 0.5, label: 'switch' }] }),
    )
    expect(svg).toContain('>limit<')
    expect(svg).toContain('>switch<')
    expect(svg).toContain('>Position<')
  })

  it('takes logarithmic axes with values that are not positive', async () => {
    const series = [
      {
        name: 'a',
        points: [
          [1, 1e-4],
          [2, 0],
          [3, 10],
        ] as [number, number][],
      },
    ]
    expect(await drawn(lines({ y: { title: 'Loss', scale: 'log' }, series }))).toContain('10⁻')
    const none = [{ name: 'a', points: [[1, -1]] as [number, number][] }]
    await drawn(lines({ y: { title: 'Loss', scale: 'log' }, series: none }))
  })
})

describe('classScatter()', () => {
  it('tells classes by colour and D_(c, c) by a cross', async () => {
    const points = [0, 1].flatMap((label) =>
      [0, 1].map((other) => ({ label, other, x: label - 0.5, y: other })),
    )
    const svg = await drawn(classScatter(points, text))
    expect(svg).toContain('>class 1<')
    expect(classScatter([], text)).toBeUndefined()
    const gone = [{ label: 0, other: 0, x: Number.NaN, y: 0 }]
    expect(classScatter(gone, text)).toBeUndefined()
  })
})
