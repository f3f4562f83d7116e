import { readdir } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { newArray } from '../allocation.js'
import { argumentError, requireArguments } from '../arguments.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import { ioError } from '../files/errors.js'
import { type ReadOptions, readBytes } from '../files/read.js'
import { requireOptions } from '../options.js'
import { imageSize } from './augment/options.js'
import { centreCrop, type Interpolation } from './augment/resample.js'
import { type DataSet, type Normalization, validate } from './dataset.js'
import { listFolder } from './folder.js'
import { decodeImage, type ImageDecoder, sharpDecoder } from './images.js'
import type { Split } from './mnist.js'

/** Channel means and deviations of ImageNet's training images, as commonly used. */
export const IMAGENET: Normalization = {
  mean: [0.485, 0.456, 0.406],
  std: [0.229, 0.224, 0.225],
}

/** Options of {@link readImageFolder}. */
export interface ImageFolderOptions extends ReadOptions {
  /**
   * Height and width in memory: the shorter side is brought to it and the centre cut out. Default:
   * images stay as they are and must all have one size.
   */
  readonly size?: number | readonly [height: number, width: number]
  /** Default 'bicubic'. */
  readonly interpolation?: Interpolation
  /** 3 for colours (default), 1 for grey. */
  readonly channels?: 1 | 3
  /** Only the first images. */
  readonly limit?: number
  /** Default: the optional package `sharp`. */
  readonly decoder?: ImageDecoder
}

/** Files that count as images. */
const EXTENSIONS = ['.png', '.jpg', '.jpeg', '.webp', '.tif', '.tiff', '.gif', '.avif']

/** Names of the folder of a split. */
const SPLITS: Record<Split, readonly string[]> = { train: ['train'], test: ['test', 'val'] }

/** Files that are decoded at a time. */
const AT_ONCE = 8

interface ImageFile {
  readonly path: string
  readonly label: number
}

/**
 * Images in one folder per class, `DIR/train/CLASS/*.png` and `DIR/test/CLASS/*` (or `val`), or
 * `DIR/CLASS/*` when there are no splits. Classes are the folders' names in order; samples take turns
 * between them, so that the first ones are of all classes. All images are decoded into memory as
 * bytes [channels, height, width], normalised by ImageNet's constants.
 *
 * @param split null: the folder has no splits
 * @throws ERR_IO (unreadable file or folder, no `sharp`), ERR_FORMAT (a file that is no image, or of
 * another size or channel count), ERR_ARGUMENT (no classes, a class without images), ERR_ABORTED
 *
 * @example
 * const set = await data.readImageFolder('flowers', 'train', { size: 256 })
 */
export async function readImageFolder(
  folder: string,
  split: Split | null,
  options: ImageFolderOptions = {},
): Promise<DataSet> {
  const where = 'readImageFolder()'
  requireArguments(where, { path: folder })
  requireOptions(where, options, [
    ...(['size', 'interpolation', 'channels', 'limit', 'decoder', 'signal', 'maxBytes'] as const),
  ])
  const { size, interpolation = 'bicubic', channels = 3, limit, decoder, ...read } = options
  if (channels !== 1 && channels !== 3) throw argumentError(where, 'channels', '1 or 3', channels)
  if (limit !== undefined && !(Number.isInteger(limit) && limit >= 1)) {
    throw argumentError(where, 'limit', 'a positive integer', limit)
  }
  const target = size === undefined ? null : imageSize(where, size)
  const root = split === null ? folder : await splitFolder(folder, split)
  const { files, classNames } = await listImages(root, limit)
  const decode = decoder ?? (await sharpDecoder())
  let held: { shape: [number, number]; inputs: Uint8Array } | null = null
  const place = async ({ path }: ImageFile, index: number): Promise<void> => {
    throwIfAborted(read.signal)
    const decoded = await decodeImage(path, await readBytes(path, read), channels, decode)
    const made = target ? centreCrop(decoded, target, 1, interpolation) : decoded
    const stride = channels * made.height * made.width
    held ??= {
      shape: [made.height, made.width],
      inputs: newArray(Uint8Array, files.length * stride, `${files.length} images`),
    }
    const [height, width] = held.shape
    if (made.height !== height || made.width !== width) {
      throw new LosscapeError(
        'ERR_FORMAT',
        `${path}: expected an image of ${width} x ${height} pixels as the others are, got ` +
          `${made.width} x ${made.height}. Pass a size to bring all images to one.`,
      )
    }
    held.inputs.set(made.data as Uint8Array, index * stride)
  }
  // The first one decides the size that the others are compared with.
  await place(files[0], 0)
  for (let begin = 1; begin < files.length; begin += AT_ONCE) {
    const part = files.slice(begin, begin + AT_ONCE)
    await Promise.all(part.map((file, k) => place(file, begin + k)))
  }
  const { shape, inputs } = held as unknown as { shape: [number, number]; inputs: Uint8Array }
  return validate({
    name: 'images',
    size: files.length,
    shape: [channels, ...shape],
    inputs,
    targets: Int32Array.from(files, ({ label }) => label),
    targetShape: [],
    classes: classNames.length,
    classNames,
    normalization: channels === 3 ? IMAGENET : { mean: [0.449], std: [0.226] },
  })
}

/** Whether a folder holds splits rather than classes. */
export async function hasSplits(folder: string): Promise<boolean> {
  return (await listFolder(folder)).includes(SPLITS.train[0])
}

async function splitFolder(folder: string, split: Split): Promise<string> {
  const present = new Set(await listFolder(folder))
  const name = SPLITS[split].find((candidate) => present.has(candidate))
  if (name !== undefined) return join(folder, name)
  throw new LosscapeError(
    'ERR_IO',
    `${folder}: expected a folder ${SPLITS[split].join(' or ')} with one folder per class.`,
  )
}

async function subfolders(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true })
    const folders = entries.filter((entry) => entry.isDirectory() || entry.isSymbolicLink())
    return folders.map(({ name }) => name).sort()
  } catch (error) {
    throw ioError(folder, 'read', error)
  }
}

async function listImages(
  root: string,
  limit: number | undefined,
): Promise<{ files: ImageFile[]; classNames: string[] }> {
  const classNames = await subfolders(root)
  if (classNames.length === 0) {
    throw new LosscapeError('ERR_ARGUMENT', `${root}: expected one folder per class, found none.`)
  }
  const byClass = await Promise.all(
    classNames.map(async (name, label) => {
      const names = (await listFolder(join(root, name))).sort()
      const images = names.filter((file) => EXTENSIONS.includes(extname(file).toLowerCase()))
      if (images.length > 0) return images.map((file) => ({ path: join(root, name, file), label }))
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `${join(root, name)}: a class needs at least one image (${EXTENSIONS.join(', ')}); ` +
          'remove the folder, or put images into it.',
      )
    }),
  )
  const rounds = byClass.reduce((most, { length }) => Math.max(most, length), 0)
  const turns = Array.from({ length: rounds }, (_, k) =>
    byClass.flatMap((files) => files.slice(k, k + 1)),
  )
  return { files: turns.flat().slice(0, limit), classNames }
}
