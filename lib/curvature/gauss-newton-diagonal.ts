import { requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import type { DataSet } from '../data/dataset.js'
import { planChunks, uploadBatches } from '../device/batches.js'
import type { Device } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import { requireMatch } from '../nn/batch.js'
import { defaultLoss, type LossSpec, resolveLoss } from '../nn/loss.js'
import type { Model, StatisticsMode } from '../nn/model.js'
import { uploadPoint } from '../nn/upload.js'
import { requireOptions } from '../options.js'
import { elements } from '../program/shape.js'
import { dataSum } from './data-sum.js'
import { requireFrozen, type SampleSelection, selectSamples } from './description.js'
import { selectBlock } from './network.js'
import { allocate, oneOf, type Precision } from './operator.js'
import { rootSquaresProgram } from './root-programs.js'
import { rootCount } from './roots.js'
import { requireLikelihood } from './scores.js'
import type { CurvatureSetting } from './setting.js'

export interface GaussNewtonDiagonalOptions {
  /** Default 'cross-entropy' for labels, 'mse' for values. */
  readonly loss?: LossSpec
  /** Samples per chunk. Default 1024. */
  readonly batch?: number
  /** Default 'f32'. */
  readonly precision?: Precision
  /** The block of these parameters. Default all. */
  readonly params?: string | readonly string[]
  /** Only these samples. Default all. */
  readonly samples?: SampleSelection
  /** State σ of the model, logical: `run.state`. Default `model.initState()`. */
  readonly state?: ArrayLike<number>
  /** 'frozen', to be said for models that couple samples. */
  readonly statistics?: StatisticsMode
  readonly signal?: AbortSignal
  /** Passes over the data done, of C. */
  readonly onProgress?: (done: number, total: number) => void
}

/** Elements that the gradients of all samples of a chunk may take. */
const EXPANDED_LIMIT = 2 ** 26
const KEEP = 2 * 1024 ** 3

/**
 * The exact diagonal of the Gauss-Newton matrix, (1/N) Σ_i Σ_c (J_iᵀ q_{i,c})² element by element
 * with Q_i = Σ_c q_{i,c} q_{i,c}ᵀ: for C outputs C backward passes, in which squares of cotangents
 * meet squares of activations. Its sum is the exact trace. Dangel et al., arXiv 1912.10985
 * (DiagGGNExact); there the gradients of the samples are not materialised either.
 *
 * @returns n numbers in the model's parameter order
 * @throws ERR_ARGUMENT for a loss without a likelihood (hinge), and as `gaussNewton` does
 */
export async function gaussNewtonDiagonal(
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  set: DataSet,
  options: GaussNewtonDiagonalOptions = {},
): Promise<Float64Array> {
  requireArguments('gaussNewtonDiagonal()', { device, model, params, set })
  requireOptions('gaussNewtonDiagonal()', options, [
    ...(['loss', 'batch', 'precision', 'params', 'samples', 'signal', 'onProgress'] as const),
    ...(['state', 'statistics'] as const),
  ])
  if (options.state !== undefined) {
    requireArguments('gaussNewtonDiagonal()', { state: options.state })
  }
  return withProgress(options, (guarded) => allPasses(device, model, params, set, guarded))
}

async function allPasses(
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  set: DataSet,
  options: GaussNewtonDiagonalOptions,
): Promise<Float64Array> {
  const { set: part } = selectSamples(set, options.samples)
  const loss = resolveLoss(options.loss ?? defaultLoss(part))
  requireMatch(model, loss, part)
  const precision = oneOf('precision', options.precision ?? 'f32', ['f32', 'f64'])
  const { selected, layout } = selectBlock(model, options.params)
  const likelihood = requireLikelihood(loss, 'gaussNewtonDiagonal()')
  const passes = rootCount(likelihood, elements(model.output))
  const bytes = precision === 'f64' ? 8 : 4
  const what = 'gaussNewtonDiagonal()'
  requireFrozen(what, model, options.statistics)

  let plan = planChunks(options.batch ?? 1024, part.size, device.threads, layout.storage * bytes)
  const settingOf = (batch: number): CurvatureSetting => {
    return { model, loss, set: part, batch, selected }
  }
  let squares = rootSquaresProgram(settingOf(plan.rows), what)
  const most = Math.max(1, Math.floor(EXPANDED_LIMIT / layout.storage))
  if (squares.expanded && plan.rows > most) {
    plan = { rows: most, sideBySide: false }
    squares = rootSquaresProgram(settingOf(most), what)
  }

  const owned: { dispose(): void }[] = []
  const keep = <T extends { dispose(): void }>(item: T): T => {
    owned.push(item)
    return item
  }
  try {
    const point = keep(uploadPoint(device, model, params, options.state, precision))
    const { chunks } = keep(uploadBatches(device, part, plan.rows, precision))
    const selector = keep(device.binding.createBuffer(4))
    const stored = allocate(precision, layout.storage)
    const output = keep(device.binding.createBuffer(stored.byteLength))
    const inputs = chunks.map(({ x, y, w }) => [...point.views, x, y, w])
    const native = keep(
      dataSum(device, squares.program, layout, inputs, {
        precision,
        sideBySide: plan.sideBySide,
        scale: 1 / part.size,
        selector: { buffer: selector, offset: 0 },
        keepBytes: KEEP,
      }),
    )
    const diagonal = new Float64Array(layout.size)
    const pass = allocate(precision, layout.size)
    for (let c = 0; c < passes; c++) {
      await withSignal(device.binding, options.signal, (token) =>
        Promise.all([
          selector.write(0, Int32Array.of(c), { token }),
          native.apply(point.views[0], { buffer: output, offset: 0 }, 1, { token }),
          output.read(0, stored, { token }),
        ]),
      )
      layout.fromStorage(stored, pass)
      for (let i = 0; i < diagonal.length; i++) diagonal[i] += pass[i]
      options.onProgress?.(c + 1, passes)
    }
    return diagonal
  } finally {
    for (const item of owned) item.dispose()
  }
}
