import { affine, rotate } from './affine.js'
import { brightness, contrast, saturation, sharpness } from './colour.js'
import type { Draws } from './draws.js'
import { type Image, imageLike, requireBytes } from './image.js'

/** Each byte through a table of its channel. */
function lookUp(source: Image, tables: readonly ArrayLike<number>[]): Image {
  const data = requireBytes(source, 'This operation')
  const out = imageLike(source)
  const plane = source.height * source.width
  for (let c = 0; c < source.channels; c++) {
    const table = tables[tables.length === 1 ? 0 : c]
    for (let i = c * plane; i < (c + 1) * plane; i++) out.data[i] = table[data[i]]
  }
  return out
}

const tableOf = (map: (value: number) => number): Uint8Array =>
  Uint8Array.from({ length: 256 }, (_, value) => Math.max(0, Math.min(255, map(value))))

function histograms(source: Image): Uint32Array[] {
  const data = requireBytes(source, 'A histogram')
  const plane = source.height * source.width
  return Array.from({ length: source.channels }, (_, c) => {
    const counts = new Uint32Array(256)
    for (let i = c * plane; i < (c + 1) * plane; i++) counts[data[i]]++
    return counts
  })
}

/** Stretches every channel to 0 ... 255. */
export function autoContrast(source: Image): Image {
  const tables = histograms(source).map((counts) => {
    const low = counts.findIndex((count) => count > 0)
    const high = counts.findLastIndex((count) => count > 0)
    if (high <= low) return tableOf((value) => value)
    return tableOf((value) => Math.floor(((value - low) * 255) / (high - low)))
  })
  return lookUp(source, tables)
}

/** Flattens the histogram of every channel, with Pillow's rounding. */
export function equalize(source: Image): Image {
  const tables = histograms(source).map((counts) => {
    const used = counts.filter((count) => count > 0)
    const pixels = counts.reduce((sum, count) => sum + count, 0)
    const step = Math.floor((pixels - (used.at(-1) ?? 0)) / 255)
    if (used.length <= 1 || step === 0) return tableOf((value) => value)
    let seen = Math.floor(step / 2)
    return tableOf((value) => {
      const level = Math.floor(seen / step)
      seen += counts[value]
      return level
    })
  })
  return lookUp(source, tables)
}

export function invert(source: Image): Image {
  return lookUp(source, [tableOf((value) => 255 - value)])
}

/** Inverts what is at least `threshold`. */
export function solarize(source: Image, threshold: number): Image {
  return lookUp(source, [tableOf((value) => (value < threshold ? value : 255 - value))])
}

/** Adds to what is below `threshold`. */
export function solarizeAdd(source: Image, add: number, threshold = 128): Image {
  return lookUp(source, [tableOf((value) => (value < threshold ? value + add : value))])
}

/** Keeps the highest `bits` bits. */
export function posterize(source: Image, bits: number): Image {
  const mask = bits >= 8 ? 255 : 255 & ~(2 ** (8 - bits) - 1)
  return lookUp(source, [tableOf((value) => value & mask)])
}

/** What every operation of RandAugment gets: a level of 0 ... 10 (or more), and what fills holes. */
type Operation = (source: Image, level: number, draws: Draws, fill: readonly number[]) => Image

const FULL = 10

/** Factor of an enhancement: 1 ± 0.9 level / 10, at least 0.1. */
const factor = (level: number, draws: Draws): number =>
  Math.max(0.1, 1 + draws.sign((level / FULL) * 0.9))

const enhanced =
  (apply: (source: Image, factor: number) => Image): Operation =>
  (source, level, draws) =>
    apply(source, factor(level, draws))

/** Input coordinates that move by `shear` per pixel of the other axis, or by a share of the side. */
const SHEAR = 0.3
const SHIFT = 0.45
const ROTATION = 30

/**
 * The operations by name, with the levels of the "increasing" set: all do more at a higher level.
 */
export const OPERATIONS = {
  autoContrast: (source) => autoContrast(source),
  equalize: (source) => equalize(source),
  invert: (source) => invert(source),
  rotate: (source, level, draws, fill) =>
    rotate(source, draws.sign((level / FULL) * ROTATION), fill),
  posterize: (source, level) => posterize(source, 4 - Math.min(4, Math.floor((level / FULL) * 4))),
  solarize: (source, level) =>
    solarize(source, 256 - Math.min(256, Math.floor((level / FULL) * 256))),
  solarizeAdd: (source, level) =>
    solarizeAdd(source, Math.min(128, Math.floor((level / FULL) * 110))),
  color: enhanced(saturation),
  contrast: enhanced(contrast),
  brightness: enhanced(brightness),
  sharpness: enhanced(sharpness),
  shearX: (source, level, draws, fill) =>
    affine(source, [1, draws.sign((level / FULL) * SHEAR), 0, 0, 1, 0], fill),
  shearY: (source, level, draws, fill) =>
    affine(source, [1, 0, 0, draws.sign((level / FULL) * SHEAR), 1, 0], fill),
  translateX: (source, level, draws, fill) =>
    affine(source, [1, 0, draws.sign((level / FULL) * SHIFT) * source.width, 0, 1, 0], fill),
  translateY: (source, level, draws, fill) =>
    affine(source, [1, 0, 0, 0, 1, draws.sign((level / FULL) * SHIFT) * source.height], fill),
} as const satisfies Record<string, Operation>

export type OperationName = keyof typeof OPERATIONS
