import { randomBytes } from 'node:crypto'
import { type FileHandle, open, realpath, rename, stat, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { LosscapeError, throwIfAborted } from '../errors.js'
import { ioError } from './errors.js'
import { makeFolder } from './folder.js'

/** Content of a file: text, bytes, or pieces of them in order. */
export type FileContent = string | Uint8Array | Iterable<string | Uint8Array>

/** Options of {@link writeFileAtomic}. */
export interface WriteOptions {
  /** Checked between pieces; an aborted write leaves the old file as it was. */
  signal?: AbortSignal
  /** Makes missing folders. Default false. */
  makeFolders?: boolean
}

const PIECE = 1 << 26

/** What is to be replaced: the file behind a link; never a device, a pipe or a folder. */
async function regularTarget(path: string): Promise<string> {
  const target = await realpath(path).catch(() => path)
  const entry = await stat(target).catch(() => null)
  if (entry && !entry.isFile()) {
    throw new LosscapeError('ERR_IO', `Cannot write ${path}: it is not a regular file.`)
  }
  return target
}

/**
 * Writes a file so that a reader, or a crash at any moment, sees the old content or the new one,
 * never a part: a temporary file in the same folder is written, flushed to the disk and renamed,
 * then the folder is flushed. The temporary file is removed on failure.
 *
 * Throws ERR_IO, ERR_ABORTED.
 */
export async function writeFileAtomic(
  path: string,
  content: FileContent,
  options: WriteOptions = {},
): Promise<void> {
  const { signal, makeFolders = false } = options
  throwIfAborted(signal)
  const target = await regularTarget(path)
  const folder = dirname(target)
  const temporary = join(folder, `.${basename(target)}.${randomBytes(6).toString('hex')}.tmp`)
  let handle: FileHandle | undefined
  let created = false
  try {
    if (makeFolders) await makeFolder(folder)
    handle = await open(temporary, 'wx')
    created = true
    for (const piece of pieces(content)) {
      throwIfAborted(signal)
      await writeAll(handle, piece)
    }
    await handle.sync()
    await handle.close()
    handle = undefined
    throwIfAborted(signal)
    await rename(temporary, target)
    created = false
    await syncFolder(folder)
  } catch (error) {
    await handle?.close().catch(() => undefined)
    if (created) await unlink(temporary).catch(() => undefined)
    throw error instanceof LosscapeError ? error : ioError(path, 'write', error)
  }
}

function* pieces(content: FileContent): Generator<Uint8Array> {
  const parts = typeof content === 'string' || content instanceof Uint8Array ? [content] : content
  for (const part of parts) {
    const bytes = typeof part === 'string' ? Buffer.from(part) : part
    for (let at = 0; at < bytes.length; at += PIECE) yield bytes.subarray(at, at + PIECE)
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done)
    done += bytesWritten
  }
}

/** Makes the rename itself durable. Windows cannot open folders; there the rename is enough. */
async function syncFolder(folder: string): Promise<void> {
  let handle: FileHandle | undefined
  try {
    handle = await open(folder, 'r')
    await handle.sync()
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (!['EISDIR', 'EPERM', 'EACCES', 'EINVAL', 'ENOTSUP'].includes(code ?? '')) throw error
  } finally {
    await handle?.close()
  }
}
