import { createHash } from 'node:crypto'
import { access, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { writeFileAtomic } from '../files/atomic.js'
import { formatError, ioError } from '../files/errors.js'
import type { SpectrumResult } from '../report/data.js'
import { BasisFile, lanczosSchema, loadCheckpoint, plainCheckpoint } from './lanczos-files.js'
import type { SpectrumParts } from './spectrum-compute.js'

// JSON has no NaN: a standard error from one probe comes as null.
const finite = z.number()
const known = finite.nullable().transform((x) => x ?? Number.NaN)
const ends = z.object({ top: z.array(finite), bottom: z.array(finite) })
const rows = z.array(z.array(finite))

const resultSchema = z.object({
  n: z.int().positive(),
  samples: z.int().positive(),
  eigenvalues: ends,
  residuals: ends,
  trace: z.object({ value: known, stderr: known }),
  density: z.object({ grid: z.array(finite), values: z.array(finite) }),
  nodes: rows,
  weights: rows,
  time_ms: finite,
  device: z.string(),
  dtype: z.enum(['f32', 'f64']).optional(),
  settings: z.record(z.string(), z.unknown()).optional(),
})

/** A spectrum in a run folder: the result and what it was asked for. */
export interface SavedSpectrum extends SpectrumResult {
  settings?: Record<string, unknown>
}

/** Of a file's name; file systems take 255 bytes, and temporary names are longer. */
const LONGEST = 120

/**
 * Name of a spectrum's file: `spectrum.json` for the Hessian of all parameters, else with the kind
 * and the block, `spectrum-gauss-newton-layers.0.weight.json`. Long blocks are cut and told apart by a hash.
 */
export function spectrumFile(kind: string, params: string | undefined): string {
  const parts = ['spectrum']
  if (kind !== 'hessian') parts.push(kind)
  if (params !== undefined) {
    // What a file name may not hold is told apart: 'a*' and '!a' are two blocks.
    parts.push(params.replace(/[^\w.-]/g, (c) => ({ '*': '+', '!': '~', ',': '_' })[c] ?? '='))
  }
  const name = parts.join('-')
  if (name.length <= LONGEST) return `${name}.json`
  const hash = createHash('sha256').update(`${params}`).digest('hex').slice(0, 16)
  return `${name.slice(0, LONGEST)}-${hash}.json`
}

/** @throws ERR_IO, ERR_FORMAT */
export async function readSpectrum(path: string): Promise<SavedSpectrum> {
  return parseJsonFile(path, 'a spectrum', resultSchema)
}

/** @throws ERR_IO */
export async function writeSpectrum(path: string, spectrum: SavedSpectrum): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify(spectrum)}\n`)
}

/** A JSON file against a schema. Throws ERR_IO, ERR_FORMAT. */
export async function parseJsonFile<T>(
  path: string,
  what: string,
  schema: z.ZodType<T>,
): Promise<T> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    throw ioError(path, 'read', error)
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw formatError(path, { expected: what, got: 'no valid JSON', cause })
  }
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const { path: where, message } = parsed.error.issues[0]
  throw formatError(path, { expected: what, got: `at '${where.join('.')}': ${message}` })
}

export async function fileExists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

const partsSchema = z.object({
  key: z.string(),
  ends: z.object({ eigenvalues: ends, residuals: ends }).nullable(),
  lanczos: lanczosSchema.nullable(),
  nodes: rows,
  weights: rows,
  time_ms: finite,
})

/**
 * The unfinished part of a spectrum, saved beside it as `NAME.partial.json`, with the basis vectors
 * of Lanczos in `NAME.partial.basis`.
 */
export class PartialSpectrum {
  private readonly path: string
  private readonly basis: BasisFile

  /** @param key everything that decides the numbers; parts of another key are not used */
  constructor(
    folder: string,
    file: string,
    private readonly key: string,
  ) {
    this.path = join(folder, file.replace(/\.json$/, '.partial.json'))
    this.basis = new BasisFile(join(folder, file.replace(/\.json$/, '.partial.basis')))
  }

  /** What was saved under the same key; null when there is nothing, or it cannot be used. */
  async load(): Promise<SpectrumParts | null> {
    try {
      const { key, lanczos, ...parts } = await parseJsonFile(
        this.path,
        'a partial spectrum',
        partsSchema,
      )
      if (key !== this.key || parts.nodes.length !== parts.weights.length) return null
      return { ...parts, lanczos: lanczos && (await loadCheckpoint(lanczos, this.basis)) }
    } catch {
      // Absent or damaged: the work is simply done again.
      return null
    }
  }

  /** Vectors go to the disk before what refers to them: a crash leaves the older state valid. */
  async save({ lanczos, ...parts }: SpectrumParts): Promise<void> {
    if (lanczos) await this.basis.write(lanczos.firstRow, lanczos.basis)
    const state = lanczos && plainCheckpoint(lanczos)
    await writeFileAtomic(
      this.path,
      `${JSON.stringify({ key: this.key, lanczos: state, ...parts })}\n`,
    )
    if (!lanczos) await this.basis.remove()
  }

  async remove(): Promise<void> {
    await rm(this.path, { force: true })
    await this.basis.remove()
  }
}
