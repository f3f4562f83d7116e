import { LosscapeError } from '../errors.js'
import type { Tensor } from '../program/tensor.js'
import { formatType, isFloat } from '../program/types.js'
import { type ImageLayout, type PerAxis, perAxis } from './convolution-shapes.js'
import { reshape } from './movement.js'

/** Per output position of one axis the input positions [begin, end) that it takes. */
export interface Windows {
  readonly begin: readonly number[]
  readonly end: readonly number[]
}

/** One axis of a pooling, as PyTorch defines it. */
export interface AxisPool {
  readonly kernel: number
  readonly stride: number
  readonly padding: number
  readonly dilation: number
  readonly ceil: boolean
}

/** A tensor with two spatial axes made from one with one or two, and the way back. */
export interface SpatialView {
  readonly x: Tensor
  readonly layout: ImageLayout
  /** 1 or 2. */
  readonly axes: number
  /** H and W; H is 1 for one axis. */
  readonly size: readonly [number, number]
  readonly restore: (y: Tensor) => Tensor
}

export function requireLayout(where: string, layout: unknown): ImageLayout {
  if (layout === 'nchw' || layout === 'nhwc') return layout
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `${where}: layout must be 'nchw' or 'nhwc', got ${String(layout)}.`,
  )
}

/** Axis of H in a tensor of rank 4. */
export const heightAxis = (layout: unknown): number => (layout === 'nhwc' ? 1 : 2)

/** Throws ERR_SHAPE for other ranks or empty spatial axes, ERR_DTYPE for integers. */
export function spatialView(where: string, x: Tensor, layout: ImageLayout): SpatialView {
  if (!isFloat(x.dtype)) {
    throw new LosscapeError(
      'ERR_DTYPE',
      `${where} expected floating-point numbers, got ${formatType(x)}.`,
    )
  }
  if (x.rank !== 3 && x.rank !== 4) {
    const forms = layout === 'nhwc' ? '[N, H, W, C] or [N, L, C]' : '[N, C, H, W] or [N, C, L]'
    throw new LosscapeError('ERR_SHAPE', `${where} expected ${forms}, got ${formatType(x)}.`)
  }
  const h = heightAxis(layout)
  const flat = x.rank === 3
  const full = flat ? reshape(x, x.shape.toSpliced(h, 0, 1)) : x
  const size = [full.shape[h], full.shape[h + 1]] as const
  if (size[0] < 1 || size[1] < 1) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `${where} got ${formatType(x)}: its spatial axes hold nothing.`,
    )
  }
  const restore = (y: Tensor): Tensor => (flat ? reshape(y, y.shape.toSpliced(h, 1)) : y)
  return { x: full, layout, axes: flat ? 1 : 2, size, restore }
}

/** A number for all axes or one per axis, for [H, W]; H of one spatial axis gets `neutral`. */
export function perSpatialAxis(
  where: string,
  name: string,
  value: PerAxis,
  { axes }: SpatialView,
  least: number,
  neutral: number,
): [number, number] {
  const list = perAxis(where, name, value, axes, least)
  return axes === 1 ? [neutral, list[0]] : [list[0], list[1]]
}

/** The tables of a resized axis are made when the operation is traced: of no more positions. */
const MOST_POSITIONS = 1 << 20

/** Positions that an option asks for along the axes of space. */
export function outputPositions(
  where: string,
  name: string,
  value: PerAxis,
  view: SpatialView,
): [number, number] {
  const list = perSpatialAxis(where, name, value, view, 1, 1)
  const large = list.find((positions) => positions > MOST_POSITIONS)
  if (large === undefined) return list
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `${where} expected ${name} to be at most ${MOST_POSITIONS} along an axis, got ${large}.`,
  )
}

/** Number of outputs along an axis; with `ceil` a last window must begin before the padding behind. */
function outputs(size: number, { kernel, stride, padding, dilation, ceil }: AxisPool): number {
  const room = (size + 2 * padding - dilation * (kernel - 1) - 1) / stride
  const count = (ceil ? Math.ceil(room) : Math.floor(room)) + 1
  return ceil && (count - 1) * stride >= size + padding ? count - 1 : count
}

/** Begin of every window in the padded axis, which may lie before 0. */
export function windowStarts(where: string, size: number, axis: AxisPool): number[] {
  const { kernel, stride, padding, dilation } = axis
  if (2 * padding > kernel) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${where}: padding ${padding} is more than half of the kernel ${kernel}.`,
    )
  }
  const reach = dilation * (kernel - 1) + 1
  if (reach > size + 2 * padding) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `${where}: a kernel that spans ${reach} does not fit into ${size} positions with padding ${padding} on both sides.`,
    )
  }
  return Array.from({ length: outputs(size, axis) }, (_, o) => o * stride - padding)
}

/** What lies inside the axis of each window, from its first tap inside. */
export function clippedWindows(where: string, size: number, axis: AxisPool): Windows {
  const starts = windowStarts(where, size, axis)
  const { kernel, dilation } = axis
  const begin = starts.map((s) => (s < 0 ? s + Math.ceil(-s / dilation) * dilation : s))
  const end = starts.map((s) => Math.min(size, s + dilation * (kernel - 1) + 1))
  const empty = begin.findIndex((b, i) => b >= end[i])
  if (empty >= 0) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `${where}: window ${empty} with kernel ${kernel}, dilation ${dilation} and padding ${axis.padding} holds none of ${size} positions.`,
    )
  }
  return { begin, end }
}

/** PyTorch's bins: [floor(o n / m), ceil((o + 1) n / m)) for m outputs of n positions. */
export function adaptiveWindows(size: number, output: number): Windows {
  const at = Array.from({ length: output }, (_, o) => o)
  return {
    begin: at.map((o) => Math.floor((o * size) / output)),
    end: at.map((o) => Math.ceil(((o + 1) * size) / output)),
  }
}

/** begin and end alternating, as operations carry windows. */
export const flatten = ({ begin, end }: Windows): number[] => begin.flatMap((b, i) => [b, end[i]])
