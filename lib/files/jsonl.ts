import { open, readFile, truncate } from 'node:fs/promises'
import { formatError, ioError } from './errors.js'

/** One line of a JSON Lines file. */
export type JsonRecord = Readonly<Record<string, unknown>>

/** Content of a JSON Lines file. */
export interface JsonLines {
  readonly records: JsonRecord[]
  /** True when a last line without end was left out: a write was interrupted. */
  readonly torn: boolean
}

/**
 * Appends records as one line of JSON each, in one write, so that a crash tears at most the last
 * line. NaN and infinities become null. Throws ERR_IO.
 */
export async function appendJsonLines(
  path: string,
  ...records: readonly JsonRecord[]
): Promise<void> {
  const text = records.map((record) => `${JSON.stringify(record)}\n`).join('')
  try {
    const handle = await open(path, 'a')
    try {
      await handle.appendFile(text)
    } finally {
      await handle.close()
    }
  } catch (error) {
    throw ioError(path, 'write', error)
  }
}

/**
 * Reads a JSON Lines file. A torn last line (no line end, or no valid JSON) is left out; any other
 * bad line throws ERR_FORMAT with its number. Throws ERR_IO.
 */
export async function readJsonLines(path: string): Promise<JsonLines> {
  const { lines, torn } = await readLines(path)
  return { records: lines.map(({ record }) => record), torn }
}

/**
 * Makes the file end with the last record of a step up to `step`: the first record with a larger
 * `step` field and everything after it are cut off, as is a torn last line. Records without a
 * `step` count as belonging to the one before. What a resumed run appends then continues the file
 * as if it had never stopped. A missing file is left missing. Throws ERR_IO, ERR_FORMAT.
 */
export async function truncateJsonLines(path: string, step: number): Promise<void> {
  let content: Awaited<ReturnType<typeof readLines>>
  try {
    content = await readLines(path)
  } catch (error) {
    const cause = (error as { cause?: { code?: string } }).cause
    if (cause?.code === 'ENOENT') return
    throw error
  }
  const { lines, size } = content
  const beyond = lines.findIndex(
    ({ record }) => typeof record.step === 'number' && record.step > step,
  )
  const kept = beyond < 0 ? lines : lines.slice(0, beyond)
  const end = kept.length > 0 ? kept[kept.length - 1].end : 0
  if (end === size) return
  try {
    await truncate(path, end)
  } catch (error) {
    throw ioError(path, 'write', error)
  }
}

async function readLines(
  path: string,
): Promise<{ lines: { record: JsonRecord; end: number }[]; torn: boolean; size: number }> {
  let bytes: Buffer
  try {
    bytes = await readFile(path)
  } catch (error) {
    throw ioError(path, 'read', error)
  }
  const lines: { record: JsonRecord; end: number }[] = []
  let begin = 0
  for (let number = 1; begin < bytes.length; number++) {
    const newline = bytes.indexOf(0x0a, begin)
    if (newline < 0) return { lines, torn: true, size: bytes.length }
    const end = newline + 1
    const record = parseLine(bytes.toString('utf8', begin, newline))
    if (record === undefined) {
      // After a power cut the last blocks of a file may be zeros that end anywhere.
      if (end >= bytes.length) return { lines, torn: true, size: bytes.length }
      throw formatError(path, {
        line: number,
        expected: 'a JSON object',
        got: JSON.stringify(bytes.toString('utf8', begin, Math.min(newline, begin + 40))),
      })
    }
    if (record !== null) lines.push({ record, end })
    begin = end
  }
  return { lines, torn: false, size: bytes.length }
}

/** null for an empty line, undefined for a bad one. */
function parseLine(text: string): JsonRecord | null | undefined {
  if (text.trim() === '') return null
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as JsonRecord)
      : undefined
  } catch {
    return undefined
  }
}
