import { newArray } from '../../allocation.js'
import { LosscapeError } from '../../errors.js'
import { requireOptions } from '../../options.js'
import { stream, words } from '../../random/index.js'
import { inSlices, type Slices } from '../../slices.js'
import { type DataSet, type Normalization, validate } from '../dataset.js'
import { amountOption, integerOption, SYNTHETIC, type SyntheticOptions } from './options.js'
import { splitSize } from './points.js'

/** Options of {@link shapes}. */
export interface ShapeOptions extends SyntheticOptions {
  /** Side of the images. Default 32. */
  size?: number
  /** Most shapes in an image, at most 8. Default 3. */
  most?: number
  /** Half width of the uniform pixel noise, in levels of 0 ... 255. Default 24. */
  noise?: number
}

/** Class 0 is the ground. */
const CLASSES = ['ground', 'disc', 'square', 'triangle'] as const
const KINDS = CLASSES.length - 1
const CHANNELS = 3
/** Random words of the number of shapes and the ground's colour, and of each shape. */
const SCENE_WORDS = 4
const SHAPE_WORDS = 8
const MOST_SHAPES = 8
/** Samples drawn between two chances of a turn of the event loop. */
const SLICE = 8

/** Mean and deviation of the pixels / 255 over 2000 training images of the default options. */
export const SHAPES_NORMALIZATION: Normalization = {
  mean: [0.4978, 0.4991, 0.4947],
  std: [0.2283, 0.2291, 0.2275],
}

/**
 * Segmentation of generated scenes: 1 to `most` coloured discs, squares and triangles on a coloured
 * ground, shifted, turned, sized and overlapping at random, with pixel noise. Images [3, size, size]
 * of bytes, a label of 0 ... 3 (ground, disc, square, triangle) for every pixel: `targets` is
 * [n, size, size], `targetShape` [size, size]. Colours are drawn apart from the ground's but say
 * nothing of the class. Default n 2000 (test 500), about 0.5 ms an image.
 *
 * Only + - * / and sqrt are used, so the same seed gives the same bytes on every machine. The
 * foremost shape of images 0, 1, 2, ... is a disc, a square, a triangle in turn.
 *
 * Throws ERR_ARGUMENT, ERR_ABORTED.
 */
export async function shapes(options: ShapeOptions = {}): Promise<DataSet> {
  return inSlices(shapeSlices(options), options?.signal)
}

/** {@link shapes} in slices. */
export function* shapeSlices(options: ShapeOptions = {}): Slices<DataSet> {
  requireOptions('shapes()', options, [...SYNTHETIC, 'size', 'most', 'noise'])
  const { seed = 0, split = 'train' } = options
  const side = integerOption('size', options.size ?? 32, 8)
  const most = integerOption('most', options.most ?? 3)
  if (most > MOST_SHAPES) {
    throw new LosscapeError('ERR_ARGUMENT', `most must be at most ${MOST_SHAPES}; got ${most}.`)
  }
  const noise = amountOption('noise', options.noise ?? 24)
  const n = integerOption('n', options.n ?? 2000)
  const count = splitSize({ n, test: options.test ?? 500, split }, n)
  const pixels = side * side
  const inputs = newArray(Uint8Array, count * CHANNELS * pixels, 'shapes')
  const targets = newArray(Int32Array, count * pixels, 'shapes')
  const sceneWords = SCENE_WORDS + most * SHAPE_WORDS
  const sampleWords = sceneWords + Math.ceil((CHANNELS * pixels) / 4)
  const streamNumber = stream('data', 400 + (split === 'test' ? 1 : 0))
  for (let i = 0; i < count; i++) {
    if (i % SLICE === 0) yield
    const draws = words(seed, streamNumber, i * sampleWords, sampleWords)
    const image = inputs.subarray(i * CHANNELS * pixels, (i + 1) * CHANNELS * pixels)
    const labels = targets.subarray(i * pixels, (i + 1) * pixels)
    const scene = sceneOf(draws, side, most, 1 + (i % KINDS))
    draw(scene, draws.subarray(sceneWords), noise, side, image, labels)
  }
  return validate({
    name: 'shapes',
    size: count,
    shape: [CHANNELS, side, side],
    inputs,
    targets,
    targetShape: [side, side],
    classes: CLASSES.length,
    classNames: [...CLASSES],
    normalization: SHAPES_NORMALIZATION,
  })
}

type Colour = readonly [number, number, number]

interface Shape {
  /** 1 ... 3, its class. */
  readonly kind: number
  readonly x: number
  readonly y: number
  readonly radius: number
  readonly cosine: number
  readonly sine: number
  readonly colour: Colour
}

interface Scene {
  readonly ground: Colour
  /** The foremost first. */
  readonly shapes: readonly Shape[]
}

const LOW = 30
const SPAN = 195

function sceneOf(draws: Uint32Array, side: number, most: number, front: number): Scene {
  const unit = (k: number) => (draws[k] + 0.5) / 4294967296
  const uniform = (k: number, low: number, high: number) => low + (high - low) * unit(k)
  const count = 1 + Math.floor(most * unit(0))
  const ground: Colour = [uniform(1, 0, SPAN), uniform(2, 0, SPAN), uniform(3, 0, SPAN)]
  // Around a circle of brightness, so that a shape is as often darker as brighter than the ground,
  // by 70 to 125 levels in every channel.
  const apart = (k: number, c: number) => LOW + ((ground[c] + uniform(k, 70, 125)) % SPAN)
  const shapes = Array.from({ length: count }, (_, s): Shape => {
    const at = SCENE_WORDS + s * SHAPE_WORDS
    // Half-angle tangent within 45 degrees either way: a rotation without sine and cosine.
    const t = uniform(at + 4, -0.2071, 0.2071)
    return {
      kind: s === 0 ? front : 1 + Math.floor(KINDS * unit(at)),
      x: uniform(at + 1, 0.2, 0.8) * side,
      y: uniform(at + 2, 0.2, 0.8) * side,
      radius: uniform(at + 3, 0.14, 0.28) * side,
      cosine: (1 - t * t) / (1 + t * t),
      sine: (2 * t) / (1 + t * t),
      colour: [apart(at + 5, 0), apart(at + 6, 1), apart(at + 7, 2)],
    }
  })
  const raised = ground.map((level) => LOW + level) as unknown as Colour
  return { ground: raised, shapes }
}

function draw(
  { ground, shapes }: Scene,
  noiseWords: Uint32Array,
  noise: number,
  side: number,
  image: Uint8Array,
  labels: Int32Array,
): void {
  const pixels = side * side
  for (let pixel = 0; pixel < pixels; pixel++) {
    const [row, column] = [Math.floor(pixel / side), pixel % side]
    const shape = shapes.find((one) => covers(one, column + 0.5, row + 0.5))
    labels[pixel] = shape?.kind ?? 0
    const colour = shape?.colour ?? ground
    for (let c = 0; c < CHANNELS; c++) {
      const at = c * pixels + pixel
      const byte = (noiseWords[at >> 2] >>> (8 * (at & 3))) & 0xff
      const level = colour[c] + ((byte - 127.5) / 127.5) * noise
      image[at] = Math.min(255, Math.max(0, Math.floor(level + 0.5)))
    }
  }
}

/** Half the side of a square, and of a triangle's base at its foot, of the area of a unit disc. */
const SQUARE = Math.sqrt(Math.PI) / 2
const TRIANGLE = Math.sqrt(Math.PI / Math.sqrt(3))

function covers({ kind, x, y, radius, cosine, sine }: Shape, px: number, py: number): boolean {
  const [dx, dy] = [(px - x) / radius, (py - y) / radius]
  if (kind === 1) return dx * dx + dy * dy <= 1
  const u = cosine * dx + sine * dy
  const v = cosine * dy - sine * dx
  if (kind === 2) return Math.abs(u) <= SQUARE && Math.abs(v) <= SQUARE
  // Equilateral, its centre of mass at the origin and a tip at v = -2 h / 3.
  const height = Math.sqrt(3) * TRIANGLE
  const below = height / 3
  return v <= below && Math.abs(u) <= TRIANGLE * ((v + height - below) / height)
}
