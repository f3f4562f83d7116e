import { requireArguments } from '../arguments.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import type { ReadOptions } from '../files/read.js'
import { requireOptions } from '../options.js'
import { inSlices, type Slices } from '../slices.js'
import { readCifar } from './cifar.js'
import { readCsv } from './csv.js'
import type { DataSet } from './dataset.js'
import { hasSplits, type ImageFolderOptions, readImageFolder } from './image-folder.js'
import { readMnist, type Split } from './mnist.js'
import { type NormalizationChoice, statisticsSlices, withNormalization } from './normalize.js'
import { readNpySet, readNpzSet } from './numpy.js'
import { split as splitSet, subset } from './select.js'
import { type DataSpec, parseSpec, SpecOptions, suggestion } from './spec.js'
import { blobSlices } from './synthetic/blobs.js'
import { glyphSlices } from './synthetic/glyphs.js'
import { circleSlices, moonSlices, spiralSlices } from './synthetic/planar.js'
import { shapeSlices } from './synthetic/shapes.js'
import { teacherSlices } from './synthetic/teacher.js'

/** Options of {@link load}. */
export interface LoadOptions extends ReadOptions {
  /** Default 'train'. */
  split?: Split
  /** Only the first `limit` samples in file order. Default: all. */
  limit?: number
  /**
   * 'default': the published constants for mnist, fashion-mnist, cifar10, cifar100, glyphs and shapes,
   * none for the others. 'standardize': the channel statistics of the whole training split, also
   * for the test split.
   */
  normalization?: 'default' | NormalizationChoice
}

interface Request extends ReadOptions {
  split: Split
  limit: number | undefined
}

type Loader = (spec: DataSpec, options: SpecOptions, request: Request) => Promise<DataSet>

const LOADERS: Readonly<Record<string, { usage: string; load: Loader }>> = {
  mnist: { usage: 'mnist:DIR', load: idxFolder('mnist') },
  'fashion-mnist': { usage: 'fashion-mnist:DIR', load: idxFolder('fashion-mnist') },
  idx: { usage: 'idx:DIR', load: idxFolder('idx') },
  cifar10: { usage: 'cifar10:DIR', load: cifarFolder('cifar10') },
  cifar100: { usage: 'cifar100:DIR', load: cifarFolder('cifar100') },
  images: { usage: 'images:DIR[?size=224&channels=3]', load: loadImages },
  csv: { usage: 'csv:FILE[?label=COLUMN&test=FRACTION]', load: loadCsv },
  npz: { usage: 'npz:FILE[?x=KEY&y=KEY]', load: loadNpz },
  npy: { usage: 'npy:XFILE,YFILE', load: loadNpy },
  blobs: {
    usage: 'blobs[?n=1000&classes=5&dim=10&std=4&seed=0]',
    load: procedural(['classes', 'dim', 'std'], blobSlices),
  },
  circles: {
    usage: 'circles[?n=1000&noise=0.1&factor=0.5]',
    load: procedural(['noise', 'factor'], circleSlices),
  },
  moons: { usage: 'moons[?n=1000&noise=0.1]', load: procedural(['noise'], moonSlices) },
  spirals: {
    usage: 'spirals[?n=1000&classes=2&turns=1.5&noise=0.02]',
    load: procedural(['classes', 'turns', 'noise'], spiralSlices),
  },
  teacher: {
    usage: 'teacher[?n=1000&dim=10&width=20&classes=5]',
    load: procedural(['dim', 'width', 'classes', 'outputs', 'noise'], teacherSlices),
  },
  glyphs: {
    usage: 'glyphs[?n=10000&test=2000&seed=0]',
    load: procedural(['noise', 'inverted'], glyphSlices),
  },
  shapes: {
    usage: 'shapes[?n=2000&test=500&size=32&most=3&seed=0]',
    load: procedural(['size', 'most', 'noise'], shapeSlices),
  },
}

/** One line of usage for every kind of data set that {@link load} knows. */
export function kinds(): string[] {
  return Object.values(LOADERS).map(({ usage }) => usage)
}

/**
 * Loads or makes a data set from a description: `mnist:DIR`, `fashion-mnist:DIR`, `idx:DIR`,
 * `cifar10:DIR`, `cifar100:DIR`, `images:DIR?size=224` (one folder per class), `csv:FILE?label=COLUMN`, `npz:FILE`, `npy:XFILE,YFILE`, or
 * procedurally `blobs`, `circles`, `moons`, `spirals`, `teacher`, `glyphs`, `shapes` (a label for every pixel) with options such as
 * `blobs?n=1000&classes=5&dim=10&std=4&seed=1`. Files without a test part of their own (csv, npy,
 * npz with x and y) are split at random by `test=FRACTION&seed=S`.
 *
 * Throws ERR_ARGUMENT (unknown kind or option), ERR_IO, ERR_FORMAT, ERR_RANGE, ERR_NOT_FINITE,
 * ERR_ABORTED.
 *
 * @example
 * const set = await load('mnist:data/mnist', { split: 'test', limit: 1000 })
 */
export async function load(spec: string, options: LoadOptions = {}): Promise<DataSet> {
  requireArguments('load()', { spec })
  requireOptions('load()', options, [
    ...(['split', 'limit', 'normalization', 'signal', 'maxBytes'] as const),
  ])
  const { split = 'train', limit, normalization = 'default', signal, maxBytes } = options
  throwIfAborted(signal)
  const parsed = parseSpec(spec)
  const entry = Object.hasOwn(LOADERS, parsed.kind) ? LOADERS[parsed.kind] : undefined
  if (!entry) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `Unknown data set '${spec}'.${suggestion(parsed.kind, Object.keys(LOADERS))} ` +
        `Known are ${kinds().join(', ')}.`,
    )
  }
  if (split !== 'train' && split !== 'test') {
    throw new LosscapeError('ERR_ARGUMENT', `split must be 'train' or 'test'; got '${split}'.`)
  }
  if (limit !== undefined && (!Number.isInteger(limit) || limit < 1)) {
    throw new LosscapeError('ERR_ARGUMENT', `limit must be at least 1; got ${limit}.`)
  }
  const read: ReadOptions = {
    ...(signal ? { signal } : {}),
    ...(maxBytes !== undefined ? { maxBytes } : {}),
  }
  const part = async (which: Split, most: number | undefined) => {
    const specOptions = new SpecOptions(parsed)
    return entry.load(parsed, specOptions, { ...read, split: which, limit: most })
  }
  const set = await part(split, normalization === 'standardize' ? undefined : limit)
  const cut = limit !== undefined && limit < set.size ? subset(set, { limit }) : set
  if (normalization === 'default') return cut
  if (normalization !== 'standardize') return withNormalization(cut, normalization)
  const train = split === 'train' ? set : await part('train', undefined)
  return withNormalization(cut, await inSlices(statisticsSlices(train), signal))
}

function needPath({ kind, path }: DataSpec): string {
  if (path !== '') return path
  throw new LosscapeError('ERR_ARGUMENT', `'${kind}' needs a path: ${LOADERS[kind].usage}.`)
}

function idxFolder(kind: 'mnist' | 'fashion-mnist' | 'idx'): Loader {
  return async (spec, options, { split, limit: _, ...read }) => {
    options.finish()
    return readMnist(needPath(spec), split, { ...read, kind })
  }
}

function cifarFolder(kind: 'cifar10' | 'cifar100'): Loader {
  return async (spec, options, { split, limit, ...read }) => {
    options.finish()
    return readCifar(needPath(spec), split, { ...read, kind, ...(limit ? { limit } : {}) })
  }
}

async function loadImages(
  spec: DataSpec,
  options: SpecOptions,
  { split, limit, ...read }: Request,
): Promise<DataSet> {
  const path = needPath(spec)
  const { size } = options.numbers('size')
  const channels = options.choice('channels', ['1', '3'])
  const given: ImageFolderOptions = {
    ...read,
    ...(size !== undefined && { size }),
    ...(channels && { channels: channels === '1' ? 1 : 3 }),
  }
  if (await hasSplits(path)) {
    options.finish()
    return readImageFolder(path, split, { ...given, ...(limit && { limit }) })
  }
  return partOf(spec, options, split, () => readImageFolder(path, null, given))
}

async function loadCsv(
  spec: DataSpec,
  options: SpecOptions,
  { split, limit: _, ...read }: Request,
): Promise<DataSet> {
  const path = needPath(spec)
  const label = options.text('label')
  const header = options.choice('header', ['yes', 'no', 'auto'])
  const task = options.choice('task', ['classification', 'regression', 'auto'])
  const delimiter = options.text('delimiter')
  return partOf(spec, options, split, () =>
    readCsv(path, {
      ...read,
      ...(label !== undefined ? { label } : {}),
      ...(header && header !== 'auto' ? { header: header === 'yes' } : {}),
      ...(task ? { task } : {}),
      ...(delimiter !== undefined ? { delimiter } : {}),
    }),
  )
}

async function loadNpz(
  spec: DataSpec,
  options: SpecOptions,
  { split, limit: _, ...read }: Request,
): Promise<DataSet> {
  const path = needPath(spec)
  const [x, y] = [options.text('x'), options.text('y')]
  if ((x === undefined) !== (y === undefined)) {
    throw new LosscapeError('ERR_ARGUMENT', "'npz' takes x and y together.")
  }
  const limits = { ...read, ...options.numbers('classes') }
  const named = x !== undefined && y !== undefined ? { x, y } : {}
  if (split === 'test' && x === undefined) {
    const test = await readNpzSet(path, 'test', limits)
    if (test) {
      options.numbers('test', 'seed')
      options.finish()
      return test
    }
  }
  return partOf(spec, options, split, async () => {
    return (await readNpzSet(path, 'train', { ...limits, ...named }))!
  })
}

async function loadNpy(
  spec: DataSpec,
  options: SpecOptions,
  { split, limit: _, ...read }: Request,
): Promise<DataSet> {
  const paths = needPath(spec).split(',')
  if (paths.length !== 2 || paths.includes('')) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `'npy' needs two files, npy:XFILE,YFILE; got '${spec.path}'.`,
    )
  }
  const limits = { ...read, ...options.numbers('classes') }
  return partOf(spec, options, split, () => readNpySet(paths[0], paths[1], limits))
}

/** A file's only set, or the part of a random split of it that `test=FRACTION` asks for. */
async function partOf(
  { kind, path }: DataSpec,
  options: SpecOptions,
  split: Split,
  read: () => Promise<DataSet>,
): Promise<DataSet> {
  const { test, seed = 0 } = options.numbers('test', 'seed')
  options.finish()
  if (test === undefined) {
    if (split === 'train') return read()
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${path} has no test part; split it with '${kind}:${path}?test=0.2'.`,
    )
  }
  const [testSet, trainSet] = splitSet(await read(), test, seed)
  return split === 'train' ? trainSet : testSet
}

interface SyntheticRequest extends Partial<Record<string, unknown>> {
  n?: number
  test?: number
  seed?: number
  split: Split
}

function procedural(
  keys: readonly string[],
  make: (options: SyntheticRequest) => Slices<DataSet>,
): Loader {
  return async (spec, options, { split, signal }) => {
    if (spec.path !== '') {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `'${spec.kind}' takes no path: ${LOADERS[spec.kind].usage}.`,
      )
    }
    const numbers = options.numbers('n', 'test', 'seed', ...keys)
    options.finish()
    return inSlices(make({ ...numbers, split }), signal)
  }
}
