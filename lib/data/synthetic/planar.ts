import { newArray } from '../../allocation.js'
import { requireOptions } from '../../options.js'
import { unitCircle } from '../../random/elementary.js'
import { fillSlices, uniforms } from '../../random/index.js'
import { atOnce, type Slices } from '../../slices.js'
import type { DataSet } from '../dataset.js'
import { amountOption, integerOption, SYNTHETIC, type SyntheticOptions } from './options.js'
import { makePoints, splitSize, splitStream } from './points.js'

/** Options of {@link circles} and {@link moons}. */
export interface PlanarOptions extends SyntheticOptions {
  /** Deviation of the noise on both coordinates. Default 0.1. */
  noise?: number
}

/** Options of {@link circles}. */
export interface CircleOptions extends PlanarOptions {
  /** Radius of the inner circle, in (0, 1). Default 0.5. */
  factor?: number
}

/** Options of {@link spirals}. */
export interface SpiralOptions extends PlanarOptions {
  /** Number of arms, one class each. Default 2. */
  classes?: number
  /** How often an arm goes round. Default 1.5. */
  turns?: number
}

/** Two concentric circles in the plane: radius 1 is class 0, `factor` class 1. Default n 1000. */
export function circles(options: CircleOptions = {}): DataSet {
  return atOnce(circleSlices(options))
}

/** {@link circles} in slices. */
export function circleSlices(options: CircleOptions = {}): Slices<DataSet> {
  requireOptions('circles()', options, [...SYNTHETIC, 'noise', 'factor'])
  const factor = amountOption('factor', options.factor ?? 0.5)
  return planar('circles', 2, options, 0.1, (label, u, out) => {
    const radius = label === 0 ? 1 : factor
    const [c, s] = unitCircle(u)
    out[0] = radius * c
    out[1] = radius * s
  })
}

/**
 * Two interleaved half circles: class 0 the upper one around (0, 0), class 1 the lower one around
 * (1, 0.5), radius 1. Default n 1000.
 */
export function moons(options: PlanarOptions = {}): DataSet {
  return atOnce(moonSlices(options))
}

/** {@link moons} in slices. */
export function moonSlices(options: PlanarOptions = {}): Slices<DataSet> {
  requireOptions('moons()', options, [...SYNTHETIC, 'noise'])
  return planar('moons', 2, options, 0.1, (label, u, out) => {
    const [c, s] = unitCircle(u / 2)
    out[0] = label === 0 ? c : 1 - c
    out[1] = label === 0 ? s : 0.5 - s
  })
}

/** Archimedean spirals from the origin to radius 1, one arm a class. Default n 1000, noise 0.02. */
export function spirals(options: SpiralOptions = {}): DataSet {
  return atOnce(spiralSlices(options))
}

/** {@link spirals} in slices. */
export function spiralSlices(options: SpiralOptions = {}): Slices<DataSet> {
  requireOptions('spirals()', options, [...SYNTHETIC, 'noise', 'classes', 'turns'])
  const classes = integerOption('classes', options.classes ?? 2)
  const turns = amountOption('turns', options.turns ?? 1.5)
  return planar('spirals', classes, options, 0.02, (label, u, out) => {
    // The square root spreads the points evenly along the arm.
    const radius = Math.sqrt(u)
    const [c, s] = unitCircle(label / classes + turns * radius)
    out[0] = radius * c
    out[1] = radius * s
  })
}

function* planar(
  name: string,
  classes: number,
  options: PlanarOptions,
  defaultNoise: number,
  place: (label: number, u: number, out: Float64Array) => void,
): Slices<DataSet> {
  const { seed = 0, split = 'train' } = options
  const noise = amountOption('noise', options.noise ?? defaultNoise)
  const u = newArray(Float64Array, splitSize(options, 1000), name)
  yield* fillSlices(uniforms, seed, splitStream(split, 1), u)
  return yield* makePoints(
    {
      name,
      classes,
      dim: 2,
      noise,
      defaultSize: 1000,
      place: (label, sample, out) => place(label, u[sample], out),
    },
    seed,
    options,
  )
}
