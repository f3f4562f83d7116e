import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { ioError } from './errors.js'

/**
 * Makes a folder and its missing parents. Throws ERR_IO.
 *
 * Not `mkdir` with `recursive`: where a parent refuses with ENOENT, as /proc does, Node tries
 * again for ever.
 */
export async function makeFolder(path: string): Promise<void> {
  try {
    await make(path, true)
  } catch (error) {
    throw ioError(path, 'write', error)
  }
}

async function make(path: string, parents: boolean): Promise<void> {
  try {
    await mkdir(path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const above = dirname(path)
    if (code === 'ENOENT' && parents && above !== path) {
      await make(above, true)
      return make(path, false)
    }
    const there = code === 'EEXIST' && (await stat(path)).isDirectory()
    if (!there) throw error
  }
}
