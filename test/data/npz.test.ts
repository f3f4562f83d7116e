import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readNpz } from '../../lib/data/index.js'
import { encodeNpy } from '../../lib/data/npy.js'
import { readZip } from '../../lib/data/zip.js'
import { rejection, surviveCorruption, temporaryFolder } from '../files/temporary.js'
import { type ZipEntry, zipFile } from './zip-file.js'

const folder = temporaryFolder()
const put = (entries: ZipEntry[], comment?: string) =>
  folder.put('a.zip', zipFile(entries, comment))
const text = (name: string, content: string): ZipEntry => ({ name, data: Buffer.from(content) })

describe('readZip', () => {
  it('reads stored and deflated entries, with a comment, in file order', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.tuple(fc.stringMatching(/^[a-z]{1,8}$/), fc.uint8Array(), fc.boolean()), {
          selector: ([name]) => name,
          maxLength: 5,
        }),
        fc.string({ unit: 'grapheme-ascii', maxLength: 40 }),
        async (files, comment) => {
          const entries = files.map(([name, data, stored]) => ({ name, data, stored }))
          const back = await readZip(put(entries, comment))
          expect([...back.keys()]).toEqual(files.map(([name]) => name))
          for (const [name, data] of files) expect(back.get(name)).toEqual(Uint8Array.from(data))
        },
      ),
      { numRuns: 40 },
    )
  })

  it('reads only what the filter accepts, and counts only that', async () => {
    const path = put([text('a', 'xx'), text('b', 'y'.repeat(1000))])
    const back = await readZip(path, { filter: (name) => name === 'a', maxBytes: 10 })
    expect([...back.keys()]).toEqual(['a'])
  })

  const zeros = new Uint8Array(1 << 20)
  it.each<[string, ZipEntry[], object, RegExp]>([
    [
      'more declared bytes than the limit',
      [{ name: 'a', data: zeros }],
      { maxBytes: 1000 },
      /at most 1000 bytes/,
    ],
    [
      'many entries beyond the limit together',
      [text('a', 'x'.repeat(60)), text('b', 'x'.repeat(60))],
      { maxBytes: 100 },
      /at most 100 bytes; got 120/,
    ],
    [
      'a ratio beyond the limit',
      [{ name: 'a', data: zeros }],
      { maxRatio: 100 },
      /decompression bomb/,
    ],
    [
      'a ratio that deflate cannot reach',
      [{ ...text('a', 'x'), size: 1e6 }],
      {},
      /decompression bomb/,
    ],
    [
      'an entry that holds more than it declares',
      [{ name: 'a', data: zeros, size: 1000 }],
      {},
      /to hold 1000 bytes .*got more/,
    ],
    [
      'an entry that holds less than it declares',
      [{ ...text('a', 'xyz'), size: 9 }],
      {},
      /to hold 9 bytes .*got 3/,
    ],
    ['a wrong CRC', [{ ...text('a', 'xyz'), crc: 1 }], {}, /CRC-32 00000001; got/],
    ['a wrong CRC of stored data', [{ ...text('a', 'xyz'), stored: true, crc: 1 }], {}, /CRC-32/],
    ['encryption', [{ ...text('a', 'x'), flags: 1 }], {}, /without encryption/],
    ['an unknown method', [{ ...text('a', 'x'), method: 12 }], {}, /method 12/],
    ['ZIP64 sizes', [{ ...text('a', 'x'), size: 0xffffffff }], {}, /below 4 GiB/],
    [
      'stored sizes that disagree',
      [{ ...text('a', 'xyz'), stored: true, size: 2 }],
      {},
      /2 stored bytes/,
    ],
    [
      'overlapping entries',
      [text('a', 'xyz'), { ...text('b', 'uvw'), offset: 0 }],
      {},
      /overlap|another/i,
    ],
    ['an offset outside the file', [{ ...text('a', 'x'), offset: 1e6 }], {}, /byte 1000000/],
    [
      'data that runs into the directory',
      [{ ...text('a', 'xyz'), packed: 400 }],
      {},
      /before the directory/,
    ],
    ['a local name that differs', [{ ...text('a', 'x'), localName: 'b' }], {}, /the header of 'a'/],
    ['a name twice', [text('a', 'x'), text('a', 'y')], {}, /each name once/],
  ])('refuses %s', async (_, entries, options, message) => {
    const error = await rejection(readZip(put(entries), options))
    expect(error.code).toBe('ERR_FORMAT')
    expect(error.message).toMatch(message)
  })

  it('refuses entries that overlap in part', async () => {
    const entries = [
      { ...text('a', 'q'.repeat(9)), stored: true, packed: 20, size: 20 },
      text('b', 'z'),
    ]
    expect((await rejection(readZip(put(entries)))).message).toMatch(/overlap/)
  })

  it('refuses truncated files, text, and a directory that lies', async () => {
    const bytes = zipFile([text('a', 'xyz')])
    for (const bad of [bytes.subarray(0, -1), Buffer.from('hello'), new Uint8Array(0)]) {
      expect((await rejection(readZip(folder.put('bad', bad)))).message).toMatch(/end record/)
    }
    const count = Uint8Array.from(bytes)
    count[bytes.length - 12] = 2
    count[bytes.length - 14] = 2
    expect((await rejection(readZip(folder.put('bad', count)))).message).toMatch(/record 1 of 2/)
    const place = Uint8Array.from(bytes)
    place[bytes.length - 6]++
    expect((await rejection(readZip(folder.put('bad', place)))).message).toMatch(
      /a directory that ends/,
    )
  })

  it('survives random damage', async () => {
    const bytes = zipFile([text('a', 'x'.repeat(500)), { ...text('b', 'stored'), stored: true }])
    await surviveCorruption(bytes, (damaged) => readZip(folder.put('damaged', damaged)), {
      numRuns: 400,
    })
  })

  it('stops when aborted', async () => {
    const path = put([text('a', 'x')])
    expect((await rejection(readZip(path, { signal: AbortSignal.abort() }))).code).toBe(
      'ERR_ABORTED',
    )
  })
})

describe('readNpz', () => {
  it('returns arrays by key and ignores other entries', async () => {
    const path = folder.put(
      'a.npz',
      zipFile([
        { name: 'x.npy', data: encodeNpy({ shape: [2, 1], data: Float32Array.of(1, 2) }) },
        {
          name: 'y.npy',
          data: encodeNpy({ shape: [2], data: BigInt64Array.of(0n, 1n) }),
          stored: true,
        },
        text('readme.txt', 'hello'),
      ]),
    )
    const arrays = await readNpz(path)
    expect([...arrays.keys()]).toEqual(['x', 'y'])
    expect(arrays.get('x')).toEqual({ shape: [2, 1], data: Float32Array.of(1, 2) })
  })

  it('names file and array when an array is damaged', async () => {
    const path = folder.put('b.npz', zipFile([text('x.npy', 'no array at all')]))
    const error = await rejection(readNpz(path))
    expect(error.message).toMatch(/b\.npz: array 'x' at byte 0: expected the \.npy magic/)
  })
})
