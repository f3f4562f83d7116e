import { LosscapeError, throwIfAborted } from '../errors.js'
import { writeFileAtomic } from './atomic.js'
import { formatError } from './errors.js'
import { type JsonValue, parseJson } from './json.js'
import { MAX_BYTES, type ReadOptions, readAt, tooLarge, withFile } from './read.js'

const BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const

/** Element types of safetensors files. */
export type SafetensorsDType = keyof typeof BYTES

/** Elements; F16 and BF16 are raw bits in a Uint16Array, BOOL bytes. */
export type TensorData =
  | Float64Array
  | Float32Array
  | BigInt64Array
  | BigUint64Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array

/** A named tensor's content, row-major. */
export interface SafeTensor {
  readonly dtype: SafetensorsDType
  readonly shape: readonly number[]
  readonly data: TensorData
}

/** What {@link readSafetensors} returns; tensors stand in the order of their offsets. */
export interface SafetensorsFile {
  readonly tensors: Map<string, SafeTensor>
  readonly metadata: Record<string, string>
}

interface Slot {
  name: string
  dtype: SafetensorsDType
  shape: number[]
  begin: number
  end: number
}

const MAX_HEADER = 100_000_000
const PREFIX = 8

/**
 * Reads a safetensors file: u64 header length, JSON header, data.
 *
 * Throws ERR_IO; ERR_FORMAT with the offset (header longer than 100 MB or than the file, duplicate
 * keys, unknown dtype, a shape that does not fit its bytes, offsets outside the file, overlaps,
 * holes, trailing bytes); ERR_ABORTED. Memory: the file's size once.
 */
export async function readSafetensors(
  path: string,
  options: ReadOptions = {},
): Promise<SafetensorsFile> {
  const { signal, maxBytes = MAX_BYTES } = options
  throwIfAborted(signal)
  return withFile(path, async (handle, size) => {
    if (size > maxBytes) throw tooLarge(path, maxBytes, `${size} bytes`)
    const headerLength =
      size < PREFIX ? 0n : lengthOf(await readAt(handle, path, 0, PREFIX, signal))
    if (headerLength < 2n || headerLength > BigInt(Math.min(MAX_HEADER, size - PREFIX))) {
      const most = Math.max(2, Math.min(MAX_HEADER, size - PREFIX))
      throw formatError(path, {
        offset: 0,
        expected: `a safetensors file, which begins with a header length from 2 to ${most}`,
        got: size < PREFIX ? `a file of ${size} bytes` : `${headerLength}`,
        hint: 'Is it of another format (.bin, .pth), or cut off?',
      })
    }
    const dataBegin = PREFIX + Number(headerLength)
    const header = await readAt(handle, path, PREFIX, Number(headerLength), signal)
    const { slots, metadata } = parseHeader(path, header, size - dataBegin)
    const tensors = new Map<string, SafeTensor>()
    for (const { name, dtype, shape, begin, end } of slots) {
      const bytes = await readAt(handle, path, dataBegin + begin, end - begin, signal)
      tensors.set(name, { dtype, shape, data: view(dtype, bytes) })
    }
    return { tensors, metadata }
  })
}

/** A tensor to write; `dtype` is only needed for F16, BF16 and BOOL. */
export interface TensorSource {
  readonly dtype?: SafetensorsDType
  readonly shape: readonly number[]
  readonly data: TensorData
}

/**
 * Writes tensors in the order given, without gaps, atomically; the data starts at a multiple of 8.
 *
 * Throws ERR_SHAPE (shape against length), ERR_DTYPE (array type against dtype), ERR_ARGUMENT
 * (the reserved name `__metadata__`), ERR_IO, ERR_ABORTED.
 */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, TensorSource> | Readonly<Record<string, TensorSource>>,
  metadata: Readonly<Record<string, string>> = {},
  options: { signal?: AbortSignal } = {},
): Promise<void> {
  const entries = tensors instanceof Map ? [...tensors] : Object.entries(tensors)
  const fields: string[] = []
  if (Object.keys(metadata).length > 0) fields.push(`"__metadata__":${JSON.stringify(metadata)}`)
  let offset = 0
  for (const [name, tensor] of entries as [string, TensorSource][]) {
    const dtype = checkSource(name, tensor)
    const end = offset + tensor.data.byteLength
    const entry = { dtype, shape: tensor.shape, data_offsets: [offset, end] }
    fields.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`)
    offset = end
  }
  const text = new TextEncoder().encode(`{${fields.join(',')}}`)
  const length = Math.ceil(text.length / 8) * 8
  const head = new Uint8Array(PREFIX + length).fill(0x20)
  new DataView(head.buffer).setBigUint64(0, BigInt(length), true)
  head.set(text, PREFIX)
  const content = [
    head,
    ...(entries as [string, TensorSource][]).map(
      ([, { data }]) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    ),
  ]
  await writeFileAtomic(path, content, options)
}

function checkSource(name: string, tensor: TensorSource): SafetensorsDType {
  const { shape, data } = tensor
  const natural = dtypeOf(data)
  const dtype = tensor.dtype ?? natural
  const rawBits = data instanceof Uint16Array && (dtype === 'F16' || dtype === 'BF16')
  const rawBytes = data instanceof Uint8Array && dtype === 'BOOL'
  if (dtype !== natural && !rawBits && !rawBytes) {
    throw new LosscapeError(
      'ERR_DTYPE',
      `Tensor '${name}': dtype ${dtype} does not go with ${data.constructor.name}.`,
    )
  }
  const count = shape.reduce((product, d) => product * d, 1)
  if (count !== data.length || !shape.every((d) => Number.isSafeInteger(d) && d >= 0)) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `Tensor '${name}': shape [${shape}] does not fit ${data.length} elements.`,
    )
  }
  if (name === '__metadata__') {
    throw new LosscapeError('ERR_ARGUMENT', "'__metadata__' is reserved and names no tensor.")
  }
  return dtype
}

function dtypeOf(data: TensorData): SafetensorsDType {
  const [, big, kind, bits] = /^(Big)?(Float|Int|Uint)(\d+)/.exec(data.constructor.name)!
  void big
  return `${kind === 'Float' ? 'F' : kind === 'Int' ? 'I' : 'U'}${bits}` as SafetensorsDType
}

function lengthOf(prefix: Uint8Array): bigint {
  return new DataView(prefix.buffer).getBigUint64(0, true)
}

function parseHeader(
  path: string,
  bytes: Uint8Array,
  dataLength: number,
): { slots: Slot[]; metadata: Record<string, string> } {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    throw formatError(path, { offset: PREFIX, expected: 'UTF-8', got: 'other bytes', cause })
  }
  const header = parseJson(text, path, PREFIX)
  if (!(header instanceof Map)) {
    throw formatError(path, { offset: PREFIX, expected: 'a JSON object', got: 'another value' })
  }
  const slots: Slot[] = []
  for (const [name, entry] of header) {
    if (name !== '__metadata__') slots.push(parseSlot(path, name, entry))
  }
  // Stable, so that empty tensors keep the header's order among equals.
  slots.sort((a, b) => a.begin - b.begin || a.end - b.end)
  let at = 0
  for (const { name, begin, end } of slots) {
    if (begin !== at || end > dataLength) {
      throw formatError(path, {
        offset: PREFIX + bytes.length + Math.min(begin, dataLength),
        expected: `tensor '${name}' from byte ${at} of the data to at most ${dataLength}`,
        got: `bytes ${begin} to ${end}`,
        hint: begin < at ? 'Tensors overlap.' : end > dataLength ? 'The file is too short.' : '',
      })
    }
    at = end
  }
  if (at !== dataLength) {
    throw formatError(path, {
      offset: PREFIX + bytes.length + at,
      expected: `the end of the file after ${at} bytes of data`,
      got: `${dataLength - at} more bytes`,
    })
  }
  return { slots, metadata: parseMetadata(path, header.get('__metadata__')) }
}

function parseSlot(path: string, name: string, entry: JsonValue): Slot {
  const wrong = (expected: string, got: unknown): never => {
    throw formatError(path, {
      offset: PREFIX,
      expected: `${expected} for '${name}'`,
      got: `${got}`,
    })
  }
  if (!(entry instanceof Map)) return wrong('an object', JSON.stringify(entry))
  const dtype = entry.get('dtype')
  const shape = entry.get('shape')
  const offsets = entry.get('data_offsets')
  if (entry.size !== 3 || typeof dtype !== 'string' || !Object.hasOwn(BYTES, dtype)) {
    return wrong(`dtype (one of ${Object.keys(BYTES).join(', ')}), shape and data_offsets`, dtype)
  }
  const isSize = (value: JsonValue): value is number =>
    typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
  if (!Array.isArray(shape) || !shape.every(isSize)) {
    return wrong('a shape of non-negative integers', JSON.stringify(shape))
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    return wrong('two data_offsets', JSON.stringify(offsets))
  }
  const [begin, end] = offsets
  const width = BYTES[dtype as SafetensorsDType]
  const bytes = shape.reduce((product, d) => product * d, width)
  if (end - begin !== bytes) {
    return wrong(`${bytes} bytes of ${dtype} [${shape}]`, `bytes ${begin} to ${end}`)
  }
  return { name, dtype: dtype as SafetensorsDType, shape, begin, end }
}

function parseMetadata(path: string, entry: JsonValue | undefined): Record<string, string> {
  if (entry === undefined) return {}
  if (!(entry instanceof Map) || ![...entry.values()].every((v) => typeof v === 'string')) {
    throw formatError(path, {
      offset: PREFIX,
      expected: '__metadata__ with text values',
      got: 'others',
    })
  }
  return Object.fromEntries(entry) as Record<string, string>
}

function view(dtype: SafetensorsDType, bytes: Uint8Array): TensorData {
  const { buffer } = bytes
  switch (dtype) {
    case 'F64':
      return new Float64Array(buffer)
    case 'F32':
      return new Float32Array(buffer)
    case 'I64':
      return new BigInt64Array(buffer)
    case 'U64':
      return new BigUint64Array(buffer)
    case 'I32':
      return new Int32Array(buffer)
    case 'U32':
      return new Uint32Array(buffer)
    case 'I16':
      return new Int16Array(buffer)
    case 'U16':
    case 'F16':
    case 'BF16':
      return new Uint16Array(buffer)
    case 'I8':
      return new Int8Array(buffer)
    default:
      return bytes
  }
}
