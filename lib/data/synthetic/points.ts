import { newArray } from '../../allocation.js'
import { fillSlices, normals, stream, type Word64 } from '../../random/index.js'
import { ranges, type Slices } from '../../slices.js'
import { type DataSet, IDENTITY, validate } from '../dataset.js'
import { integerOption, type SyntheticOptions } from './options.js'

/** How one kind of labelled points in the plane (or in R^dim) is made. */
export interface PointRecipe {
  name: string
  classes: number
  dim: number
  /** Standard deviation of the Gaussian noise added to every coordinate. */
  noise: number
  defaultSize: number
  /** Writes the noiseless point of a sample to `out`. */
  place(label: number, sample: number, out: Float64Array): void
}

/** Streams of one split: labels and places first, then noise. */
export function splitStream(split: 'train' | 'test', part: number): bigint {
  return stream('data', part * 2 + (split === 'test' ? 1 : 0))
}

/** Sizes of the split asked for. */
export function splitSize(options: SyntheticOptions, defaultSize: number): number {
  const { n = defaultSize, test = n, split = 'train' } = options
  integerOption('n', n)
  integerOption('test', test)
  return split === 'train' ? n : test
}

/**
 * Labelled points: labels 0, 1, ..., C - 1 in turn (so every prefix is balanced), the recipe's
 * place plus noise, float32.
 */
export function* makePoints(
  recipe: PointRecipe,
  seed: Word64,
  options: SyntheticOptions,
): Slices<DataSet> {
  const { name, classes, dim, noise } = recipe
  const { split = 'train' } = options
  const size = splitSize(options, recipe.defaultSize)
  const points = newArray(Float64Array, size * dim, name)
  yield* fillSlices(normals, seed, splitStream(split, 0), points)
  const place = new Float64Array(dim)
  const targets = newArray(Int32Array, size, name)
  for (const [from, to] of ranges(size, 2 ** 12)) {
    for (let i = from; i < to; i++) {
      targets[i] = i % classes
      recipe.place(targets[i], i, place)
      for (let k = 0; k < dim; k++) points[i * dim + k] = place[k] + noise * points[i * dim + k]
    }
    yield
  }
  return validate({
    name,
    size,
    shape: [dim],
    inputs: new Float32Array(points),
    targets,
    targetShape: [],
    classes,
    normalization: IDENTITY,
  })
}
