import { join } from 'node:path'
import { requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { formatError } from '../files/errors.js'
import { type ReadOptions, readBytes } from '../files/read.js'
import { requireOptions } from '../options.js'
import { type DataSet, type Normalization, validate } from './dataset.js'
import { findFile, listFolder } from './folder.js'
import type { Split } from './mnist.js'

/** Channel means and deviations (red, green, blue) of the training images, as commonly used. */
export const CIFAR10: Normalization = {
  mean: [0.4914, 0.4822, 0.4465],
  std: [0.247, 0.2435, 0.2616],
}
export const CIFAR100: Normalization = {
  mean: [0.5071, 0.4865, 0.4409],
  std: [0.2673, 0.2564, 0.2762],
}

const CIFAR10_NAMES = [
  'airplane',
  'automobile',
  'bird',
  'cat',
  'deer',
  'dog',
  'frog',
  'horse',
  'ship',
  'truck',
]

const PIXELS = 3 * 32 * 32

/** Options of {@link readCifar}. */
export interface CifarOptions extends ReadOptions {
  /** Default 'cifar10'. */
  kind?: 'cifar10' | 'cifar100'
  /** Reads no more batch files than needed for the first `limit` samples. */
  limit?: number
}

/**
 * CIFAR from a folder of binary batches, plain or gzip, images [3, 32, 32].
 * cifar10: records of 1 label byte and 3072 pixels, `data_batch_1.bin` ... (as many as are there)
 * and `test_batch.bin`. cifar100: 2 label bytes (coarse, fine; the fine one is used) and 3072
 * pixels, `train.bin` and `test.bin`.
 *
 * Throws ERR_IO, ERR_FORMAT (a length that is no whole number of records, a label out of range,
 * each with the offset), ERR_ABORTED.
 */
export async function readCifar(
  folder: string,
  split: Split,
  options: CifarOptions = {},
): Promise<DataSet> {
  requireArguments('readCifar()', { path: folder })
  requireOptions('readCifar()', options, ['kind', 'limit', 'signal', 'maxBytes'])
  const { kind = 'cifar10', limit = Number.POSITIVE_INFINITY, ...read } = options
  const labelBytes = kind === 'cifar10' ? 1 : 2
  const classes = kind === 'cifar10' ? 10 : 100
  const record = labelBytes + PIXELS
  const batches: { path: string; bytes: Uint8Array }[] = []
  let size = 0
  for (const path of await batchPaths(folder, split, kind)) {
    const bytes = await readBytes(path, read)
    if (bytes.length === 0 || bytes.length % record !== 0) {
      throw formatError(path, {
        offset: bytes.length - (bytes.length % record),
        expected: `a whole number of ${record}-byte records`,
        got: `${bytes.length} bytes, ${bytes.length % record} left over`,
        hint: `Is this ${kind}?`,
      })
    }
    batches.push({ path, bytes })
    size += bytes.length / record
    if (size >= limit) break
  }
  const inputs = new Uint8Array(size * PIXELS)
  const targets = new Int32Array(size)
  let i = 0
  for (const { path, bytes } of batches) {
    for (let offset = 0; offset < bytes.length; offset += record, i++) {
      targets[i] = bytes[offset + labelBytes - 1]
      if (targets[i] >= classes) {
        throw formatError(path, {
          offset: offset + labelBytes - 1,
          expected: `a label from 0 to ${classes - 1}`,
          got: `${targets[i]}`,
        })
      }
      inputs.set(bytes.subarray(offset + labelBytes, offset + record), i * PIXELS)
    }
  }
  return validate({
    name: kind,
    size,
    shape: [3, 32, 32],
    inputs,
    targets,
    targetShape: [],
    classes,
    ...(kind === 'cifar10' ? { classNames: CIFAR10_NAMES } : {}),
    normalization: kind === 'cifar10' ? CIFAR10 : CIFAR100,
  })
}

async function batchPaths(folder: string, split: Split, kind: string): Promise<string[]> {
  if (kind === 'cifar100') return [await findFile(folder, [`${split}.bin`])]
  if (split === 'test') return [await findFile(folder, ['test_batch.bin'])]
  const byNumber = new Map<number, string>()
  for (const name of await listFolder(folder)) {
    const match = /^data_batch_(\d+)\.bin(\.gz)?$/.exec(name)
    if (match && (!match[2] || !byNumber.has(Number(match[1])))) {
      byNumber.set(Number(match[1]), join(folder, name))
    }
  }
  if (byNumber.size === 0) {
    throw new LosscapeError(
      'ERR_IO',
      `${folder}: expected data_batch_1.bin or data_batch_1.bin.gz, and so on; found none.`,
    )
  }
  return [...byNumber].sort(([a], [b]) => a - b).map(([, path]) => path)
}
