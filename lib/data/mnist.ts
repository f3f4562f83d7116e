import { basename } from 'node:path'
import { requireArguments } from '../arguments.js'
import { formatError } from '../files/errors.js'
import type { ReadOptions } from '../files/read.js'
import { requireOptions } from '../options.js'
import { type DataSet, IDENTITY, type Normalization, validate } from './dataset.js'
import { findFile, withPath } from './folder.js'
import { readIdx } from './idx.js'

/** Which part of a data set. */
export type Split = 'train' | 'test'

/** Pixel mean and deviation of the training images, the values in common use. */
export const MNIST: Normalization = { mean: [0.1307], std: [0.3081] }
export const FASHION_MNIST: Normalization = { mean: [0.286], std: [0.353] }

const FASHION_NAMES = [
  'T-shirt/top',
  'Trouser',
  'Pullover',
  'Dress',
  'Coat',
  'Sandal',
  'Shirt',
  'Sneaker',
  'Bag',
  'Ankle boot',
]

/** Options of {@link readMnist}. */
export interface MnistOptions extends ReadOptions {
  /** Changes names and normalization only; the files are called alike. Default 'mnist'. */
  kind?: 'mnist' | 'fashion-mnist' | 'idx'
}

/**
 * Images and labels from a folder of IDX files, plain or gzip:
 * `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-...`, `t10k-labels-...`
 * (also with `test-` for `t10k-`, and with a dot before `idx`).
 *
 * Throws ERR_IO, ERR_FORMAT (also when image and label counts disagree), ERR_RANGE, ERR_ABORTED.
 */
export async function readMnist(
  folder: string,
  split: Split,
  options: MnistOptions = {},
): Promise<DataSet> {
  requireArguments('readMnist()', { path: folder })
  requireOptions('readMnist()', options, ['kind', 'signal', 'maxBytes'])
  const { kind = 'mnist', ...read } = options
  const imagePath = await findFile(folder, fileNames(split, 'images', 3))
  const labelPath = await findFile(folder, fileNames(split, 'labels', 1))
  const images = await readIdx(imagePath, read)
  const labels = await readIdx(labelPath, read)
  if (labels.shape.length !== 1) {
    throw formatError(labelPath, {
      offset: 3,
      expected: 'rank 1 for labels',
      got: `rank ${labels.shape.length}`,
    })
  }
  const pixels = images.data
  if (images.shape.length < 2 || !(pixels instanceof Uint8Array)) {
    throw formatError(imagePath, {
      offset: 2,
      expected: 'bytes of rank 2 or more for images',
      got: `${pixels.constructor.name} of rank ${images.shape.length}`,
    })
  }
  if (images.shape[0] !== labels.shape[0]) {
    throw formatError(labelPath, {
      offset: 4,
      expected: `${images.shape[0]} labels for the images in ${basename(imagePath)}`,
      got: `${labels.shape[0]}`,
    })
  }
  const targets = Int32Array.from(labels.data)
  const classes = kind === 'idx' ? await countClasses(folder, read) : 10
  return withPath(folder, () =>
    validate({
      name: kind,
      size: images.shape[0],
      shape: images.shape.slice(1),
      inputs: pixels,
      targets,
      targetShape: [],
      classes,
      ...(kind === 'fashion-mnist' ? { classNames: FASHION_NAMES } : {}),
      normalization: kind === 'mnist' ? MNIST : kind === 'idx' ? IDENTITY : FASHION_MNIST,
    }),
  )
}

function fileNames(split: Split, what: string, rank: number): string[] {
  const prefixes = split === 'train' ? ['train'] : ['t10k', 'test']
  return prefixes.flatMap((p) => [`${p}-${what}-idx${rank}-ubyte`, `${p}-${what}.idx${rank}-ubyte`])
}

/** Largest label + 1 over both splits, since one alone may lack the highest class. */
async function countClasses(folder: string, options: ReadOptions): Promise<number> {
  let most = 0
  for (const split of ['train', 'test'] as const) {
    const path = await findFile(folder, fileNames(split, 'labels', 1)).catch(() => null)
    if (path === null) continue
    const { data } = await readIdx(path, options)
    for (const label of data) most = Math.max(most, label)
  }
  return most + 1
}
