import { requireOptions } from '../options.js'
import type { Tensor } from '../program/tensor.js'
import type { ImageLayout, PerAxis } from './convolution-shapes.js'
import { maximumOver } from './max_pool.js'
import {
  type AxisPool,
  adaptiveWindows,
  clippedWindows,
  heightAxis,
  outputPositions,
  perSpatialAxis,
  requireLayout,
  type SpatialView,
  spatialView,
  type Windows,
  windowStarts,
} from './pooling-windows.js'
import { mean } from './reduce.js'
import { type Band, band, resample } from './resample.js'

export interface PoolOptions {
  /** Size of the window. */
  kernel: PerAxis
  /** Distance of windows. Default: the kernel. */
  stride?: PerAxis
  /** On both sides of an axis, at most half of the kernel. Default 0. */
  padding?: PerAxis
  /** Also windows that reach beyond the end, if they begin before it. Default false. */
  ceil?: boolean
  /** Default 'nchw'. */
  layout?: ImageLayout
}

export interface MaxPoolOptions extends PoolOptions {
  /** Distance of the elements of a window. Default 1. */
  dilation?: PerAxis
}

export interface AveragePoolOptions extends PoolOptions {
  /** Whether the zeros of the padding count in the mean. Default true, as in PyTorch. */
  includePadding?: boolean
}

export interface AdaptivePoolOptions {
  /** Size of the result. */
  output: PerAxis
  /** Default 'nchw'. */
  layout?: ImageLayout
}

function axesOf(where: string, view: SpatialView, options: MaxPoolOptions): [AxisPool, AxisPool] {
  const { kernel, stride = kernel, padding = 0, dilation = 1, ceil = false } = options
  const each = (name: string, value: PerAxis, least: number, neutral = 1) =>
    perSpatialAxis(where, name, value, view, least, neutral)
  const kernels = each('kernel', kernel, 1)
  const strides = each('stride', stride, 1)
  const paddings = each('padding', padding, 0, 0)
  const dilations = each('dilation', dilation, 1)
  const axis = (i: 0 | 1): AxisPool => ({
    kernel: kernels[i],
    stride: strides[i],
    padding: paddings[i],
    dilation: dilations[i],
    ceil,
  })
  return [axis(0), axis(1)]
}

const POOL = ['kernel', 'stride', 'padding', 'ceil', 'layout'] as const

/**
 * The largest element of each window. Of equal elements the first in row order is chosen; NaN wins.
 * The derivative goes to the chosen element; it is linear, so derivatives of any order exist.
 *
 * @param x [N, C, H, W] or [N, C, L]; [N, H, W, C] or [N, L, C] with layout 'nhwc'
 * @returns the same layout, per axis floor((n + 2 p - d (k - 1) - 1) / s) + 1 positions (ceil)
 * @throws ERR_ARGUMENT (padding above half of the kernel, stride 0, unknown options), ERR_SHAPE (a
 *   kernel larger than the padded input, another rank, an empty axis), ERR_DTYPE
 */
export function maxPool(x: Tensor, options: MaxPoolOptions): Tensor {
  const where = 'maxPool()'
  requireOptions(where, options, [...POOL, 'dilation'])
  const view = spatialView(where, x, requireLayout(where, options.layout ?? 'nchw'))
  const [rows, columns] = axesOf(where, view, options)
  const y = maximumOver(
    view.x,
    view.layout,
    clippedWindows(where, view.size[0], rows),
    clippedWindows(where, view.size[1], columns),
    [rows.dilation, columns.dilation],
  )
  return view.restore(y)
}

/** Rows of 1 / (elements that count) at what is inside of each window. */
function averageBand(where: string, size: number, axis: AxisPool, includePadding: boolean): Band {
  const { begin, end } = clippedWindows(where, size, axis)
  const starts = windowStarts(where, size, axis)
  return band(
    size,
    begin.map((b, o) => {
      const whole = Math.min(starts[o] + axis.kernel, size + axis.padding) - starts[o]
      const count = includePadding ? whole : end[o] - b
      return { begin: b, weights: new Array<number>(end[o] - b).fill(1 / count) }
    }),
  )
}

/**
 * The mean of each window. Linear in x. Shapes and errors as {@link maxPool}.
 */
export function averagePool(x: Tensor, options: AveragePoolOptions): Tensor {
  const where = 'averagePool()'
  requireOptions(where, options, [...POOL, 'includePadding'])
  const view = spatialView(where, x, requireLayout(where, options.layout ?? 'nchw'))
  const [rows, columns] = axesOf(where, view, options)
  const { includePadding = true } = options
  const y = resample(
    view.x,
    view.layout,
    averageBand(where, view.size[0], rows, includePadding),
    averageBand(where, view.size[1], columns, includePadding),
  )
  return view.restore(y)
}

function adaptive(where: string, x: Tensor, options: AdaptivePoolOptions) {
  requireOptions(where, options, ['output', 'layout'])
  const view = spatialView(where, x, requireLayout(where, options.layout ?? 'nchw'))
  const output = outputPositions(where, 'output', options.output, view)
  return { view, output }
}

const meanBand = (size: number, { begin, end }: Windows): Band =>
  band(
    size,
    begin.map((b, o) => ({
      begin: b,
      weights: new Array<number>(end[o] - b).fill(1 / (end[o] - b)),
    })),
  )

/**
 * Means over m bins per axis of n positions: bin o is [floor(o n / m), ceil((o + 1) n / m)). With
 * one bin a plain mean. Linear in x.
 * @throws ERR_ARGUMENT for an output size below 1; otherwise as {@link maxPool}
 */
export function adaptiveAveragePool(x: Tensor, options: AdaptivePoolOptions): Tensor {
  const { view, output } = adaptive('adaptiveAveragePool()', x, options)
  if (output[0] === 1 && output[1] === 1) {
    const h = heightAxis(view.layout)
    return view.restore(mean(view.x, [h, h + 1], true))
  }
  const [rows, columns] = view.size.map((n, i) => meanBand(n, adaptiveWindows(n, output[i])))
  return view.restore(resample(view.x, view.layout, rows, columns))
}

/** The maxima of the bins of {@link adaptiveAveragePool}; ties and derivatives as {@link maxPool}. */
export function adaptiveMaxPool(x: Tensor, options: AdaptivePoolOptions): Tensor {
  const { view, output } = adaptive('adaptiveMaxPool()', x, options)
  const [rows, columns] = view.size.map((n, i) => adaptiveWindows(n, output[i]))
  return view.restore(maximumOver(view.x, view.layout, rows, columns, [1, 1]))
}

/**
 * The mean over all positions: [N, C] from [N, C, H, W], [N, C, L] or the 'nhwc' forms.
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_ARGUMENT
 */
export function globalAveragePool(x: Tensor, options: { layout?: ImageLayout } = {}): Tensor {
  const where = 'globalAveragePool()'
  requireOptions(where, options, ['layout'])
  const view = spatialView(where, x, requireLayout(where, options.layout ?? 'nchw'))
  const h = heightAxis(view.layout)
  return mean(view.x, [h, h + 1])
}
