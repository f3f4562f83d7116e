import type { Draws } from './draws.js'
import { type Image, imageLike, requireBytes, toByte } from './image.js'

/** Luminance of ITU-R 601 in 16-bit fixed point, as Pillow's; one channel is its own. */
export function luminance(source: Image): Uint8Array {
  const data = requireBytes(source, 'Luminance')
  const plane = source.height * source.width
  if (source.channels !== 3) return data.slice(0, plane)
  const grey = new Uint8Array(plane)
  for (let i = 0; i < plane; i++) {
    const red = data[i] * 19595
    grey[i] = (red + data[plane + i] * 38470 + data[2 * plane + i] * 7471 + 0x8000) >> 16
  }
  return grey
}

/** base + factor (x - base), rounded, for a base that all pixels share: a table of 256 bytes. */
function blendConstant(source: Image, base: number, factor: number, what: string): Image {
  const data = requireBytes(source, what)
  const table = Uint8Array.from({ length: 256 }, (_, x) => toByte(base + factor * (x - base)))
  const out = imageLike(source)
  for (let i = 0; i < data.length; i++) out.data[i] = table[data[i]]
  return out
}

/** The same for a base of every pixel: one plane for all channels, or one each. */
function blend(source: Image, base: Uint8Array, factor: number, what: string): Image {
  const data = requireBytes(source, what)
  const out = new Uint8Array(data.length)
  for (let begin = 0; begin < data.length; begin += base.length) {
    for (let i = 0; i < base.length; i++) {
      const from = base[i]
      const value = from + factor * (data[begin + i] - from)
      out[begin + i] = value <= 0 ? 0 : value >= 255 ? 255 : (value + 0.5) | 0
    }
  }
  return { ...source, data: out }
}

/** 0: black, 1: as it is. */
export function brightness(source: Image, factor: number): Image {
  return blendConstant(source, 0, factor, 'Brightness')
}

/** 0: the mean grey, 1: as it is. */
export function contrast(source: Image, factor: number): Image {
  const grey = luminance(source)
  let sum = 0
  for (let i = 0; i < grey.length; i++) sum += grey[i]
  return blendConstant(source, Math.floor(sum / grey.length + 0.5), factor, 'Contrast')
}

/** 0: grey, 1: as it is. */
export function saturation(source: Image, factor: number): Image {
  return blend(source, luminance(source), factor, 'Saturation')
}

/** 0: smoothed by [1 1 1; 1 5 1; 1 1 1] / 13 except at the border, 1: as it is, 2: sharpened. */
export function sharpness(source: Image, factor: number): Image {
  const { channels, height, width } = source
  const data = requireBytes(source, 'Sharpness')
  const smooth = data.slice()
  for (let c = 0; c < channels; c++) {
    for (let y = 1; y < height - 1; y++) {
      for (let x = 1; x < width - 1; x++) {
        const i = (c * height + y) * width + x
        let sum = 4 * data[i]
        for (let dy = -width; dy <= width; dy += width) {
          sum += data[i + dy - 1] + data[i + dy] + data[i + dy + 1]
        }
        smooth[i] = toByte(sum / 13)
      }
    }
  }
  return blend(source, smooth, factor, 'Sharpness')
}

/** Turns the hue by a share of the circle (-1/2 ... 1/2); images of one channel stay. */
export function hue(source: Image, shift: number): Image {
  const data = requireBytes(source, 'Hue')
  const out = imageLike(source)
  out.data.set(data)
  if (source.channels !== 3) return out
  const plane = source.height * source.width
  for (let i = 0; i < plane; i++) {
    const [r, g, b] = [data[i], data[plane + i], data[2 * plane + i]]
    const high = Math.max(r, g, b)
    const spread = high - Math.min(r, g, b)
    if (spread === 0) continue
    const sector =
      high === r ? (g - b) / spread : high === g ? 2 + (b - r) / spread : 4 + (r - g) / spread
    const turned = sector + 6 * shift
    for (const [c, offset] of [5, 3, 1].entries()) {
      const k = (((offset + turned) % 6) + 6) % 6
      const value = high - spread * Math.max(0, Math.min(k, 4 - k, 1))
      out.data[c * plane + i] = toByte(value)
    }
  }
  return out
}

/** Widths of the factors' ranges: factor in [max(0, 1 - w), 1 + w]; hue turns by [-w, w]. */
export interface JitterPlan {
  readonly brightness: number
  readonly contrast: number
  readonly saturation: number
  readonly hue: number
}

const STEPS: readonly [keyof JitterPlan, (source: Image, factor: number) => Image][] = [
  ['brightness', brightness],
  ['contrast', contrast],
  ['saturation', saturation],
  ['hue', hue],
]

/** Brightness, contrast, saturation and hue by random factors, in random order. */
export function colourJitter(source: Image, plan: JitterPlan, draws: Draws): Image {
  const steps = STEPS.filter(([name]) => plan[name] > 0)
  for (let i = steps.length - 1; i > 0; i--) {
    const j = draws.integer(i + 1)
    ;[steps[i], steps[j]] = [steps[j], steps[i]]
  }
  return steps.reduce((held, [name, apply]) => {
    const w = plan[name]
    const factor = name === 'hue' ? draws.between(-w, w) : draws.between(Math.max(0, 1 - w), 1 + w)
    return apply(held, factor)
  }, source)
}
