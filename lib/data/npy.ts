import { argumentError, requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { writeFileAtomic } from '../files/atomic.js'
import { formatError } from '../files/errors.js'
import { decodeHalf } from '../files/half.js'
import { type ReadOptions, readBytes } from '../files/read.js'
import { elements } from './dataset.js'

/** Arrays that `.npy` files can hold here. Booleans and float16 are widened when read. */
export type NpyData =
  | Float32Array
  | Float64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array

/** An array of any rank, row-major (C order), whatever order the file has. */
export interface NpyArray {
  readonly shape: readonly number[]
  readonly data: NpyData
}

interface Header {
  kind: string
  bytes: number
  little: boolean
  fortran: boolean
  shape: number[]
  begin: number
}

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]
const MAX_HEADER = 1 << 20
const MAX_RANK = 64

const LITTLE_ENDIAN_HOST = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1

/**
 * Reads a `.npy` file (versions 1 to 3, C or Fortran order, either byte order, plain or gzip):
 * bool, u1 ... u8, i1 ... i8, f2 (widened to float32), f4, f8.
 *
 * Throws ERR_IO, ERR_FORMAT (among others for object arrays: pickles are never loaded), ERR_ABORTED.
 */
export async function readNpy(path: string, options: ReadOptions = {}): Promise<NpyArray> {
  requireArguments('readNpy()', { path })
  const bytes = await readBytes(path, options, (head) => {
    const header = parseHeader(path, head)
    return header && header.begin + elements(header.shape) * header.bytes
  })
  return decodeNpy(bytes, path)
}

/** As {@link readNpy}, from bytes; `path` names them in errors. */
export function decodeNpy(bytes: Uint8Array, path = 'npy data'): NpyArray {
  const header = parseHeader(path, bytes)
  if (!header) {
    throw formatError(path, {
      offset: bytes.length,
      expected: 'a complete .npy header',
      got: `the end of the data after ${bytes.length} bytes`,
    })
  }
  const expected = elements(header.shape) * header.bytes
  if (bytes.length - header.begin !== expected) {
    throw formatError(path, {
      offset: header.begin,
      expected: `${expected} bytes for shape [${header.shape}]`,
      got: `${bytes.length - header.begin}`,
    })
  }
  // A copy starts on an aligned boundary, and a Buffer's slice would not be one.
  const data = decode(header, new Uint8Array(bytes.subarray(header.begin)))
  return { shape: header.shape, data: header.fortran ? toRowMajor(data, header.shape) : data }
}

/**
 * Writes an array as `.npy` version 1, C order, little-endian, atomically.
 * Throws ERR_SHAPE when the shape does not fit the data, ERR_IO.
 */
export async function writeNpy(path: string, array: NpyArray): Promise<void> {
  requireArguments('writeNpy()', { path, array })
  await writeFileAtomic(path, encodeNpy(array))
}

/** The bytes that {@link writeNpy} writes. */
export function encodeNpy({ shape, data }: NpyArray): Uint8Array {
  if (!ArrayBuffer.isView(data)) throw argumentError('writeNpy()', 'data', 'a typed array', data)
  if (elements(shape) !== data.length) {
    throw new LosscapeError('ERR_SHAPE', `Shape [${shape}] does not fit ${data.length} elements.`)
  }
  const size = data.BYTES_PER_ELEMENT
  const kind = /^Float/.test(data.constructor.name)
    ? 'f'
    : /^(Big)?Int/.test(data.constructor.name)
      ? 'i'
      : 'u'
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`
  const descr = `${size === 1 ? '|' : '<'}${kind}${size}`
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${tuple}, }`
  const begin = Math.ceil((10 + text.length + 1) / 64) * 64
  const bytes = new Uint8Array(begin + data.byteLength).fill(0x20, 0, begin)
  bytes.set([...MAGIC, 1, 0, (begin - 10) & 0xff, (begin - 10) >> 8])
  bytes.set(new TextEncoder().encode(text), 10)
  bytes[begin - 1] = 0x0a
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), begin)
  if (!LITTLE_ENDIAN_HOST) swapBytes(bytes.subarray(begin), size)
  return bytes
}

function parseHeader(path: string, bytes: Uint8Array): Header | null {
  if (bytes.length < 10) return bytes.length === 0 || bytes[0] === MAGIC[0] ? null : badMagic()
  if (!MAGIC.every((b, i) => bytes[i] === b)) badMagic()
  const version = bytes[6]
  if (version < 1 || version > 3) {
    throw formatError(path, { offset: 6, expected: '.npy version 1, 2 or 3', got: `${version}` })
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (version > 1 && bytes.length < 12) return null
  const length = version === 1 ? view.getUint16(8, true) : view.getUint32(8, true)
  const textBegin = version === 1 ? 10 : 12
  if (length > MAX_HEADER) {
    throw formatError(path, {
      offset: 8,
      expected: `a header of at most ${MAX_HEADER} bytes`,
      got: `${length}`,
    })
  }
  if (bytes.length < textBegin + length) return null
  const text = new TextDecoder('latin1').decode(bytes.subarray(textBegin, textBegin + length))
  return parseDictionary(path, text, textBegin, textBegin + length)

  function badMagic(): never {
    throw formatError(path, {
      offset: 0,
      expected: 'the .npy magic \\x93NUMPY',
      got: JSON.stringify(new TextDecoder('latin1').decode(bytes.subarray(0, 6))),
    })
  }
}

/** The Python dictionary of a header: exactly three known keys, in any order. */
function parseDictionary(path: string, text: string, offset: number, begin: number): Header {
  const wrong = (expected: string, got: string, hint?: string): never => {
    throw formatError(path, { offset, expected, got, ...(hint ? { hint } : {}) })
  }
  const body = /^\s*\{(.*)\}\s*$/s.exec(text)
  if (!body) return wrong('a dictionary as header', JSON.stringify(text.slice(0, 80)))
  const found = new Map<string, string>()
  const entry = /\s*(['"])(\w+)\1\s*:\s*(True|False|'[^']*'|"[^"]*"|\([\d\sL,]*\)|\[.*\])\s*(,|$)/sy
  while (entry.lastIndex < body[1].trimEnd().length) {
    const at = entry.lastIndex
    const match = entry.exec(body[1])
    if (!match) return wrong('key: value pairs', JSON.stringify(body[1].slice(at, at + 60)))
    if (found.has(match[2])) wrong('each key once', `'${match[2]}' twice`)
    found.set(match[2], match[3])
  }
  const descr = found.get('descr')
  const order = found.get('fortran_order')
  const tuple = found.get('shape')
  if (!descr || !order || !tuple || found.size !== 3 || !/^(True|False)$/.test(order)) {
    return wrong("the keys 'descr', 'fortran_order' and 'shape'", [...found.keys()].join(', '))
  }
  const type = /^['"]([<>|=]?)(b1|u[1248]|i[1248]|f[248])['"]$/.exec(descr)
  if (!type) {
    return wrong(
      'a boolean, integer or float type of up to 8 bytes',
      descr,
      descr.includes('O') ? 'Object arrays are pickles, which are never loaded.' : undefined,
    )
  }
  const shape = tuple
    .slice(1, -1)
    .split(',')
    .map((d) => d.trim().replace(/L$/, ''))
    .filter((d) => d !== '')
    .map(Number)
  const bytes = Number(type[2][1])
  const fits = Number.isSafeInteger(elements(shape) * bytes)
  if (!tuple.startsWith('(') || shape.length > MAX_RANK || !fits || shape.some(Number.isNaN)) {
    return wrong('a shape that fits into memory', tuple)
  }
  const little = type[1] === '' || type[1] === '=' ? LITTLE_ENDIAN_HOST : type[1] !== '>'
  return { kind: type[2], bytes, little, fortran: order === 'True', shape, begin }
}

function decode(header: Header, bytes: Uint8Array): NpyData {
  if (header.bytes > 1 && header.little !== LITTLE_ENDIAN_HOST) swapBytes(bytes, header.bytes)
  switch (header.kind) {
    case 'f2':
      return decodeHalf(new Uint16Array(bytes.buffer))
    case 'f4':
      return new Float32Array(bytes.buffer)
    case 'f8':
      return new Float64Array(bytes.buffer)
    case 'i1':
      return new Int8Array(bytes.buffer)
    case 'i2':
      return new Int16Array(bytes.buffer)
    case 'i4':
      return new Int32Array(bytes.buffer)
    case 'i8':
      return new BigInt64Array(bytes.buffer)
    case 'u2':
      return new Uint16Array(bytes.buffer)
    case 'u4':
      return new Uint32Array(bytes.buffer)
    case 'u8':
      return new BigUint64Array(bytes.buffer)
    default:
      return bytes
  }
}

function swapBytes(bytes: Uint8Array, width: number): void {
  for (let i = 0; i < bytes.length; i += width) bytes.subarray(i, i + width).reverse()
}

function toRowMajor(data: NpyData, shape: readonly number[]): NpyData {
  if (shape.length < 2 || data.length === 0) return data
  const Type = data.constructor as new (length: number) => NpyData
  const out = new Type(data.length)
  const strides = shape.map((_, axis) => elements(shape.slice(0, axis)))
  const index = new Array<number>(shape.length).fill(0)
  for (let i = 0, from = 0; i < data.length; i++) {
    out[i] = data[from]
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis]
      if (++index[axis] < shape[axis]) break
      from -= strides[axis] * shape[axis]
      index[axis] = 0
    }
  }
  return out
}
