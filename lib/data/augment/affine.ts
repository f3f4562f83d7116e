import { type Image, imageLike, toByte } from './image.js'

/** Output (x, y) shows input (a x + b y + c, d x + e y + f); coordinates of pixel centres are + 1/2. */
export type AffineMap = readonly [a: number, b: number, c: number, d: number, e: number, f: number]

/** Bilinear; what lies outside the image is `fill` (one number, or one per channel). */
export function affine(source: Image, map: AffineMap, fill: readonly number[]): Image {
  const [a, b, c, d, e, f] = map
  const { channels, height, width, data } = source
  const out = imageLike(source)
  const bytes = out.data instanceof Uint8Array
  const plane = height * width
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const u = a * (x + 0.5) + b * (y + 0.5) + c
      const v = d * (x + 0.5) + e * (y + 0.5) + f
      const to = y * width + x
      if (!(u >= 0 && u < width && v >= 0 && v < height)) {
        for (let k = 0; k < channels; k++) {
          out.data[k * plane + to] = fill[fill.length === 1 ? 0 : k]
        }
        continue
      }
      const left = Math.floor(u - 0.5)
      const top = Math.floor(v - 0.5)
      const s = u - 0.5 - left
      const t = v - 0.5 - top
      const x0 = Math.max(left, 0)
      const x1 = Math.min(left + 1, width - 1)
      const y0 = Math.max(top, 0) * width
      const y1 = Math.min(top + 1, height - 1) * width
      for (let k = 0; k < channels; k++) {
        const at = k * plane
        const upper = data[at + y0 + x0] + s * (data[at + y0 + x1] - data[at + y0 + x0])
        const lower = data[at + y1 + x0] + s * (data[at + y1 + x1] - data[at + y1 + x0])
        const value = upper + t * (lower - upper)
        out.data[at + to] = bytes ? toByte(value) : value
      }
    }
  }
  return out
}

/** Turns counter-clockwise about the centre, in degrees. */
export function rotate(source: Image, degrees: number, fill: readonly number[]): Image {
  const angle = (degrees * Math.PI) / 180
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)]
  const [cx, cy] = [source.width / 2, source.height / 2]
  return affine(
    source,
    [cos, -sin, cx - cos * cx + sin * cy, sin, cos, cy - sin * cx - cos * cy],
    fill,
  )
}
