import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type NpyData, readNpy, writeNpy } from '../../lib/data/index.js'
import { decodeNpy, encodeNpy } from '../../lib/data/npy.js'
import { rejection, surviveCorruption, temporaryFolder } from '../files/temporary.js'

const folder = temporaryFolder()

function npy(dictionary: string, data: Uint8Array, version = 1): Uint8Array {
  const text = new TextEncoder().encode(`${dictionary}\n`)
  const prefix = version === 1 ? 10 : 12
  const bytes = new Uint8Array(prefix + text.length + data.length)
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, version, 0])
  const view = new DataView(bytes.buffer)
  if (version === 1) view.setUint16(8, text.length, true)
  else view.setUint32(8, text.length, true)
  bytes.set(text, prefix)
  bytes.set(data, prefix + text.length)
  return bytes
}

const header = (descr: string, shape: string, fortran = 'False') =>
  `{'descr': '${descr}', 'fortran_order': ${fortran}, 'shape': ${shape}, }`

const bytesOf = (data: NpyData) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength)

describe('npy', () => {
  const arrays: [string, NpyData][] = [
    ['f4', Float32Array.of(1.5, -2, 3)],
    ['f8', Float64Array.of(Math.PI, -2, 3)],
    ['i1', Int8Array.of(-1, 2, 3)],
    ['i2', Int16Array.of(-300, 2, 3)],
    ['i4', Int32Array.of(-70000, 2, 3)],
    ['i8', BigInt64Array.of(-(2n ** 40n), 2n, 3n)],
    ['u1', Uint8Array.of(255, 2, 3)],
    ['u2', Uint16Array.of(65535, 2, 3)],
    ['u4', Uint32Array.of(4e9, 2, 3)],
    ['u8', BigUint64Array.of(2n ** 63n, 2n, 3n)],
  ]

  it.each(arrays)('round-trips %s and reads its big-endian form', async (type, data) => {
    const path = join(folder.path, `${type}.npy`)
    await writeNpy(path, { shape: [3, 1], data })
    expect(await readNpy(path)).toEqual({ shape: [3, 1], data })
    // What other readers expect: data at a multiple of 64.
    const written = readFileSync(path)
    expect((written.length - data.byteLength) % 64).toBe(0)
    const swapped = Uint8Array.from(bytesOf(data))
    const width = data.BYTES_PER_ELEMENT
    for (let i = 0; i < swapped.length; i += width) swapped.subarray(i, i + width).reverse()
    expect(decodeNpy(npy(header(`>${type}`, '(3,)'), swapped)).data).toEqual(data)
  })

  it('round-trips random shapes', () => {
    const shapes = fc.array(fc.nat(4), { maxLength: 4 })
    fc.assert(
      fc.property(shapes, (shape) => {
        const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i)
        expect(decodeNpy(encodeNpy({ shape, data }))).toEqual({ shape, data })
      }),
    )
    expect(() => encodeNpy({ shape: [2], data: new Int8Array(3) })).toThrow(/does not fit 3/)
  })

  it('turns Fortran order into C order', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 }),
        (shape) => {
          const size = shape.reduce((a, b) => a * b, 1)
          const data = new Int32Array(size)
          // Element (i0, i1, ...) holds its row-major index and lies at its column-major one.
          for (let i = 0; i < size; i++) {
            let rest = i
            let at = 0
            let stride = size
            for (let axis = shape.length - 1; axis >= 0; axis--) {
              stride /= shape[axis]
              at += (rest % shape[axis]) * stride
              rest = Math.floor(rest / shape[axis])
            }
            data[at] = i
          }
          const file = npy(header('<i4', `(${shape.join(',')},)`, 'True'), bytesOf(data))
          expect(decodeNpy(file)).toEqual({
            shape,
            data: Int32Array.from({ length: size }, (_, i) => i),
          })
        },
      ),
    )
  })

  it('reads versions 2 and 3, booleans, float16, Python 2 shapes and any key order', () => {
    expect(decodeNpy(npy(header('|u1', '(2,)'), Uint8Array.of(4, 5), 2)).data).toEqual(
      Uint8Array.of(4, 5),
    )
    expect(decodeNpy(npy(header('|b1', '(2L,)'), Uint8Array.of(1, 0), 3)).data).toEqual(
      Uint8Array.of(1, 0),
    )
    const half = npy(
      '{"shape": (), "descr": "<f2", "fortran_order": False}',
      Uint8Array.of(0, 0x3c),
    )
    expect(decodeNpy(half)).toEqual({ shape: [], data: Float32Array.of(1) })
  })

  it('decodes bytes that start at an odd place of a pool', () => {
    const file = encodeNpy({ shape: [1], data: Float64Array.of(2.5) })
    const pool = Buffer.alloc(file.length + 3)
    pool.set(file, 3)
    expect(decodeNpy(pool.subarray(3)).data).toEqual(Float64Array.of(2.5))
  })

  it.each([
    [
      'an object array',
      npy(header('|O', '(1,)'), new Uint8Array(8)),
      /pickles, which are never loaded/,
    ],
    [
      'a structured type',
      npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", new Uint8Array(4)),
      /type of up to 8 bytes/,
    ],
    ['complex numbers', npy(header('<c16', '(1,)'), new Uint8Array(16)), /type of up to 8 bytes/],
    [
      'wrong magic',
      Uint8Array.from(Buffer.from('NUMPY and more')),
      /byte 0: expected the .npy magic/,
    ],
    [
      'an unknown version',
      npy(header('<f4', '(1,)'), new Uint8Array(4), 9),
      /byte 6: expected .npy version/,
    ],
    [
      'a shape that lies',
      npy(header('<f4', '(100,)'), new Uint8Array(4)),
      /expected \d+ bytes as the header declares/,
    ],
    ['trailing bytes', npy(header('<f4', '(1,)'), new Uint8Array(5)), /end of the data/],
    ['a missing key', npy("{'descr': '<f4', 'shape': (1,), }", new Uint8Array(4)), /the keys/],
    [
      'a doubled key',
      npy("{'descr': '<f4', 'descr': '<f4', 'shape': (1,), }", new Uint8Array(4)),
      /each key once/,
    ],
    ['code for a dictionary', npy('__import__("os")', new Uint8Array(4)), /a dictionary as header/],
    [
      'a huge shape',
      npy(header('<f4', '(99999999, 99999999, 99)'), new Uint8Array(4)),
      /fits into memory/,
    ],
    [
      'a cut header',
      npy(header('<f4', '(1,)'), new Uint8Array(4)).subarray(0, 30),
      /complete header/,
    ],
    ['nothing', new Uint8Array(0), /complete header/],
  ])('refuses %s', async (_, bytes, message) => {
    const error = await rejection(readNpy(folder.put('bad.npy', bytes)))
    expect(error.code).toBe('ERR_FORMAT')
    expect(error.message).toMatch(message)
  })

  it('survives random damage', async () => {
    const bytes = encodeNpy({ shape: [4, 3], data: new Float32Array(12) })
    await surviveCorruption(bytes, (damaged) => readNpy(folder.put('damaged.npy', damaged)), {
      numRuns: 300,
    })
  })
})
