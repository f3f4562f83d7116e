import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readIdx, readMnist } from '../../lib/data/index.js'
import { rejection, surviveCorruption, temporaryFolder } from '../files/temporary.js'

const folder = temporaryFolder()

function idx(type: number, shape: number[], data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + 4 * shape.length + data.length)
  const view = new DataView(bytes.buffer)
  bytes.set([0, 0, type, shape.length])
  shape.forEach((d, i) => {
    view.setUint32(4 + 4 * i, d)
  })
  bytes.set(data, 4 + 4 * shape.length)
  return bytes
}

describe('readIdx', () => {
  it('round-trips bytes of any shape, plain and gzip', async () => {
    const shapes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 4 })
    await fc.assert(
      fc.asyncProperty(shapes, fc.boolean(), async (shape, gzip) => {
        const data = Uint8Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => i)
        const bytes = idx(8, shape, data)
        expect(await readIdx(folder.put('x', gzip ? gzipSync(bytes) : bytes))).toEqual({
          shape,
          data,
        })
      }),
      { numRuns: 40 },
    )
  })

  it.each([
    [9, [0xff, 0x01], Int8Array.of(-1, 1)],
    [11, [0xff, 0xfe, 0x01, 0x00], Int16Array.of(-2, 256)],
    [12, [0xff, 0xff, 0xff, 0xfd, 0, 0, 1, 0], Int32Array.of(-3, 256)],
    [13, [0x3f, 0xc0, 0, 0, 0xc0, 0, 0, 0], Float32Array.of(1.5, -2)],
    [14, [0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0], Float64Array.of(1.5, -2)],
  ])('reads big-endian type %i', async (type, data, expected) => {
    const path = folder.put('typed', idx(type, [2], Uint8Array.from(data)))
    expect((await readIdx(path)).data).toEqual(expected)
  })

  it('reads a header of the largest rank', async () => {
    const path = folder.put('rank', idx(8, new Array(255).fill(1), Uint8Array.of(7)))
    expect((await readIdx(path)).data).toEqual(Uint8Array.of(7))
  })

  it.each([
    [
      'wrong magic',
      Uint8Array.of(1, 2, 8, 1, 0, 0, 0, 0),
      /byte 0: expected the IDX magic.*01 02 08 01/,
    ],
    ['an unknown type', Uint8Array.of(0, 0, 7, 1, 0, 0, 0, 0), /IDX magic/],
    ['rank 0', Uint8Array.of(0, 0, 8, 0, 0, 0, 0, 0), /IDX magic/],
    ['a cut header', Uint8Array.of(0, 0, 8, 3, 0, 0, 0, 1), /complete header/],
    ['nothing', new Uint8Array(0), /complete header/],
    [
      'a length that lies',
      idx(8, [100], new Uint8Array(9)),
      /expected 108 bytes.*got 17.*truncated/,
    ],
    [
      'trailing bytes',
      idx(8, [3], new Uint8Array(5)),
      /byte 11: expected the end.*after 11 bytes; got 13/,
    ],
    ['dimensions beyond memory', idx(8, [4e9, 4e9, 4e9], new Uint8Array(1)), /fit into memory/],
  ])('refuses %s', async (_, bytes, message) => {
    for (const form of [bytes, gzipSync(bytes)]) {
      const error = await rejection(readIdx(folder.put('bad', form)))
      expect(error.code).toBe('ERR_FORMAT')
      if (form === bytes) expect(error.message).toMatch(message)
    }
  })

  it('survives random damage', async () => {
    const bytes = idx(8, [4, 3, 2], new Uint8Array(24))
    const read = (damaged: Uint8Array) => readIdx(folder.put('damaged', damaged))
    await surviveCorruption(bytes, read)
    await surviveCorruption(gzipSync(bytes), read)
  })
})

describe('readMnist', () => {
  const put = (prefix: string, count: number, labels: number[]) => {
    folder.put(
      `${prefix}-images-idx3-ubyte.gz`,
      gzipSync(idx(8, [count, 2, 2], new Uint8Array(4 * count).fill(9))),
    )
    folder.put(`${prefix}-labels-idx1-ubyte`, idx(8, [labels.length], Uint8Array.from(labels)))
  }

  it('finds plain and gzip files of both splits', async () => {
    put('train', 3, [0, 9, 1])
    put('t10k', 2, [5, 5])
    const train = await readMnist(folder.path, 'train')
    expect(train).toMatchObject({ name: 'mnist', size: 3, shape: [2, 2], classes: 10 })
    expect(train.targets).toEqual(Int32Array.of(0, 9, 1))
    expect(train.normalization).toEqual({ mean: [0.1307], std: [0.3081] })
    const test = await readMnist(folder.path, 'test', { kind: 'idx' })
    expect(test).toMatchObject({ size: 2, classes: 10, normalization: { mean: [0], std: [1] } })
    expect((await readMnist(folder.path, 'test', { kind: 'fashion-mnist' })).classNames?.[9]).toBe(
      'Ankle boot',
    )
  })

  it('refuses counts that disagree, labels out of range, wrong ranks, and missing files', async () => {
    put('train', 3, [0, 1])
    const counts = await rejection(readMnist(folder.path, 'train'))
    expect(counts.code).toBe('ERR_FORMAT')
    expect(counts.message).toMatch(/labels-idx1-ubyte at byte 4: expected 3 labels.*got 2/)
    put('train', 3, [0, 1, 11])
    expect((await rejection(readMnist(folder.path, 'train'))).code).toBe('ERR_RANGE')
    folder.put('train-labels-idx1-ubyte', idx(8, [3, 1], new Uint8Array(3)))
    expect((await rejection(readMnist(folder.path, 'train'))).message).toMatch(/rank 1/)
    folder.put('train-images-idx3-ubyte', idx(9, [3, 2, 2], new Uint8Array(12)))
    folder.put('train-labels-idx1-ubyte', idx(8, [3], new Uint8Array(3)))
    expect((await rejection(readMnist(folder.path, 'train'))).message).toMatch(
      /Int8Array of rank 3/,
    )
    const missing = await rejection(readMnist('/nonexistent-folder', 'train'))
    expect(missing.code).toBe('ERR_IO')
  })
})
