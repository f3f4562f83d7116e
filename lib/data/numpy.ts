import { LosscapeError } from '../errors.js'
import { formatError } from '../files/errors.js'
import type { ReadOptions } from '../files/read.js'
import { fromArrays } from './arrays.js'
import type { DataSet, InputArray } from './dataset.js'
import { withPath } from './folder.js'
import type { Split } from './mnist.js'
import { type NpyArray, readNpy } from './npy.js'
import { readNpz } from './npz.js'

/** Names that training and test arrays go by, in the order in which they are tried. */
const KEYS: Record<Split, readonly (readonly [string, string])[]> = {
  train: [
    ['x_train', 'y_train'],
    ['X_train', 'y_train'],
    ['train_images', 'train_labels'],
    ['x', 'y'],
    ['X', 'y'],
    ['images', 'labels'],
    ['arr_0', 'arr_1'],
  ],
  test: [
    ['x_test', 'y_test'],
    ['X_test', 'y_test'],
    ['test_images', 'test_labels'],
  ],
}

/** Options of {@link readNpzSet} and {@link readNpySet}. */
export interface NumpyOptions extends ReadOptions {
  /** Number of classes; makes float targets labels. Default: integer targets are labels. */
  classes?: number
}

/**
 * A data set from an `.npz` file: `x_train`, `y_train` (`x_test`, `y_test`) and the other names in
 * common use, or the arrays `x` and `y` name. First axis: samples. Returns null when the file has
 * no test arrays and `split` is 'test'.
 *
 * Throws ERR_IO, ERR_FORMAT, ERR_SHAPE, ERR_RANGE, ERR_NOT_FINITE, ERR_ABORTED.
 */
export async function readNpzSet(
  path: string,
  split: Split,
  options: NumpyOptions & { x?: string; y?: string } = {},
): Promise<DataSet | null> {
  const { x, y, classes, ...read } = options
  const pairs = x !== undefined && y !== undefined ? [[x, y] as const] : KEYS[split]
  const names: string[] = []
  // Names first: a file may hold much that is not wanted.
  const list = (name: string) => {
    names.push(name)
    return false
  }
  await readNpz(path, { ...read, filter: list })
  const pair = pairs.find((keys) => keys.every((name) => names.includes(name)))
  if (!pair) {
    if (split === 'test' && x === undefined) return null
    throw formatError(path, {
      expected: `arrays ${pairs.map(([a, b]) => `${a} and ${b}`).join(', or ')}`,
      got: names.length > 0 ? names.join(', ') : 'none',
      hint: 'Name them with ?x=KEY&y=KEY.',
    })
  }
  // The other split's labels too: it alone may hold the highest class.
  const twin = pair[1].replace(/train|test/, (word) => (word === 'train' ? 'test' : 'train'))
  const wanted = [...pair, twin]
  const arrays = await readNpz(path, { ...read, filter: (name) => wanted.includes(name) })
  const labels = [pair[1], twin].flatMap((name) => arrays.get(name) ?? [])
  return withPath(path, () =>
    toSet('npz', arrays.get(pair[0])!, labels[0], classes ?? countClasses(labels)),
  )
}

/** A data set from two `.npy` files, samples along the first axis. Throws as {@link readNpzSet}. */
export async function readNpySet(
  xPath: string,
  yPath: string,
  options: NumpyOptions = {},
): Promise<DataSet> {
  const { classes, ...read } = options
  const x = await readNpy(xPath, read)
  const y = await readNpy(yPath, read)
  return withPath(`${xPath}, ${yPath}`, () => toSet('npy', x, y, classes ?? countClasses([y])))
}

/** Largest label + 1 over integer arrays; undefined for real targets. */
function countClasses(labels: readonly NpyArray[]): number | undefined {
  let most = 0
  for (const { data } of labels) {
    if (data instanceof Float32Array || data instanceof Float64Array) return undefined
    for (const label of data) most = Math.max(most, Number(label))
  }
  return most + 1
}

function toSet(name: string, x: NpyArray, y: NpyArray, classes: number | undefined): DataSet {
  if (x.shape.length < 1 || y.shape.length < 1 || x.shape[0] !== y.shape[0]) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `inputs [${x.shape}] and targets [${y.shape}] must agree in their first dimension.`,
    )
  }
  const shape = x.shape.length > 1 ? x.shape.slice(1) : [1]
  const column = y.shape.length === 2 && y.shape[1] === 1
  const targetShape = column ? [] : y.shape.slice(1)
  if (classes === undefined) {
    const targets = y.data as Float32Array | Float64Array
    return fromArrays(toInputs(x), targets, { name, shape, targetShape })
  }
  if (targetShape.length > 0) {
    throw new LosscapeError('ERR_SHAPE', `labels must have shape [N] or [N, 1]; got [${y.shape}].`)
  }
  const labels = Array.from(y.data as ArrayLike<number | bigint>, Number)
  return fromArrays(toInputs(x), labels, { name, shape, classes })
}

function toInputs({ data }: NpyArray): InputArray {
  if (data instanceof Uint8Array || data instanceof Float32Array || data instanceof Float64Array) {
    return data
  }
  return Float32Array.from(data as ArrayLike<number | bigint>, Number)
}
