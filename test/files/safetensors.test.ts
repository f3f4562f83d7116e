import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  decodeBfloat,
  decodeHalf,
  readSafetensors,
  type TensorSource,
  writeSafetensors,
} from '../../lib/files/index.js'
import { rejection, surviveCorruption, temporaryFolder } from './temporary.js'

const folder = temporaryFolder()
const path = join(folder.path, 'model.safetensors')

function raw(header: string, data: Uint8Array = new Uint8Array(0), length?: bigint): string {
  const text = new TextEncoder().encode(header)
  const bytes = new Uint8Array(8 + text.length + data.length)
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(text.length), true)
  bytes.set(text, 8)
  bytes.set(data, 8 + text.length)
  return folder.put('raw.safetensors', bytes)
}

const f32 = (begin: number, end: number, shape = [(end - begin) / 4]) =>
  JSON.stringify({ dtype: 'F32', shape, data_offsets: [begin, end] })

describe('safetensors', () => {
  it('round-trips every element type, empty and scalar tensors, names and metadata', async () => {
    const tensors = new Map<string, TensorSource>([
      ['layers.0.weight', { shape: [2, 3], data: Float32Array.of(1, -2, 3.5, 4, 5, 6) }],
      ['bytes', { shape: [3], data: Uint8Array.of(1, 2, 255) }],
      ['double', { shape: [], data: Float64Array.of(Math.PI) }],
      ['empty', { shape: [0, 4], data: new Float32Array(0) }],
      ['half', { dtype: 'F16', shape: [2], data: Uint16Array.of(0x3c00, 0xc000) }],
      ['brain', { dtype: 'BF16', shape: [1], data: Uint16Array.of(0x3f80) }],
      ['bool', { dtype: 'BOOL', shape: [2], data: Uint8Array.of(0, 1) }],
      ['i64', { shape: [1], data: BigInt64Array.of(-(2n ** 60n)) }],
      ['u64', { shape: [1], data: BigUint64Array.of(2n ** 63n) }],
      ['i32', { shape: [1], data: Int32Array.of(-5) }],
      ['u32', { shape: [1], data: Uint32Array.of(4e9) }],
      ['i16', { shape: [1], data: Int16Array.of(-7) }],
      ['u16', { shape: [1], data: Uint16Array.of(65535) }],
      ['i8', { shape: [1], data: Int8Array.of(-8) }],
      ['__proto__ "ü"', { shape: [1], data: Float32Array.of(9) }],
    ])
    await writeSafetensors(path, tensors, { format: 'pt', note: '"quoted"' })
    const { tensors: back, metadata } = await readSafetensors(path)
    expect(metadata).toEqual({ format: 'pt', note: '"quoted"' })
    expect([...back.keys()]).toEqual([...tensors.keys()])
    for (const [name, { shape, data, dtype }] of tensors) {
      expect(back.get(name)!.shape).toEqual(shape)
      expect(back.get(name)!.data).toEqual(data)
      if (dtype) expect(back.get(name)!.dtype).toBe(dtype)
    }
    // Data starts at a multiple of 8, as other readers like to map it.
    expect(readFileSync(path).readBigUInt64LE(0) % 8n).toBe(0n)
  })

  it('round-trips random tensors', async () => {
    const tensor = fc
      .float32Array({ maxLength: 20 })
      .map((data) => ({ shape: [data.length], data }))
    await fc.assert(
      fc.asyncProperty(fc.dictionary(fc.string(), tensor, { maxKeys: 5 }), async (tensors) => {
        fc.pre(!Object.hasOwn(tensors, '__metadata__'))
        await writeSafetensors(path, new Map(Object.entries(tensors)))
        const back = (await readSafetensors(path)).tensors
        expect(back.size).toBe(Object.keys(tensors).length)
        for (const [name, { data }] of Object.entries(tensors)) {
          expect(back.get(name)!.data).toEqual(data)
        }
      }),
      { numRuns: 40 },
    )
  })

  it('refuses to write what does not fit', async () => {
    const data = Float32Array.of(1, 2)
    const write = (name: string, tensor: TensorSource) =>
      rejection(writeSafetensors(path, { [name]: tensor }))
    expect((await write('a', { shape: [3], data })).code).toBe('ERR_SHAPE')
    expect((await write('a', { shape: [2], data, dtype: 'F16' })).code).toBe('ERR_DTYPE')
    expect((await write('__metadata__', { shape: [2], data })).code).toBe('ERR_ARGUMENT')
  })

  it.each([
    ['a header longer than the file', () => raw('{}', undefined, 1000n), /header length/],
    ['a header beyond 100 MB', () => raw('{}', undefined, 2n ** 60n), /header length/],
    ['a header that is no object', () => raw('[1]'), /JSON object/],
    ['a header that is no JSON', () => raw('{"a":}'), /at byte 13: expected a JSON value/],
    ['text after the header', () => raw('{}x'), /end of the JSON text/],
    [
      'a duplicate key',
      () => raw(`{"a":${f32(0, 4)},"a":${f32(0, 4)}}`, new Uint8Array(4)),
      /twice/,
    ],
    [
      'an unknown dtype',
      () => raw('{"a":{"dtype":"F3","shape":[],"data_offsets":[0,4]}}'),
      /dtype/,
    ],
    [
      'a prototype name as dtype',
      () => raw('{"a":{"dtype":"toString","shape":[],"data_offsets":[0,4]}}'),
      /dtype/,
    ],
    ['a negative dimension', () => raw(`{"a":${f32(0, 4, [-1])}}`, new Uint8Array(4)), /shape/],
    ['a shape that disagrees', () => raw(`{"a":${f32(0, 4, [2])}}`, new Uint8Array(4)), /8 bytes/],
    ['offsets outside the file', () => raw(`{"a":${f32(0, 400)}}`, new Uint8Array(4)), /too short/],
    ['overlaps', () => raw(`{"a":${f32(0, 8)},"b":${f32(4, 12)}}`, new Uint8Array(12)), /overlap/],
    [
      'holes',
      () => raw(`{"a":${f32(0, 4)},"b":${f32(8, 12)}}`, new Uint8Array(12)),
      /'b' from byte 4/,
    ],
    ['trailing bytes', () => raw(`{"a":${f32(0, 4)}}`, new Uint8Array(9)), /5 more bytes/],
    ['metadata that is no text', () => raw('{"__metadata__":{"a":1}}'), /text values/],
    ['a file too short for a length', () => folder.put('raw.safetensors', 'abc'), /3 bytes/],
  ])('refuses %s', async (_, make, message) => {
    const error = await rejection(readSafetensors(make()))
    expect(error.code).toBe('ERR_FORMAT')
    expect(error.message).toMatch(message)
    expect(error.message).toContain('raw.safetensors')
  })

  it('reports missing files, aborts and limits', async () => {
    expect((await rejection(readSafetensors(join(folder.path, 'none')))).code).toBe('ERR_IO')
    await writeSafetensors(path, { a: { shape: [4], data: new Float32Array(4) } })
    const signal = AbortSignal.abort()
    expect((await rejection(readSafetensors(path, { signal }))).code).toBe('ERR_ABORTED')
    expect((await rejection(readSafetensors(path, { maxBytes: 10 }))).message).toMatch(/at most 10/)
  })

  it('survives random damage', async () => {
    await writeSafetensors(path, {
      a: { shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) },
      b: { shape: [3], data: Uint8Array.of(1, 2, 3) },
    })
    await surviveCorruption(
      readFileSync(path),
      (bytes) => readSafetensors(folder.put('damaged', bytes)),
      { numRuns: 300 },
    )
  })
})

describe('half precision', () => {
  it('decodes float16, subnormal, infinite and NaN', () => {
    const bits = Uint16Array.of(
      0x0000,
      0x8000,
      0x3c00,
      0xc000,
      0x0001,
      0x7bff,
      0x7c00,
      0xfc00,
      0x7e00,
    )
    expect([...decodeHalf(bits)]).toEqual([
      0,
      -0,
      1,
      -2,
      2 ** -24,
      65504,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      Number.NaN,
    ])
  })

  it('decodes bfloat16', () => {
    expect([...decodeBfloat(Uint16Array.of(0x3f80, 0xc040, 0x7f80))]).toEqual([
      1,
      -3,
      Number.POSITIVE_INFINITY,
    ])
  })
})
