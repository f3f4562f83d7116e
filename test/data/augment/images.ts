import { type Image, image } from '../../../lib/data/augment/image.js'
import { integers } from '../../../lib/random/index.js'

/** One plane from rows of numbers. */
export function grey(...rows: number[][]): Image {
  return image(Uint8Array.from(rows.flat()), 1, rows.length, rows[0].length)
}

/** The planes' rows. */
export function rowsOf({ data, channels, height, width }: Image): number[][] {
  return Array.from({ length: channels * height }, (_, y) => [
    ...data.subarray(y * width, (y + 1) * width),
  ])
}

/** Random pixels. */
export function noise(channels: number, height: number, width: number, seed = 1): Image {
  const data = Uint8Array.from(integers(seed, 0, 0, channels * height * width, 256))
  return image(data, channels, height, width)
}
