import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import { range } from '../program/shape.js'
import type { Tensor } from '../program/tensor.js'
import type { ImageLayout, PerAxis } from './convolution-shapes.js'
import { outputPositions, requireLayout, spatialView } from './pooling-windows.js'
import { type Band, band, resample } from './resample.js'

export interface ResizeOptions {
  /** Size of the result, for all spatial axes or per axis. */
  size: PerAxis
  /** Default 'bilinear' (linear for one spatial axis). */
  mode?: 'bilinear' | 'nearest'
  /** Whether the centres of the outermost elements stay in place; 'bilinear' only. Default false. */
  alignCorners?: boolean
  /** Default 'nchw'. */
  layout?: ImageLayout
}

function linearBand(from: number, to: number, alignCorners: boolean): Band {
  const ratio = alignCorners ? (to > 1 ? (from - 1) / (to - 1) : 0) : from / to
  return band(
    from,
    range(to).map((o) => {
      const source = alignCorners ? o * ratio : Math.max(0, (o + 0.5) * ratio - 0.5)
      const low = Math.min(Math.floor(source), from - 1)
      const share = low === from - 1 ? 0 : source - low
      return { begin: low, weights: [1 - share, share].slice(0, from - low) }
    }),
  )
}

const nearestBand = (from: number, to: number): Band =>
  band(
    from,
    range(to).map((o) => ({ begin: Math.floor((o * from) / to), weights: [1] })),
  )

/**
 * Resizes the spatial axes, by PyTorch's rules (`interpolate`): with n positions made m, 'nearest'
 * takes element floor(o n / m); 'bilinear' takes the two around (o + 1/2) n / m - 1/2, not below 0,
 * or around o (n - 1) / (m - 1) with `alignCorners`. No smoothing when shrinking. Linear in x.
 *
 * @param x [N, C, H, W] or [N, C, L]; [N, H, W, C] or [N, L, C] with layout 'nhwc'
 * @throws ERR_ARGUMENT (a size below 1, an unknown mode, alignCorners with 'nearest'), ERR_SHAPE,
 *   ERR_DTYPE
 */
export function resize(x: Tensor, options: ResizeOptions): Tensor {
  const where = 'resize()'
  requireOptions(where, options, ['size', 'mode', 'alignCorners', 'layout'])
  const { mode = 'bilinear', alignCorners = false } = options
  if (mode !== 'bilinear' && mode !== 'nearest') {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${where}: mode must be 'bilinear' or 'nearest', got ${String(mode)}.`,
    )
  }
  if (typeof alignCorners !== 'boolean' || (alignCorners && mode === 'nearest')) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${where}: alignCorners is true or false, and false for 'nearest'; got ${String(alignCorners)}.`,
    )
  }
  const view = spatialView(where, x, requireLayout(where, options.layout ?? 'nchw'))
  const to = outputPositions(where, 'size', options.size, view)
  const [rows, columns] = view.size.map((from, i) =>
    mode === 'nearest' ? nearestBand(from, to[i]) : linearBand(from, to[i], alignCorners),
  )
  return view.restore(resample(view.x, view.layout, rows, columns))
}
