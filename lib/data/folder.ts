import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { LosscapeError } from '../errors.js'
import { ioError } from '../files/errors.js'

/** Names in a folder; ERR_IO when it cannot be listed. */
export async function listFolder(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    throw ioError(folder, 'read', error)
  }
}

/** The first of `names` that the folder holds, plain or with `.gz`; ERR_IO when none is there. */
export async function findFile(folder: string, names: readonly string[]): Promise<string> {
  const present = new Set(await listFolder(folder))
  for (const name of names) {
    if (present.has(name)) return join(folder, name)
    if (present.has(`${name}.gz`)) return join(folder, `${name}.gz`)
  }
  throw new LosscapeError(
    'ERR_IO',
    `${folder}: expected a file ${names[0]} or ${names[0]}.gz; the folder holds ` +
      `${present.size === 0 ? 'nothing' : [...present].sort().slice(0, 8).join(', ')}.`,
  )
}

/** Runs `make`; an error of ours gets the folder's or file's name in front. */
export function withPath<T>(path: string, make: () => T): T {
  try {
    return make()
  } catch (error) {
    if (!(error instanceof LosscapeError)) throw error
    throw new LosscapeError(error.code, `${path}: ${error.message}`, { cause: error })
  }
}
