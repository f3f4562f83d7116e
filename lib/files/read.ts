import { type FileHandle, open } from 'node:fs/promises'
import { createGunzip } from 'node:zlib'
import { LosscapeError, throwIfAborted } from '../errors.js'
import { formatError, ioError } from './errors.js'

/** Limits and cancellation of a reader. */
export interface ReadOptions {
  signal?: AbortSignal
  /** Most bytes a file may hold once decompressed. Default 4 GiB. */
  maxBytes?: number
}

/**
 * Tells from a file's first bytes how long it must be: the total length of the (decompressed)
 * file, or null when `head` is too short to tell. Throws when the head is wrong. `head` holds up
 * to {@link HEAD} bytes.
 */
export type Plan = (head: Uint8Array) => number | null

/** Default of {@link ReadOptions.maxBytes}. */
export const MAX_BYTES = 2 ** 32

/** No deflate stream expands by more than this (258 bytes from 2 bits, rounded up). */
export const DEFLATE_RATIO = 1032

/** Bytes of a file that a {@link Plan} gets to see at least, where the file has them. */
export const HEAD = 4096

const CHUNK = 1 << 24

/** Opens a file, runs `use`, closes it; ERR_IO when it cannot be opened or read. */
export async function withFile<T>(
  path: string,
  use: (handle: FileHandle, size: number) => Promise<T>,
): Promise<T> {
  let handle: FileHandle | undefined
  try {
    handle = await open(path, 'r')
    const stat = await handle.stat()
    if (!stat.isFile()) {
      throw Object.assign(new Error('not a regular file'), {
        code: stat.isDirectory() ? 'EISDIR' : 'EINVAL',
      })
    }
    return await use(handle, stat.size)
  } catch (error) {
    throw error instanceof LosscapeError ? error : ioError(path, 'read', error)
  } finally {
    await handle?.close()
  }
}

/** `length` bytes from `offset` on; ERR_FORMAT when the file ends before. */
export async function readAt(
  handle: FileHandle,
  path: string,
  offset: number,
  length: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const bytes = allocate(path, length)
  for (let done = 0; done < length; ) {
    throwIfAborted(signal)
    const size = Math.min(CHUNK, length - done)
    const { bytesRead } = await handle.read(bytes, done, size, offset + done)
    if (bytesRead === 0) {
      throw formatError(path, {
        offset: offset + done,
        expected: `${length - done} more bytes`,
        got: 'the end of the file',
      })
    }
    done += bytesRead
  }
  return bytes
}

/**
 * The content of a file, gunzipped when it starts with the gzip magic. With a `plan`, the length
 * that the head promises is enforced: less is reported as truncated, more as trailing bytes, and
 * decompression stops as soon as it is exceeded.
 *
 * Throws ERR_IO, ERR_FORMAT (file, offset, expected, got), ERR_ABORTED.
 */
export async function readBytes(
  path: string,
  options: ReadOptions = {},
  plan?: Plan,
): Promise<Uint8Array> {
  const { signal, maxBytes = MAX_BYTES } = options
  throwIfAborted(signal)
  return withFile(path, async (handle, size) => {
    const magic = await readAt(handle, path, 0, Math.min(2, size), signal)
    const gzip = magic[0] === 0x1f && magic[1] === 0x8b
    if (gzip) return gunzip(handle, path, size, { signal, maxBytes }, plan)
    if (size > maxBytes) throw tooLarge(path, maxBytes, `${size} bytes`)
    if (plan) {
      const head = await readAt(handle, path, 0, Math.min(HEAD, size), signal)
      const total = plan(head)
      if (total === null) throw cutHead(path, size)
      if (size < total) throw truncated(path, total, size)
      if (size > total) throw trailing(path, total, `${size}`)
    }
    return readAt(handle, path, 0, size, signal)
  })
}

async function gunzip(
  handle: FileHandle,
  path: string,
  size: number,
  options: { signal: AbortSignal | undefined; maxBytes: number },
  plan: Plan | undefined,
): Promise<Uint8Array> {
  const { signal, maxBytes } = options
  const sink = new Sink(path, Math.min(maxBytes, size * DEFLATE_RATIO), maxBytes, plan)
  const inflate = createGunzip({ chunkSize: 1 << 17 })
  const source = handle.createReadStream({ autoClose: false, start: 0, highWaterMark: 1 << 17 })
  const stop = () => inflate.destroy()
  signal?.addEventListener('abort', stop, { once: true })
  source.on('error', (error) => inflate.destroy(error))
  source.pipe(inflate)
  try {
    for await (const chunk of inflate) sink.push(chunk as Uint8Array)
  } catch (error) {
    throwIfAborted(signal)
    if (error instanceof LosscapeError) throw error
    if (!String((error as NodeJS.ErrnoException).code).startsWith('Z_')) throw error
    throw formatError(path, {
      offset: inflate.bytesWritten,
      expected: 'a sound gzip stream',
      got: `${(error as Error).message} after ${sink.length} decompressed bytes`,
      hint: 'The file is truncated or damaged.',
      cause: error,
    })
  } finally {
    signal?.removeEventListener('abort', stop)
    source.destroy()
    inflate.destroy()
  }
  throwIfAborted(signal)
  // zlib takes zeros after the last member for padding.
  if (inflate.bytesWritten < size) {
    throw formatError(path, {
      offset: inflate.bytesWritten,
      expected: 'the end of the file after the gzip stream',
      got: `${size - inflate.bytesWritten} more bytes`,
    })
  }
  return sink.finish()
}

/** Collects chunks, never more than the head's plan or the limit allows. */
class Sink {
  length = 0
  private chunks: Uint8Array[] = []
  /** Allocated once the plan has told the length. */
  private planned: Uint8Array | undefined

  constructor(
    private readonly path: string,
    private readonly reachable: number,
    private readonly maxBytes: number,
    private readonly plan: Plan | undefined,
  ) {}

  push(chunk: Uint8Array): void {
    const begin = this.length
    this.length += chunk.length
    if (this.planned) {
      if (this.length > this.planned.length) throw trailing(this.path, this.planned.length, 'more')
      this.planned.set(chunk, begin)
      return
    }
    if (this.length > this.maxBytes) throw tooLarge(this.path, this.maxBytes, 'more')
    this.chunks.push(chunk)
    if (this.plan) this.settle(this.plan)
  }

  finish(): Uint8Array {
    if (!this.plan) return this.join(this.length)
    if (!this.planned) throw cutHead(this.path, this.length)
    if (this.length < this.planned.length) {
      throw truncated(this.path, this.planned.length, this.length)
    }
    return this.planned
  }

  private settle(plan: Plan): void {
    const total = plan(this.join(this.length))
    if (total === null) return
    if (this.length > total) throw trailing(this.path, total, 'more')
    if (total > this.maxBytes) {
      throw tooLarge(this.path, this.maxBytes, `${total} declared in its header`)
    }
    // A header that lies must not make us allocate what the file cannot hold.
    if (total > this.reachable) {
      throw formatError(this.path, {
        expected: `${total} bytes as the header declares`,
        got: `a gzip file too small to hold more than ${this.reachable}`,
      })
    }
    this.planned = this.join(total)
    this.chunks = []
  }

  private join(size: number): Uint8Array {
    const all = allocate(this.path, size)
    let offset = 0
    for (const chunk of this.chunks) {
      all.set(chunk, offset)
      offset += chunk.length
    }
    return all
  }
}

/** Bytes of the library's own, or ERR_OUT_OF_MEMORY. */
export function allocate(path: string, length: number): Uint8Array {
  try {
    return new Uint8Array(length)
  } catch (cause) {
    throw new LosscapeError(
      'ERR_OUT_OF_MEMORY',
      `Reading ${path} needs ${length} bytes of memory at once.`,
      { cause },
    )
  }
}

function cutHead(path: string, got: number): LosscapeError {
  return formatError(path, {
    offset: got,
    expected: 'a complete header',
    got: `the end of the data after ${got} bytes`,
    hint: 'The file is truncated.',
  })
}

function truncated(path: string, expected: number, got: number): LosscapeError {
  return formatError(path, {
    offset: got,
    expected: `${expected} bytes as the header declares`,
    got: `${got}`,
    hint: 'The file is truncated.',
  })
}

function trailing(path: string, expected: number, got: string): LosscapeError {
  return formatError(path, {
    offset: expected,
    expected: `the end of the data after ${expected} bytes`,
    got,
    hint: 'Bytes follow the declared data.',
  })
}

/** The refusal of a file beyond `maxBytes`. */
export function tooLarge(path: string, maxBytes: number, got: string): LosscapeError {
  return formatError(path, {
    expected: `at most ${maxBytes} bytes`,
    got,
    hint: 'Raise maxBytes if the file is trusted.',
  })
}
