import { open, rm } from 'node:fs/promises'
import { z } from 'zod'
import type { LanczosCheckpoint } from '../curvature/lanczos-checkpoint.js'
import { REORTHOGONALIZE } from '../curvature/lanczos-run.js'
import { allocate } from '../curvature/operator.js'
import { ioError } from '../files/errors.js'
import type { FloatVector } from '../nn/layout.js'

const count = z.int().nonnegative()
// Numbers come back from JSON with all their bits.
const list = z.array(z.number()).transform((numbers) => Float64Array.from(numbers))

/** A checkpoint of Lanczos without its vectors. */
export const lanczosSchema = z.object({
  size: z.int().positive(),
  dtype: z.enum(['f32', 'f64']),
  seed: count,
  reorthogonalize: z.enum(REORTHOGONALIZE),
  basisSize: count.nullable(),
  copies: z.object({ spaces: count, values: list.nullable() }),
  state: z.object({
    steps: count,
    kept: count,
    products: count,
    restarts: count,
    breakdowns: count,
    reorthogonalizations: count,
    alpha: list,
    beta: list,
    asymmetry: z.number(),
    noise: z.number(),
    invariantSubspaceAt: z.int(),
    exhausted: z.boolean(),
    estimate: z.object({
      current: list,
      previous: list,
      noise: z.number(),
      pending: z.boolean(),
      ritz: list,
    }),
  }),
})

/** What {@link lanczosSchema} reads, for JSON. */
export function plainCheckpoint({ basis, firstRow, ...rest }: LanczosCheckpoint): unknown {
  return JSON.parse(JSON.stringify(rest, (_, x) => (x instanceof Float64Array ? [...x] : x)))
}

/** The checkpoint with its vectors; null when the file does not hold them all. */
export async function loadCheckpoint(
  saved: z.infer<typeof lanczosSchema>,
  file: BasisFile,
): Promise<LanczosCheckpoint | null> {
  const { steps, exhausted } = saved.state
  const basis = await file.read(steps + (exhausted ? 0 : 1), () =>
    allocate(saved.dtype, saved.size),
  )
  return basis && { ...saved, basis, firstRow: 0 }
}

/** Basis vectors one after another as they are in memory; rows are added at the end. */
export class BasisFile {
  constructor(private readonly path: string) {}

  /** Rows from number `first` on; what is there from it on is replaced. Throws ERR_IO. */
  async write(first: number, rows: readonly FloatVector[]): Promise<void> {
    if (rows.length === 0) return
    try {
      const handle = await open(this.path, first === 0 ? 'w' : 'r+')
      try {
        for (const [i, row] of rows.entries()) {
          const { buffer, byteOffset, byteLength } = row
          const bytes = new Uint8Array(buffer, byteOffset, byteLength)
          await writeAt(handle, bytes, (first + i) * byteLength)
        }
        await handle.datasync()
      } finally {
        await handle.close()
      }
    } catch (error) {
      throw ioError(this.path, 'write', error)
    }
  }

  /** The first `count` rows, or null when there are fewer. Throws what opening throws. */
  async read(count: number, row: () => FloatVector): Promise<FloatVector[] | null> {
    const handle = await open(this.path, 'r')
    try {
      const rows: FloatVector[] = []
      for (let r = 0; r < count; r++) {
        const values = row()
        const bytes = new Uint8Array(values.buffer)
        let at = 0
        while (at < bytes.length) {
          const position = r * bytes.length + at
          const { bytesRead } = await handle.read(bytes, at, bytes.length - at, position)
          if (bytesRead === 0) return null
          at += bytesRead
        }
        rows.push(values)
      }
      return rows
    } finally {
      await handle.close()
    }
  }

  async remove(): Promise<void> {
    await rm(this.path, { force: true })
  }
}

async function writeAt(
  handle: Awaited<ReturnType<typeof open>>,
  bytes: Uint8Array,
  position: number,
): Promise<void> {
  let at = 0
  while (at < bytes.length) {
    const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, position + at)
    at += bytesWritten
  }
}
