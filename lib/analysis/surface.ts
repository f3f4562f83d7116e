import { argumentError, describe, isVector, requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import type { DataSet } from '../data/dataset.js'
import type { Device } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import type { NativeBuffer, NativeView } from '../native.js'
import { resolveStatistics } from '../nn/batch.js'
import type { LossSpec } from '../nn/loss.js'
import type { Model, StatisticsMode } from '../nn/model.js'
import { parameterViews, uploadParameters, uploadState } from '../nn/upload.js'
import { requireOptions } from '../options.js'
import { Evaluator } from '../train/evaluate.js'
import type { PathPoint, PcaPlane } from './pca-plane.js'
import { type Roughness, surfaceRoughness } from './roughness.js'

/** A plane in parameter space; see {@link pcaPlane} for the one of a training. */
export type ParameterPlane = Pick<PcaPlane, 'directions'> & {
  readonly center: ArrayLike<number>
  /** Sets the extent of the grid when neither `x` nor `y` is given. */
  readonly path?: readonly PathPoint[]
}

export interface SurfaceOptions {
  /** Points along each axis, odd so that the centre is one of them. Default 25. */
  readonly grid?: number
  /**
   * Half width of the grid along each axis in units of the path's largest coordinate there.
   * Default 1.25: the whole path and a quarter around it.
   */
  readonly span?: number
  /** Half widths in units of parameters instead, for planes without a path. */
  readonly halfWidths?: readonly [x: number, y: number]
  /** Default 'cross-entropy' for labels, 'mse' for values. */
  readonly loss?: LossSpec
  /** Samples per chunk. Default 1024, at most the data set. */
  readonly batch?: number
  /** Default 'f32'. */
  readonly precision?: 'f32' | 'f64'
  /** State σ of the model, the same at every point. Default `model.initState()`. */
  readonly state?: ArrayLike<number>
  /**
   * Statistics of normalisation, to be chosen for models that couple samples: of the state, or of
   * each `batch`, which then must divide the samples.
   */
  readonly statistics?: StatisticsMode
  readonly signal?: AbortSignal
  /** After points: done, of all. */
  readonly onProgress?: (done: number, total: number) => void
}

export interface LossSurface {
  /** Coordinates along the first and the second direction, ascending; 0 is the middle one. */
  readonly x: Float64Array
  readonly y: Float64Array
  /** Mean loss [y, x], row-major; infinite or NaN where it is. */
  readonly loss: Float64Array
  /** Share of right answers [y, x]; null for regression. */
  readonly accuracy: Float64Array | null
  readonly roughness: Roughness
}

const OPTIONS = [
  ...(['grid', 'span', 'halfWidths', 'loss', 'batch', 'precision', 'signal'] as const),
  ...(['onProgress', 'state', 'statistics'] as const),
] as const

/**
 * Mean loss over a data set on a grid in a plane around θ: L(θ + x d_1 + y d_2). θ and both
 * directions lie on the device; each point is combined there and costs one pass over the set.
 *
 * Source: Li et al. 2018, arXiv 1712.09913; without their filter normalisation, whose purpose, to
 * compare networks along random directions, a plane of checkpoints does not have.
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE, ERR_NOT_FINITE for a centre that is not, ERR_ABORTED
 */
export async function lossSurface(
  device: Device,
  model: Model,
  plane: ParameterPlane,
  set: DataSet,
  options: SurfaceOptions = {},
): Promise<LossSurface> {
  requireArguments('lossSurface()', { device, model, set })
  requireOptions('lossSurface()', options, OPTIONS)
  if (options.state !== undefined) requireArguments('lossSurface()', { state: options.state })
  requirePlane(model, plane)
  const axes = axesOf(plane, options)
  return withProgress(options, (guarded) => evaluate(device, model, plane, set, axes, guarded))
}

function requirePlane(model: Model, plane: ParameterPlane): void {
  const { center, directions } = plane ?? {}
  if (!isVector(center) || !Array.isArray(directions) || directions.length !== 2) {
    throw argumentError('lossSurface()', 'plane', '{ center, directions: [d1, d2] }', plane)
  }
  for (const vector of [center, ...directions]) model.layout.requireLength(vector.length)
}

function axesOf(
  { path }: ParameterPlane,
  { grid = 25, span = 1.25, halfWidths }: SurfaceOptions,
): readonly [Float64Array, Float64Array] {
  if (!Number.isSafeInteger(grid) || grid < 3 || grid % 2 === 0 || grid > 1001) {
    throw argumentError('lossSurface()', 'grid', 'an odd number of points from 3 to 1001', grid)
  }
  if (typeof span !== 'number' || !(span > 0 && Number.isFinite(span))) {
    throw argumentError('lossSurface()', 'span', 'a positive number', span)
  }
  const widths = halfWidths ?? extent(path ?? [], span)
  if (!Array.isArray(widths) || widths.length !== 2 || !widths.every((w) => isWidth(w))) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      'lossSurface() needs the half widths of its grid as two positive numbers: pass halfWidths, ' +
        `or a plane with a path that leaves its centre; got ${describe(halfWidths)}.`,
    )
  }
  const half = (grid - 1) / 2
  const [x, y] = widths.map((w) =>
    Float64Array.from({ length: grid }, (_, i) => ((i - half) / half) * w),
  )
  return [x, y]
}

function isWidth(width: unknown): boolean {
  return typeof width === 'number' && width > 0 && Number.isFinite(width)
}

function extent(path: readonly PathPoint[], span: number): [number, number] {
  const most = (of: (point: PathPoint) => number): number =>
    path.reduce((largest, point) => Math.max(largest, Math.abs(of(point))), 0)
  return [span * most(({ x }) => x), span * most(({ y }) => y)]
}

async function evaluate(
  device: Device,
  model: Model,
  plane: ParameterPlane,
  set: DataSet,
  [x, y]: readonly [Float64Array, Float64Array],
  options: SurfaceOptions,
): Promise<LossSurface> {
  const { loss, batch, precision = 'f32', state, signal, onProgress } = options
  throwIfAborted(signal)
  const statistics = resolveStatistics(model, options.statistics)
  const total = x.length * y.length
  const losses = new Float64Array(total)
  const accuracy = new Float64Array(total)
  const point = new PlanePoint(device, model, plane, state, precision)
  try {
    const evaluator = new Evaluator(device, model, set, { loss, batch, precision, statistics })
    try {
      for (let at = 0; at < total; at++) {
        const [i, j] = [at % x.length, Math.floor(at / x.length)]
        await point.move(x[i], y[j], signal)
        const result = await evaluator.run(point.views, signal)
        losses[at] = result.loss
        accuracy[at] = result.accuracy ?? Number.NaN
        onProgress?.(at + 1, total)
      }
    } finally {
      evaluator.dispose()
    }
  } finally {
    point.dispose()
  }
  const labels = !accuracy.some(Number.isNaN)
  return {
    x,
    y,
    loss: losses,
    accuracy: labels ? accuracy : null,
    roughness: surfaceRoughness(losses, x.length),
  }
}

/** θ + x d_1 + y d_2 in device memory, and σ. */
class PlanePoint {
  readonly views: readonly NativeView[]
  private readonly owned: NativeBuffer[] = []
  private readonly base: NativeBuffer
  private readonly theta: NativeBuffer
  private readonly storage: number

  constructor(
    private readonly device: Device,
    model: Model,
    { center, directions }: ParameterPlane,
    state: ArrayLike<number> | undefined,
    private readonly precision: 'f32' | 'f64',
  ) {
    const { layout } = model
    const bytes = precision === 'f64' ? 8 : 4
    this.storage = layout.storage
    try {
      // Refuses a centre that is not finite, tensor by tensor.
      const uploaded = uploadParameters(device, layout, center, precision)
      this.theta = this.keep(uploaded.buffer)
      const sigma = uploadState(device, model, state, precision)
      if (sigma) this.keep(sigma.buffer)
      this.views = [...parameterViews(layout, this.theta, bytes), ...(sigma?.views ?? [])]
      const Real = precision === 'f64' ? Float64Array : Float32Array
      const rows = new Real(3 * layout.storage)
      for (const [k, vector] of [center, ...directions].entries()) {
        const row = rows.subarray(k * layout.storage, (k + 1) * layout.storage)
        layout.toStorage(vector, row)
      }
      this.base = this.keep(device.binding.createBuffer(rows.byteLength))
      // The queue keeps order: whatever runs later sees them.
      this.base.write(0, rows).catch(() => {})
    } catch (error) {
      this.dispose()
      throw error
    }
  }

  async move(x: number, y: number, signal?: AbortSignal): Promise<void> {
    const { binding } = this.device
    const from = { buffer: this.base, offset: 0 }
    const to = { buffer: this.theta, offset: 0 }
    await withSignal(binding, signal, (token) =>
      binding.combineVectors(
        Float64Array.of(1, x, y),
        from,
        3,
        to,
        1,
        this.storage,
        this.precision,
        false,
        { token },
      ),
    )
  }

  dispose(): void {
    for (const buffer of this.owned.splice(0)) buffer.dispose()
  }

  private keep(buffer: NativeBuffer): NativeBuffer {
    this.owned.push(buffer)
    return buffer
  }
}
