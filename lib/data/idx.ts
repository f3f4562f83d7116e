import { requireArguments } from '../arguments.js'
import { formatError } from '../files/errors.js'
import { type ReadOptions, readBytes } from '../files/read.js'
import { elements } from './dataset.js'

/** Content of an IDX file, row-major. */
export interface IdxArray {
  readonly shape: readonly number[]
  readonly data: Uint8Array | Int8Array | Int16Array | Int32Array | Float32Array | Float64Array
}

const BYTES: Readonly<Record<number, number>> = { 8: 1, 9: 1, 11: 2, 12: 4, 13: 4, 14: 8 }

/**
 * Reads an IDX file, plain or gzip: two zero bytes, a type code, the rank, the dimensions as
 * big-endian u32, then big-endian data; nothing may follow.
 *
 * Throws ERR_IO, ERR_FORMAT (wrong magic, lengths that lie, truncated, trailing bytes), ERR_ABORTED.
 */
export async function readIdx(path: string, options: ReadOptions = {}): Promise<IdxArray> {
  requireArguments('readIdx()', { path })
  const bytes = await readBytes(path, options, (head) => {
    const header = parseHeader(path, head)
    return header && header.begin + elements(header.shape) * BYTES[header.type]
  })
  const { shape, type, begin } = parseHeader(path, bytes)!
  return { shape, data: decode(type, bytes, begin, elements(shape)) }
}

function parseHeader(
  path: string,
  bytes: Uint8Array,
): { type: number; shape: number[]; begin: number } | null {
  if (bytes.length < 4) return null
  const [zero0, zero1, type, rank] = bytes
  if (zero0 !== 0 || zero1 !== 0 || !(type in BYTES) || rank < 1) {
    throw formatError(path, {
      offset: 0,
      expected: 'the IDX magic 00 00 TYPE RANK',
      got: Array.from(bytes.subarray(0, 4), (b) => b.toString(16).padStart(2, '0')).join(' '),
    })
  }
  const begin = 4 + 4 * rank
  if (bytes.length < begin) return null
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const shape = Array.from({ length: rank }, (_, i) => view.getUint32(4 + 4 * i))
  if (!Number.isSafeInteger(elements(shape) * 8)) {
    throw formatError(path, {
      offset: 4,
      expected: 'dimensions that fit into memory',
      got: `[${shape}]`,
    })
  }
  return { type, shape, begin }
}

function decode(type: number, bytes: Uint8Array, begin: number, count: number): IdxArray['data'] {
  if (type === 8) return bytes.slice(begin)
  const view = new DataView(bytes.buffer, bytes.byteOffset + begin)
  const read = <T extends IdxArray['data']>(out: T, get: (offset: number) => number): T => {
    for (let i = 0; i < count; i++) out[i] = get(i * out.BYTES_PER_ELEMENT)
    return out
  }
  switch (type) {
    case 9:
      return read(new Int8Array(count), (o) => view.getInt8(o))
    case 11:
      return read(new Int16Array(count), (o) => view.getInt16(o))
    case 12:
      return read(new Int32Array(count), (o) => view.getInt32(o))
    case 13:
      return read(new Float32Array(count), (o) => view.getFloat32(o))
    default:
      return read(new Float64Array(count), (o) => view.getFloat64(o))
  }
}
