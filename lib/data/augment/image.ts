import { LosscapeError } from '../../errors.js'

/** Elements of an image; bytes are pixels 0 ... 255. */
export type Pixels = Uint8Array | Float32Array | Float64Array

/** One image, planar: row-major [channels, height, width]. */
export interface Image {
  readonly data: Pixels
  readonly channels: number
  readonly height: number
  readonly width: number
}

/** @throws ERR_SHAPE unless the elements are as many as the dimensions say */
export function image(data: Pixels, channels: number, height: number, width: number): Image {
  if (data.length !== channels * height * width) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `An image of [${channels}, ${height}, ${width}] has ${channels * height * width} elements, ` +
        `got ${data.length}.`,
    )
  }
  return { data, channels, height, width }
}

/** Zeros of an array's type. */
export function pixelsLike<T extends Pixels>(pixels: T, length: number): T {
  return new (pixels.constructor as new (length: number) => T)(length)
}

/** An image of zeros with the type and channels of another. */
export function imageLike(like: Image, height = like.height, width = like.width): Image {
  const { channels } = like
  return { data: pixelsLike(like.data, channels * height * width), channels, height, width }
}

/** The nearest byte. */
export function toByte(value: number): number {
  return value <= 0 ? 0 : value >= 255 ? 255 : (value + 0.5) | 0
}

/** The byte image, for operations that are defined on pixels only. Throws ERR_DTYPE. */
export function requireBytes(source: Image, operation: string): Uint8Array {
  if (source.data instanceof Uint8Array) return source.data
  throw new LosscapeError(
    'ERR_DTYPE',
    `${operation} works on pixels (bytes 0 to 255), got ${source.data.constructor.name}: keep the ` +
      "data set's inputs a Uint8Array and normalise by its `normalization`.",
  )
}

/** An image from rows of interleaved channels [height, width, channels], as decoders give. */
export function fromInterleaved(
  data: Uint8Array,
  channels: number,
  height: number,
  width: number,
): Image {
  const plane = height * width
  const out = new Uint8Array(channels * plane)
  for (let c = 0; c < channels; c++) {
    for (let i = 0, at = c; i < plane; i++, at += channels) out[c * plane + i] = data[at]
  }
  return image(out, channels, height, width)
}
