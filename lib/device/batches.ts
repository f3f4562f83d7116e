import type { DataSet } from '../data/dataset.js'
import { LosscapeError } from '../errors.js'
import type { NativeBuffer, NativeView, NumericArray } from '../native.js'
import type { Device } from './device.js'

export interface Chunk {
  readonly x: NativeView
  readonly y: NativeView
  readonly w: NativeView
  /** Samples that count; the rest of the chunk is padding of weight 0. */
  readonly samples: number
}

/** A data set in device memory, cut into chunks of `batch` samples. */
export interface BatchBuffers {
  readonly chunks: readonly Chunk[]
  readonly bytes: number
  dispose(): void
}

/** Samples and targets as a run of this precision stores them. */
function stored(array: NumericArray, precision: 'f32' | 'f64'): NumericArray {
  if (array instanceof Float32Array && precision === 'f64') return Float64Array.from(array)
  if (array instanceof Float64Array && precision === 'f32') return Float32Array.from(array)
  return array
}

/**
 * Samples per chunk: at most `batch`, and chunks of equal size.
 * @throws ERR_ARGUMENT unless `batch` is a positive integer
 */
export function chunkSize(batch: number, samples: number): number {
  if (!Number.isInteger(batch) || batch < 1) {
    throw new LosscapeError('ERR_ARGUMENT', `batch must be a positive integer, got ${batch}.`)
  }
  // Chunks of equal size waste less padding than full ones and a small rest.
  const chunks = Math.ceil(samples / Math.min(batch, samples))
  return Math.ceil(samples / chunks)
}

/** How a pass over a data set is cut: chunks of `rows` samples. */
export interface ChunkPlan {
  readonly rows: number
  /** Chunks run side by side, each on a thread of its own, instead of one on all threads. */
  readonly sideBySide: boolean
}

/** Rows per chunk and thread from which adding up the threads' results costs a few percent. */
const ROWS_PER_THREAD = 32
/** Bytes that the results of the other threads may take. */
const SIDE_LIMIT = 2 ** 28

/**
 * Chunks of at most `batch` samples in all that are worked on at a time. Side by side no thread
 * waits for another between operations; each then needs a result of `resultBytes` of its own.
 */
export function planChunks(
  batch: number,
  samples: number,
  threads: number,
  resultBytes: number,
): ChunkPlan {
  const rows = chunkSize(batch, samples)
  const sideBySide =
    threads > 1 &&
    rows >= ROWS_PER_THREAD * threads * threads &&
    (threads - 1) * resultBytes <= SIDE_LIMIT
  return { rows: sideBySide ? Math.ceil(rows / threads) : rows, sideBySide }
}

/**
 * Copies a data set to the device. The last chunk is padded with copies of the last sample, of
 * weight 0, so that one program serves every chunk and the sums stay exact: samples of zeros could
 * make a model produce NaN, which no weight removes.
 */
export function uploadBatches(
  device: Device,
  set: DataSet,
  batch: number,
  precision: 'f32' | 'f64',
): BatchBuffers {
  const count = Math.ceil(set.size / batch)
  const buffers: NativeBuffer[] = []
  const upload = (
    array: NumericArray,
    perSample: number,
    padding: 'repeat' | 'zero',
  ): ((chunk: number) => NativeView) => {
    const rowBytes = perSample * array.BYTES_PER_ELEMENT
    const buffer = device.binding.createBuffer(Math.max(1, count * batch * rowBytes))
    buffers.push(buffer)
    // The queue keeps order: whatever runs later sees the data. Only an abort could reject this.
    buffer.write(0, array).catch(() => {})
    const last = array.slice(array.length - perSample)
    for (let row = set.size; row < count * batch && padding === 'repeat'; row++) {
      buffer.write(row * rowBytes, last).catch(() => {})
    }
    return (chunk) => ({ buffer, offset: chunk * batch * rowBytes })
  }
  try {
    const x = upload(stored(set.inputs, precision), set.inputs.length / set.size, 'repeat')
    const y = upload(stored(set.targets, precision), set.targets.length / set.size, 'repeat')
    const ones = precision === 'f64' ? new Float64Array(set.size) : new Float32Array(set.size)
    const w = upload(ones.fill(1), 1, 'zero')
    const chunks = Array.from({ length: count }, (_, i) => ({
      x: x(i),
      y: y(i),
      w: w(i),
      samples: Math.min(batch, set.size - i * batch),
    }))
    return {
      chunks,
      bytes: buffers.reduce((sum, buffer) => sum + buffer.bytes, 0),
      dispose: () => {
        for (const buffer of buffers) buffer.dispose()
      },
    }
  } catch (error) {
    for (const buffer of buffers) buffer.dispose()
    throw error
  }
}
