import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { writeFileAtomic } from '../../lib/files/index.js'
import { rejection, temporaryFolder } from './temporary.js'

const folder = temporaryFolder()

describe('writeFileAtomic', () => {
  it('writes text, bytes and pieces, and replaces what was there', async () => {
    const path = join(folder.path, 'a.txt')
    await writeFileAtomic(path, 'first')
    expect(readFileSync(path, 'utf8')).toBe('first')
    await writeFileAtomic(path, ['sec', Uint8Array.of(0x6f, 0x6e), 'd'])
    expect(readFileSync(path, 'utf8')).toBe('second')
    await writeFileAtomic(path, '')
    expect(readFileSync(path, 'utf8')).toBe('')
    expect(readdirSync(folder.path)).toEqual(['a.txt'])
  })

  it('leaves the old file and no temporary one when the content fails half-way', async () => {
    const path = folder.put('b.txt', 'old')
    function* failing() {
      yield 'new'
      throw new RangeError('no more')
    }
    const error = await rejection(writeFileAtomic(path, failing()))
    expect(error.code).toBe('ERR_IO')
    expect(readFileSync(path, 'utf8')).toBe('old')
    expect(readdirSync(folder.path).filter((name) => name.endsWith('.tmp'))).toEqual([])
  })

  it('leaves the old file when aborted between pieces', async () => {
    const path = folder.put('c.txt', 'old')
    const controller = new AbortController()
    function* aborting() {
      yield 'new'
      controller.abort(new Error('enough'))
      yield 'newer'
    }
    const error = await rejection(writeFileAtomic(path, aborting(), { signal: controller.signal }))
    expect(error.code).toBe('ERR_ABORTED')
    expect((error.cause as Error).message).toBe('enough')
    expect(readFileSync(path, 'utf8')).toBe('old')
    expect(readdirSync(folder.path).filter((name) => name.endsWith('.tmp'))).toEqual([])
  })

  it('reports a missing folder, or makes it when asked', async () => {
    const path = join(folder.path, 'deep', 'er', 'd.txt')
    const error = await rejection(writeFileAtomic(path, 'x'))
    expect(error.code).toBe('ERR_IO')
    expect(error.message).toContain('no such file or folder')
    await writeFileAtomic(path, 'x', { makeFolders: true })
    expect(readFileSync(path, 'utf8')).toBe('x')
  })

  it('reports a target that is a folder and cleans up', async () => {
    const path = join(folder.path, 'taken')
    mkdirSync(path)
    expect((await rejection(writeFileAtomic(path, 'x'))).code).toBe('ERR_IO')
    expect(readdirSync(folder.path).filter((name) => name.endsWith('.tmp'))).toEqual([])
  })
})
