import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { makeFolder } from '../../lib/files/folder.js'
import { temporaryFolder } from './temporary.js'

it('makes missing parents, and leaves what is there', async () => {
  const folder = join(temporaryFolder().path, 'a', 'b', 'c')
  await makeFolder(folder)
  await makeFolder(folder)
  expect(statSync(folder).isDirectory()).toBe(true)
})

it('refuses a path that is, or goes through, a file', async () => {
  const file = temporaryFolder().put('file', '')
  await expect(makeFolder(file)).rejects.toMatchObject({ code: 'ERR_IO' })
  await expect(makeFolder(join(file, 'below'))).rejects.toMatchObject({ code: 'ERR_IO' })
})

it.runIf(existsSync('/proc/self'))('ends where no parent can be made', async () => {
  await expect(makeFolder('/proc/none/below')).rejects.toMatchObject({ code: 'ERR_IO' })
})
