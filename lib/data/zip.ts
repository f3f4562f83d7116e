import type { FileHandle } from 'node:fs/promises'
import { setImmediate } from 'node:timers/promises'
import { crc32, createInflateRaw } from 'node:zlib'
import { throwIfAborted } from '../errors.js'
import { formatError } from '../files/errors.js'
import {
  allocate,
  DEFLATE_RATIO,
  MAX_BYTES,
  type ReadOptions,
  readAt,
  tooLarge,
  withFile,
} from '../files/read.js'

/** Limits of {@link readZip}. */
export interface ZipOptions extends ReadOptions {
  /** Most that an entry may expand by. Default 1032, the most that deflate can do. */
  maxRatio?: number
  /** Reads only the entries that this accepts. */
  filter?: (name: string) => boolean
}

interface Entry {
  name: string
  method: number
  crc: number
  packed: number
  size: number
  offset: number
  /** Where this entry's record stands in the directory, for errors. */
  record: number
}

const END = 0x06054b50
const RECORD = 0x02014b50
const LOCAL = 0x04034b50
const END_SIZE = 22
/** Bytes summed between two turns of the event loop, some milliseconds. */
const PIECE = 1 << 23

/**
 * Entries of a zip file by name, stored or deflated. The central directory is what counts; every
 * local header must agree with it, entries may not overlap, sizes and CRC-32 must hold, and all
 * entries together may not exceed `maxBytes` (declared or actual), so decompression bombs stop
 * before they cost memory. Encryption, several disks and ZIP64 sizes are refused.
 *
 * Throws ERR_IO, ERR_FORMAT, ERR_ABORTED.
 */
export async function readZip(
  path: string,
  options: ZipOptions = {},
): Promise<Map<string, Uint8Array>> {
  const { signal, maxBytes = MAX_BYTES, maxRatio = DEFLATE_RATIO, filter } = options
  throwIfAborted(signal)
  return withFile(path, async (handle, fileSize) => {
    const { entries, directory } = await readDirectory(handle, path, fileSize, signal)
    const wanted = entries.filter(({ name }) => !name.endsWith('/') && (filter?.(name) ?? true))
    let total = 0
    for (const entry of wanted) {
      total += entry.size
      if (total > maxBytes) throw tooLarge(path, maxBytes, `${total} or more declared`)
      if (entry.size > entry.packed * maxRatio) {
        throw formatError(path, {
          offset: entry.record,
          expected: `'${entry.name}' to expand at most ${maxRatio} times`,
          got: `${entry.packed} bytes declared to hold ${entry.size}`,
          hint: 'This may be a decompression bomb.',
        })
      }
    }
    const content = new Map<string, Uint8Array>()
    for (const { entry, begin } of await locate(handle, path, entries, directory, signal)) {
      if (!wanted.includes(entry)) continue
      const packed = await readAt(handle, path, begin, entry.packed, signal)
      const bytes = entry.method === 0 ? packed : await inflate(path, entry, packed, signal)
      await checkSum(path, entry, begin, bytes, signal)
      content.set(entry.name, bytes)
    }
    return content
  })
}

async function readDirectory(
  handle: FileHandle,
  path: string,
  fileSize: number,
  signal: AbortSignal | undefined,
): Promise<{ entries: Entry[]; directory: number }> {
  const tailSize = Math.min(fileSize, END_SIZE + 0xffff)
  const tail = await readAt(handle, path, fileSize - tailSize, tailSize, signal)
  const view = new DataView(tail.buffer)
  let at = tailSize - END_SIZE
  // The comment must reach the end of the file exactly, which rules out chance signatures.
  while (
    at >= 0 &&
    (view.getUint32(at, true) !== END || view.getUint16(at + 20, true) !== tailSize - at - END_SIZE)
  ) {
    at--
  }
  if (at < 0) {
    throw formatError(path, {
      offset: fileSize,
      expected: 'the end record of a zip file',
      got: 'none in the last bytes',
      hint: 'The file is truncated, or not a zip file.',
    })
  }
  const end = fileSize - tailSize + at
  const count = view.getUint16(at + 10, true)
  const size = view.getUint32(at + 12, true)
  const begin = view.getUint32(at + 16, true)
  if (view.getUint16(at + 4, true) !== 0 || view.getUint16(at + 6, true) !== 0) {
    throw formatError(path, { offset: end + 4, expected: 'one disk', got: 'several' })
  }
  if (view.getUint16(at + 8, true) !== count || begin + size !== end) {
    throw formatError(path, {
      offset: end + 8,
      expected: `a directory that ends at byte ${end}`,
      got: `${count} entries, ${size} bytes from byte ${begin} on`,
      hint: count === 0xffff || size === 0xffffffff ? 'ZIP64 files are not read.' : '',
    })
  }
  const bytes = await readAt(handle, path, begin, size, signal)
  return { entries: parseDirectory(path, bytes, begin, count), directory: begin }
}

function parseDirectory(path: string, bytes: Uint8Array, begin: number, count: number): Entry[] {
  const view = new DataView(bytes.buffer)
  const entries: Entry[] = []
  const names = new Set<string>()
  let at = 0
  for (let i = 0; i < count; i++) {
    const fits = at + 46 <= bytes.length && view.getUint32(at, true) === RECORD
    const next = fits
      ? at +
        46 +
        view.getUint16(at + 28, true) +
        view.getUint16(at + 30, true) +
        view.getUint16(at + 32, true)
      : Number.POSITIVE_INFINITY
    if (next > bytes.length) {
      throw formatError(path, {
        offset: begin + at,
        expected: `record ${i} of ${count} in the directory`,
        got: fits ? 'one that runs past its end' : 'no record signature',
      })
    }
    const entry: Entry = {
      name: new TextDecoder().decode(
        bytes.subarray(at + 46, at + 46 + view.getUint16(at + 28, true)),
      ),
      method: view.getUint16(at + 10, true),
      crc: view.getUint32(at + 16, true),
      packed: view.getUint32(at + 20, true),
      size: view.getUint32(at + 24, true),
      offset: view.getUint32(at + 42, true),
      record: begin + at,
    }
    checkEntry(path, entry, view.getUint16(at + 8, true))
    if (names.has(entry.name)) {
      throw formatError(path, {
        offset: begin + at,
        expected: 'each name once',
        got: `'${entry.name}' twice`,
      })
    }
    names.add(entry.name)
    entries.push(entry)
    at = next
  }
  if (at !== bytes.length) {
    throw formatError(path, {
      offset: begin + at,
      expected: `the end of the directory after ${count} records`,
      got: `${bytes.length - at} more bytes`,
    })
  }
  return entries
}

function checkEntry(path: string, entry: Entry, flags: number): void {
  const wrong = (expected: string, got: string) => {
    throw formatError(path, { offset: entry.record, expected, got })
  }
  if (flags & 1) wrong('entries without encryption', `'${entry.name}' encrypted`)
  if (entry.method !== 0 && entry.method !== 8) {
    wrong('stored or deflated entries', `'${entry.name}' with method ${entry.method}`)
  }
  if ([entry.packed, entry.size, entry.offset].includes(0xffffffff)) {
    wrong('entries below 4 GiB', `'${entry.name}' with ZIP64 sizes`)
  }
  if (entry.method === 0 && entry.packed !== entry.size) {
    wrong(`${entry.size} stored bytes for '${entry.name}'`, `${entry.packed}`)
  }
}

/** Where each entry's data begins; checks local headers, bounds and overlaps. */
async function locate(
  handle: FileHandle,
  path: string,
  entries: readonly Entry[],
  directory: number,
  signal: AbortSignal | undefined,
): Promise<{ entry: Entry; begin: number }[]> {
  const located: { entry: Entry; begin: number }[] = []
  let end = 0
  for (const entry of [...entries].sort((a, b) => a.offset - b.offset)) {
    const { name, offset } = entry
    if (offset < end || offset + 30 > directory) {
      throw formatError(path, {
        offset: entry.record + 42,
        expected: `'${name}' between byte ${end} and the directory at byte ${directory}`,
        got: `byte ${offset}`,
        hint: offset < end ? 'Entries overlap.' : '',
      })
    }
    const local = await readAt(handle, path, offset, 30, signal)
    const view = new DataView(local.buffer)
    const nameLength = view.getUint16(26, true)
    const begin = offset + 30 + nameLength + view.getUint16(28, true)
    end = begin + entry.packed
    const localName = await readAt(handle, path, offset + 30, nameLength, signal)
    if (view.getUint32(0, true) !== LOCAL || new TextDecoder().decode(localName) !== name) {
      throw formatError(path, { offset, expected: `the header of '${name}'`, got: 'another' })
    }
    if (end > directory) {
      throw formatError(path, {
        offset: begin,
        expected: `${entry.packed} bytes of '${name}' before the directory at byte ${directory}`,
        got: `${directory - begin}`,
      })
    }
    located.push({ entry, begin })
  }
  return located
}

async function inflate(
  path: string,
  entry: Entry,
  packed: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const stream = createInflateRaw({ chunkSize: 1 << 17 })
  const bytes = allocate(path, entry.size)
  let length = 0
  const stop = () => stream.destroy()
  signal?.addEventListener('abort', stop, { once: true })
  stream.end(packed)
  try {
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      length += chunk.length
      if (length > entry.size) break
      bytes.set(chunk, length - chunk.length)
    }
  } catch (cause) {
    throwIfAborted(signal)
    throw formatError(path, {
      offset: entry.offset,
      expected: `'${entry.name}' to be a sound deflate stream`,
      got: (cause as Error).message,
      cause,
    })
  } finally {
    signal?.removeEventListener('abort', stop)
    stream.destroy()
  }
  throwIfAborted(signal)
  if (length !== entry.size || stream.bytesWritten !== entry.packed) {
    throw formatError(path, {
      offset: entry.record + 24,
      expected: `'${entry.name}' to hold ${entry.size} bytes from ${entry.packed} as declared`,
      got: `${length > entry.size ? 'more' : length} from ${stream.bytesWritten}`,
    })
  }
  return bytes
}

async function checkSum(
  path: string,
  entry: Entry,
  begin: number,
  bytes: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  let crc = 0
  for (let at = 0; at < bytes.length; at += PIECE) {
    crc = crc32(bytes.subarray(at, at + PIECE), crc)
    await setImmediate()
    throwIfAborted(signal)
  }
  if (crc === entry.crc) return
  const hex = (value: number) => value.toString(16).padStart(8, '0')
  throw formatError(path, {
    offset: begin,
    expected: `'${entry.name}' with CRC-32 ${hex(entry.crc)}`,
    got: hex(crc),
  })
}
