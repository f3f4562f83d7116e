import { describe, expect, it } from 'vitest'
import {
  type AttentionResult,
  attentionArrays,
  attentionMapsChart,
  attentionSpectrumFigure,
  type Figure,
  histogramFigure,
  renderSvg,
  type SurfaceResult,
  surfaceArrays,
  surfaceFigure,
} from '../../lib/report/index.js'

/** What a figure was drawn from. */
function specOf<T>(figure: Figure | undefined): T {
  return (figure as Figure).spec as T
}

async function drawn(figure: Figure | undefined): Promise<string> {
  expect(figure).toBeDefined()
  const svg = await renderSvg((figure as Figure).spec)
  expect(svg).not.toMatch(/NaN|Infinity|undefined/)
  return svg
}

const surface: SurfaceResult = {
  n: 10,
  samples: 5,
  split: 'test',
  x: [-1, 0, 1],
  y: [-2, 0, 2],
  loss: [
    [1, 2, null],
    [1, 0.5, 0],
    [1, 2, 8],
  ],
  accuracy: null,
  explained: [0.8, 0.1, 0.1],
  path: [
    { step: 0, x: 0.5, y: -1 },
    { step: 9, x: 0, y: 0 },
  ],
  roughness: { index: null, extrema: null, triples: 0 },
  histograms: [],
  time_ms: 1,
  device: 'cpu',
  dtype: 'f32',
}

describe('the loss surface', () => {
  it('leaves points white whose loss has no logarithm', async () => {
    const figure = surfaceFigure(surface, { name: 'a' })
    const svg = await drawn(figure)
    const [layer] = specOf<{ layer: { data: { values: unknown[] } }[] }>(figure).layer
    expect(layer.data.values).toHaveLength(7)
    expect(svg).toContain('80.00 % of the variance')
    expect(figure?.spec).toMatchObject({ title: { subtitle: 'a · roughness –' } })
  })

  it('is drawn when it is flat, and not at all without a finite loss', async () => {
    await drawn(surfaceFigure({ ...surface, loss: [[2, 2, 2]], y: [0] }, { name: 'a' }))
    expect(surfaceFigure({ ...surface, loss: [[null, 0, -1]] }, { name: 'a' })).toBeUndefined()
  })

  it('has its numbers as arrays', () => {
    const arrays = surfaceArrays(surface)
    expect(arrays['surface-loss'].shape).toEqual([3, 3])
    expect(arrays['surface-loss'].data[2]).toBeNaN()
    expect([...arrays['surface-path'].data]).toEqual([0, 0.5, -1, 9, 0, 0])
    expect(arrays['surface-accuracy']).toBeUndefined()
  })
})

describe('histograms', () => {
  const text = { id: 'h', title: 'H', subtitle: 's', caption: 'c', axis: 'Weight' }
  const one = { name: 'a', range: 1, outside: 0, total: 4, mean: 0, deviation: 0.5 }

  it('are densities over the whole range', async () => {
    const figure = histogramFigure([{ ...one, counts: [1, 0, 3, 0] }], text)
    await drawn(figure)
    const layers = specOf<{ layer: { data: { values: { y: number }[] } }[] }>(figure).layer
    const { values } = layers[layers.length - 1].data
    expect(values.map(({ y }) => y)).toEqual([0.5, null, 1.5, null])
  })

  it('are none without a count', () => {
    expect(histogramFigure([], text)).toBeUndefined()
    expect(histogramFigure([{ ...one, counts: [0, 0] }], text)).toBeUndefined()
  })
})

describe('attention', () => {
  const band = { min: [0, -40, null], mean: [1, -2, null], max: [2, -1, null] }
  const spectrum = { block: 3, scores: band, weights: band, rank: { min: 2, max: 2 } }
  const range = { min: -1, max: 1 }

  it('draws singular values down to rounding', async () => {
    const figure = attentionSpectrumFigure({ ...spectrum, range }, { id: 'x', subtitle: 's' })
    await drawn(figure)
    type Point = { index: number; low: number }
    const { values } = specOf<{ data: { values: Point[] } }>(figure).data
    expect(values.map(({ index }) => index)).toEqual([1, 2, 1, 2])
    expect(values[1].low).toBeCloseTo(Math.log(1e-16), 12)
    expect(figure?.caption).toContain('Rank of the weights: 2.')
    const none = { min: [null], mean: [null], max: [null] }
    const empty = { ...spectrum, range, scores: none, weights: none }
    expect(attentionSpectrumFigure(empty, { id: 'x', subtitle: 's' })).toBeUndefined()
  })

  const attention: AttentionResult = {
    model: 'vit:tiny',
    attention: 'softmax',
    images: 1,
    split: 'test',
    tokens: 5,
    heads: 2,
    blocks: 1,
    grid: [2, 2],
    mass: 0.6,
    spectra: [{ ...spectrum, range }],
    maps: [
      {
        image: 7,
        label: null,
        kind: 'weights',
        heads: [
          [0.1, 0.2, 0.3, 0.4],
          [1, 1, 1, 1],
        ],
        masks: [
          [0, 0, 1, 1],
          [0, 0, 0, 0],
        ],
      },
    ],
    pictures: [{ rows: 2, columns: 2, values: [0, 1, 0.5, 0.25] }],
    coefficients: [],
    cost: {
      parameters: 1,
      attentionParameters: 0,
      activationOperations: null,
      batch: 1,
      forwardBytes: 1,
      trainingBytes: 1,
      forwardImagesPerSecond: 1,
      trainingImagesPerSecond: 1,
    },
    time_ms: 1,
    device: 'cpu',
  }

  it('draws maps beside the image, each over its own range', async () => {
    const run = { name: 'a', summary: 's', attention }
    const figure = attentionMapsChart(run)
    expect(await drawn(figure)).toContain('no. 7')
    type Cell = { column: string; v: number }
    const { values } = specOf<{ data: { values: Cell[] } }>(figure).data
    const of = (name: string) => values.filter(({ column }) => column === name).map(({ v }) => v)
    expect(of('image')).toEqual([0, 1, 0.5, 0.25])
    expect(of('head 0')[0]).toBe(0)
    expect(of('head 0')[3]).toBe(1)
    expect(of('head 1')).toEqual([0, 0, 0, 0])
    expect(attentionMapsChart({ ...run, attention: { ...attention, maps: [] } })).toBeUndefined()
    expect(attentionMapsChart({ name: 'a', summary: 's' })).toBeUndefined()
  })

  it('has its numbers as arrays', () => {
    const arrays = attentionArrays(attention)
    expect(arrays['attention-maps'].shape).toEqual([1, 2, 4])
    expect(arrays['attention-weights-3'].shape).toEqual([3, 3])
    expect(arrays['attention-weights-3'].data[2]).toBeNaN()
    expect(Object.keys(attentionArrays({ ...attention, maps: [], spectra: [] }))).toEqual([])
  })
})
