import { type Image, imageLike, type Pixels, toByte } from './image.js'

/** Triangle filter, or cubic convolution with a = -1/2 (Keys 1981). */
export type Interpolation = 'bilinear' | 'bicubic'

/** A part of an image, in pixels. */
export interface Box {
  readonly top: number
  readonly left: number
  readonly height: number
  readonly width: number
}

/** Weights of one axis: output i is Σ_k weights[i * most + k] x[first[i] + k], k < count[i]. */
export interface AxisWeights {
  readonly first: Int32Array
  readonly count: Int32Array
  readonly weights: Float64Array
  readonly most: number
}

const FILTERS: Record<Interpolation, { support: number; at: (x: number) => number }> = {
  bilinear: { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    at: (x) => {
      const t = Math.abs(x)
      if (t < 1) return (1.5 * t - 2.5) * t * t + 1
      return t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0
    },
  },
}

/**
 * How `size` outputs are made of the `length` inputs from `begin` on: pixel centres at i + 1/2, the
 * filter stretched over what an output covers when the image shrinks (antialiasing), weights cut off
 * at the ends and summing to 1, as Pillow's resize().
 */
export function axisWeights(
  begin: number,
  length: number,
  size: number,
  interpolation: Interpolation,
): AxisWeights {
  const { support, at } = FILTERS[interpolation]
  const scale = length / size
  const stretch = Math.max(scale, 1)
  const reach = support * stretch
  const most = Math.ceil(reach) * 2 + 1
  const first = new Int32Array(size)
  const count = new Int32Array(size)
  const weights = new Float64Array(size * most)
  for (let i = 0; i < size; i++) {
    const centre = (i + 0.5) * scale
    const low = Math.max(0, Math.floor(centre - reach + 0.5))
    const high = Math.min(length, Math.floor(centre + reach + 0.5))
    let sum = 0
    for (let k = low; k < high; k++) {
      const weight = at((k - centre + 0.5) / stretch)
      weights[i * most + k - low] = weight
      sum += weight
    }
    for (let k = 0; k < high - low; k++) weights[i * most + k] /= sum
    first[i] = begin + low
    count[i] = high - low
  }
  return { first, count, weights, most }
}

/** The weights as a dense matrix [size, length], row-major, of an axis of `length` inputs. */
export function denseWeights(axis: AxisWeights, length: number): Float64Array {
  const size = axis.first.length
  const matrix = new Float64Array(size * length)
  for (let i = 0; i < size; i++) {
    for (let k = 0; k < axis.count[i]; k++) {
      matrix[i * length + axis.first[i] + k] = axis.weights[i * axis.most + k]
    }
  }
  return matrix
}

/** The centred part of a resized image that evaluation sees, as weights from the original. */
export function evaluationWeights(
  length: number,
  shorter: number,
  size: number,
  cropRatio: number,
  interpolation: Interpolation,
): AxisWeights {
  const target = Math.max(size, Math.floor(size / cropRatio))
  const whole = Math.max(size, Math.round((length * target) / shorter))
  const { first, count, weights, most } = axisWeights(0, length, whole, interpolation)
  const begin = Math.round((whole - size) / 2)
  return {
    first: first.slice(begin, begin + size),
    count: count.slice(begin, begin + size),
    weights: weights.slice(begin * most, (begin + size) * most),
    most,
  }
}

/** Applies weights along both axes; bytes are rounded once, at the end. */
export function resample(source: Image, rows: AxisWeights, columns: AxisWeights): Image {
  const height = rows.first.length
  const width = columns.first.length
  const out = imageLike(source, height, width)
  const top = rows.first.reduce((least, row) => Math.min(least, row), source.height)
  const bottom = rows.first.reduce((most, row, i) => Math.max(most, row + rows.count[i]), 0)
  const middle = new Float64Array((bottom - top) * width)
  const line = new Float64Array(width)
  for (let c = 0; c < source.channels; c++) {
    const begin = (c * source.height + top) * source.width
    const lines = source.data.subarray(begin, begin + (bottom - top) * source.width)
    combineColumns(lines, source.width, columns, middle)
    for (let y = 0; y < height; y++) {
      line.fill(0)
      for (let k = 0; k < rows.count[y]; k++) {
        const weight = rows.weights[y * rows.most + k]
        const from = (rows.first[y] + k - top) * width
        for (let x = 0; x < width; x++) line[x] += weight * middle[from + x]
      }
      store(line, out.data, (c * height + y) * width)
    }
  }
  return out
}

/** Every line of `width` pixels by the weights of the columns. */
function combineColumns(
  lines: Pixels,
  width: number,
  { first, count, weights, most }: AxisWeights,
  out: Float64Array,
): void {
  const size = first.length
  for (let from = 0, to = 0; from < lines.length; from += width, to += size) {
    for (let x = 0; x < size; x++) {
      const at = from + first[x]
      const n = count[x]
      let sum = 0
      for (let k = 0, w = x * most; k < n; k++, w++) sum += weights[w] * lines[at + k]
      out[to + x] = sum
    }
  }
}

function store(line: Float64Array, out: Pixels, to: number): void {
  if (!(out instanceof Uint8Array)) {
    out.set(line, to)
    return
  }
  for (let x = 0; x < line.length; x++) out[to + x] = toByte(line[x])
}

/** A part of an image, brought to a size; pixels outside the part have no influence. */
export function resizedPart(
  source: Image,
  { top, left, height, width }: Box,
  size: readonly [height: number, width: number],
  interpolation: Interpolation,
): Image {
  if (height === size[0] && width === size[1]) return part(source, { top, left, height, width })
  return resample(
    source,
    axisWeights(top, height, size[0], interpolation),
    axisWeights(left, width, size[1], interpolation),
  )
}

/** A whole image brought to a size. */
export function resized(
  source: Image,
  size: readonly [height: number, width: number],
  interpolation: Interpolation = 'bilinear',
): Image {
  const { height, width } = source
  return resizedPart(source, { top: 0, left: 0, height, width }, size, interpolation)
}

/**
 * What evaluation sees: the shorter side is brought to ⌊size / cropRatio⌋ and the centre
 * [size, size] is cut out.
 */
export function centreCrop(
  source: Image,
  size: readonly [height: number, width: number],
  cropRatio = 1,
  interpolation: Interpolation = 'bilinear',
): Image {
  const shorter = Math.min(source.height, source.width)
  return resample(
    source,
    evaluationWeights(source.height, shorter, size[0], cropRatio, interpolation),
    evaluationWeights(source.width, shorter, size[1], cropRatio, interpolation),
  )
}

/** A part of an image, copied. */
export function part(source: Image, { top, left, height, width }: Box): Image {
  const out = imageLike(source, height, width)
  for (let c = 0; c < source.channels; c++) {
    for (let y = 0; y < height; y++) {
      const from = (c * source.height + top + y) * source.width + left
      out.data.set(source.data.subarray(from, from + width), (c * height + y) * width)
    }
  }
  return out
}
