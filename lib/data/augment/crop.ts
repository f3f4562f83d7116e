import type { Draws } from './draws.js'
import { type Image, imageLike } from './image.js'
import type { Box } from './resample.js'

const ATTEMPTS = 10

/**
 * The part of a random resized crop (Szegedy et al. 2015): its share of the area is uniform in
 * `scale` and its width over height log-uniform in `ratio`. After ten parts that do not fit, the
 * largest centred one within `ratio`.
 */
export function randomPart(
  draws: Draws,
  height: number,
  width: number,
  scale: readonly [number, number],
  ratio: readonly [number, number],
): Box {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const area = height * width * draws.between(scale[0], scale[1])
    const aspect = Math.exp(draws.between(Math.log(ratio[0]), Math.log(ratio[1])))
    const w = Math.round(Math.sqrt(area * aspect))
    const h = Math.round(Math.sqrt(area / aspect))
    if (w < 1 || h < 1 || w > width || h > height) continue
    const top = draws.integer(height - h + 1)
    const left = draws.integer(width - w + 1)
    return { top, left, height: h, width: w }
  }
  const aspect = width / height
  const w = aspect > ratio[1] ? Math.max(1, Math.round(height * ratio[1])) : width
  const h = aspect < ratio[0] ? Math.max(1, Math.round(width / ratio[0])) : height
  return { top: (height - h) >> 1, left: (width - w) >> 1, height: h, width: w }
}

/** What lies around an image where a crop reaches beyond it. */
export type Border = 'fill' | 'reflect'

/**
 * The image moved by (top - padding, left - padding), as cut out of the image with a border of
 * `padding` pixels: the usual crop of CIFAR, with 4 pixels of zeros.
 */
export function paddedCrop(
  source: Image,
  padding: number,
  top: number,
  left: number,
  border: Border = 'fill',
  fill: readonly number[] = [0],
): Image {
  const { channels, height, width } = source
  const out = imageLike(source)
  const inside = (at: number, length: number): number => {
    if (at >= 0 && at < length) return at
    if (border === 'fill' || length === 1) return border === 'fill' ? -1 : 0
    const period = 2 * (length - 1)
    const folded = ((at % period) + period) % period
    return folded < length ? folded : period - folded
  }
  const columns = Int32Array.from({ length: width }, (_, x) => inside(x + left - padding, width))
  for (let c = 0; c < channels; c++) {
    const value = fill[fill.length === 1 ? 0 : c]
    for (let y = 0; y < height; y++) {
      const row = inside(y + top - padding, height)
      const to = (c * height + y) * width
      if (row < 0) {
        out.data.fill(value, to, to + width)
        continue
      }
      const from = (c * height + row) * width
      for (let x = 0; x < width; x++) {
        out.data[to + x] = columns[x] < 0 ? value : source.data[from + columns[x]]
      }
    }
  }
  return out
}

/** Mirrors left and right, in place. */
export function flip(target: Image): Image {
  const { data, width } = target
  for (let from = 0; from < data.length; from += width) data.subarray(from, from + width).reverse()
  return target
}
