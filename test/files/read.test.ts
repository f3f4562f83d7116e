import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Plan, readBytes } from '../../lib/files/read.js'
import { rejection, surviveCorruption, temporaryFolder } from './temporary.js'

const folder = temporaryFolder()

/** Byte 0 tells the length of the file. */
const planned: Plan = (head) => (head.length < 1 ? null : head[0])

describe('readBytes', () => {
  it('reads plain and gzip files alike', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 3000 }), async (bytes) => {
        fc.pre(bytes[0] !== 0x1f)
        const expected = Uint8Array.from(bytes)
        expect(await readBytes(folder.put('plain', bytes))).toEqual(expected)
        expect(await readBytes(folder.put('gz', gzipSync(bytes)))).toEqual(expected)
      }),
      { numRuns: 30 },
    )
  })

  it('reads a gzip file of several members', async () => {
    const members = Buffer.concat([gzipSync('one '), gzipSync('two')])
    expect(Buffer.from(await readBytes(folder.put('members', members))).toString()).toBe('one two')
  })

  it('reports a missing file and a folder', async () => {
    const missing = await rejection(readBytes(join(folder.path, 'nowhere')))
    expect(missing.code).toBe('ERR_IO')
    expect(missing.message).toMatch(/nowhere: no such file or folder/)
    expect((await rejection(readBytes(folder.path))).message).toMatch(/it is a folder/)
  })

  it('stops a gzip bomb at maxBytes, in bounded memory', async () => {
    const path = folder.put('bomb', gzipSync(new Uint8Array(64 << 20)))
    const before = process.memoryUsage().arrayBuffers
    const error = await rejection(readBytes(path, { maxBytes: 1 << 20 }))
    expect(error.code).toBe('ERR_FORMAT')
    expect(error.message).toContain('at most 1048576 bytes')
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 << 20)
  })

  it('refuses a plain file beyond maxBytes without reading it', async () => {
    const error = await rejection(readBytes(folder.put('large', 'abcdef'), { maxBytes: 5 }))
    expect(error.message).toContain('at most 5 bytes; got 6 bytes')
  })

  it.each(['plain', 'gzip'])('holds a %s file to the length in its head', async (kind) => {
    const put = (...bytes: number[]) =>
      folder.put(
        'planned',
        kind === 'gzip' ? gzipSync(Uint8Array.from(bytes)) : Uint8Array.from(bytes),
      )
    expect(await readBytes(put(3, 8, 9), {}, planned)).toEqual(Uint8Array.of(3, 8, 9))
    expect((await rejection(readBytes(put(3, 8), {}, planned))).message).toMatch(/truncated/)
    expect((await rejection(readBytes(put(3, 8, 9, 9), {}, planned))).message).toMatch(
      /byte 3: expected the end of the data/,
    )
    expect((await rejection(readBytes(put(), {}, planned))).message).toMatch(/complete header/)
  })

  it('does not allocate what a small gzip file cannot hold', async () => {
    const path = folder.put('liar', gzipSync(Uint8Array.of(1, 2, 3)))
    const error = await rejection(readBytes(path, {}, () => 2 ** 31))
    expect(error.message).toMatch(/too small to hold more/)
  })

  it('reports truncated gzip streams and bytes after them', async () => {
    const whole = gzipSync(Buffer.alloc(1000, 'abcdefg'))
    const cut = await rejection(readBytes(folder.put('cut', whole.subarray(0, 20))))
    expect(cut.code).toBe('ERR_FORMAT')
    expect(cut.message).toMatch(/truncated or damaged/)
    for (const tail of [Buffer.from('junk'), Buffer.alloc(4)]) {
      const error = await rejection(readBytes(folder.put('tail', Buffer.concat([whole, tail]))))
      expect(error.code).toBe('ERR_FORMAT')
    }
    // zlib itself takes zeros for padding.
    const padded = folder.put('padded', Buffer.concat([whole, Buffer.alloc(4)]))
    expect((await rejection(readBytes(padded))).message).toMatch(
      new RegExp(`byte ${whole.length}.*got 4 more bytes`),
    )
  })

  it('rejects with the reason of an aborted signal', async () => {
    const path = folder.put('some', gzipSync(new Uint8Array(32 << 20)))
    const early = await rejection(readBytes(path, { signal: AbortSignal.abort('no') }))
    expect([early.code, early.cause]).toEqual(['ERR_ABORTED', 'no'])
    const controller = new AbortController()
    const promise = readBytes(path, { signal: controller.signal })
    setTimeout(() => controller.abort('later'), 3)
    const late = await rejection(promise)
    expect([late.code, late.cause]).toEqual(['ERR_ABORTED', 'later'])
  })

  it('survives random damage', async () => {
    await surviveCorruption(gzipSync(Buffer.alloc(500, 'some text')), (bytes) =>
      readBytes(folder.put('damaged', bytes)),
    )
  })
})
