import { z } from 'zod'
import { writeFileAtomic } from '../files/atomic.js'
import type { AttentionResult, SurfaceResult } from '../report/analyses.js'
import { fileExists, parseJsonFile } from './spectrum-files.js'

/** Files of analyses in a run folder. */
export const ANALYSES = { surface: 'surface.json', attention: 'attention.json' } as const

const finite = z.number()
// JSON has no NaN and no infinity.
const maybe = finite.nullable()
const count = z.int().nonnegative()
const split = z.enum(['train', 'test'])

const histogram = z.object({
  name: z.string(),
  range: finite.positive(),
  counts: z.array(finite).min(1),
  outside: finite,
  total: finite,
  mean: finite,
  deviation: finite,
})

const surfaceFields = z.object({
  n: count.positive(),
  samples: count.positive(),
  split,
  x: z.array(finite).min(1),
  y: z.array(finite).min(1),
  loss: z.array(z.array(maybe)),
  accuracy: z.array(z.array(finite)).nullable(),
  explained: z.array(finite),
  path: z.array(z.object({ step: count, x: finite, y: finite })),
  roughness: z.object({ index: maybe, extrema: maybe, triples: count }),
  histograms: z.array(histogram),
  time_ms: finite,
  device: z.string(),
  dtype: z.enum(['f32', 'f64']),
})

const surfaceSchema = surfaceFields.refine(
  ({ x, y, loss }) => loss.length === y.length && loss.every((row) => row.length === x.length),
  { path: ['loss'], message: 'expected a row of numbers for every y, one for every x' },
)

const band = z.object({ min: z.array(maybe), mean: z.array(maybe), max: z.array(maybe) })
const range = z.object({ min: finite, max: finite })

const attentionFields = z.object({
  model: z.string(),
  attention: z.string(),
  images: count,
  split,
  tokens: count.positive(),
  heads: count.positive(),
  blocks: count.positive(),
  grid: z.tuple([count.positive(), count.positive()]),
  mass: finite,
  spectra: z.array(z.object({ block: count, scores: band, weights: band, rank: range, range })),
  maps: z.array(
    z.object({
      image: count,
      label: count.nullable(),
      kind: z.enum(['weights', 'scores', 'clamped']),
      heads: z.array(z.array(finite)),
      masks: z.array(z.array(finite)),
    }),
  ),
  pictures: z.array(z.object({ rows: count, columns: count, values: z.array(finite) })),
  coefficients: z.array(histogram),
  cost: z.object({
    parameters: count,
    attentionParameters: count,
    activationOperations: maybe,
    forwardBytes: finite,
    trainingBytes: finite,
    batch: count,
    forwardImagesPerSecond: finite,
    trainingImagesPerSecond: finite,
  }),
  time_ms: finite,
  device: z.string(),
})

const attentionSchema = attentionFields.refine(
  ({ maps, grid }) =>
    maps.every(({ heads }) => heads.every((map) => map.length === grid[0] * grid[1])),
  { path: ['maps'], message: 'expected a number for every place of the grid' },
)

/** The loss surface of a run; null when there is none. Throws ERR_IO, ERR_FORMAT. */
export async function readSurface(path: string): Promise<SurfaceResult | null> {
  if (!(await fileExists(path))) return null
  return parseJsonFile(path, 'a loss surface', surfaceSchema)
}

/** The attention analysis of a run; null when there is none. Throws ERR_IO, ERR_FORMAT. */
export async function readAttention(path: string): Promise<AttentionResult | null> {
  if (!(await fileExists(path))) return null
  return parseJsonFile(path, 'an attention analysis', attentionSchema)
}

/** @throws ERR_IO */
export async function writeAnalysis(
  path: string,
  result: SurfaceResult | AttentionResult,
): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify(result)}\n`)
}
