import { argumentError, requireArguments } from '../arguments.js'
import type { DataSet } from '../data/dataset.js'
import { planChunks, uploadBatches } from '../device/batches.js'
import { compileProgram } from '../device/compile.js'
import type { Device } from '../device/device.js'
import { LosscapeError } from '../errors.js'
import type { NativeExecutable, NativeView, OperatorSpec } from '../native.js'
import { requireMatch, resolveStatistics, statisticsBatch } from '../nn/batch.js'
import { ParameterLayout } from '../nn/layout.js'
import { defaultLoss, type LossSpec, resolveLoss } from '../nn/loss.js'
import type { Model, StatisticsMode } from '../nn/model.js'
import { parameterViews, uploadPoint } from '../nn/upload.js'
import { requireOptions } from '../options.js'
import type { Linearized } from '../program/linearize.js'
import { vmapProgram } from '../program/vmap.js'
import {
  type OperatorDescription,
  requireFrozen,
  type SampleSelection,
  selectSamples,
} from './description.js'
import { type DrawOptions, requireDraws, uploadNoise } from './draws.js'
import { meanGradient } from './mean-gradient.js'
import { DeviceOperator } from './native-operator.js'
import { oneOf, type Precision } from './operator.js'
import { curvatureProgram } from './programs.js'
import type { CurvatureKind, CurvatureSetting } from './setting.js'
import { compileLater } from './tangents.js'

export interface CurvatureOptions {
  /** Default 'cross-entropy' for labels, 'mse' for values. */
  readonly loss?: LossSpec
  /** Samples per chunk; the product is exact for any. Default 1024, at most the data set. */
  readonly batch?: number
  /** Default 'f32'. */
  readonly precision?: Precision
  /** Only these samples: indices, or a range { from, to }. N is their number. Default all. */
  readonly samples?: SampleSelection
  /**
   * Statistics of normalisation, to be chosen for models that couple samples: 'frozen' ones of the
   * state (the default of all others), or those of each `batch` of consecutive samples, over which
   * the loss is then the mean; `batch` defaults to all samples and must divide them. Neither ever
   * updates the state.
   */
  readonly statistics?: StatisticsMode
  /** State σ of the model, logical: `run.state`. Default `model.initState()`. */
  readonly state?: ArrayLike<number>
  /** The block of these parameters: a pattern (`layers.0.*,!*.bias`) or names. Default all. */
  readonly params?: string | readonly string[]
  /**
   * λ of a penalty (λ/2) ||θ||² per sample, whose curvature λ I (N λ I for 'sum') is added; not to
   * the remainder and the gradient covariance. Default 0.
   */
  readonly weightDecay?: number
  /** 'mean' over the samples (default) or their 'sum'. */
  readonly reduction?: 'mean' | 'sum'
  /** Bytes that may be kept per data set to skip the primal pass. Default 2 GiB. */
  readonly keepBytes?: number
  /** Vectors that one pass over the data serves in `matmat`; compiled at first use. Default 16. */
  readonly tangents?: number
}

const DEFAULT_KEEP = 2 * 1024 ** 3

/** Made of the gradients of single samples. */
const PER_SAMPLE: ReadonlySet<CurvatureKind> = new Set([
  ...(['fisher-monte-carlo', 'empirical-fisher', 'gradient-covariance'] as const),
])

/**
 * The Hessian of the mean loss over a data set, H = (1/N) Σ ∇²_θ ℓ(f(θ, x_i), y_i), as an operator.
 * Parameters, state and samples are copied when it is made. Dropout is off. A product costs
 * 9 forward passes the first time and 6 while its linearisation is kept.
 *
 * @throws ERR_SHAPE, ERR_ARGUMENT, ERR_RANGE, ERR_NOT_FINITE, ERR_OUT_OF_MEMORY
 */
export function hessian(
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  set: DataSet,
  options: CurvatureOptions = {},
): DeviceOperator {
  return networkOperator('hessian', device, model, params, set, options)
}

/**
 * The Gauss-Newton matrix G = (1/N) Σ J_iᵀ Q_i J_i (J the outputs' Jacobian, Q the loss's Hessian
 * in the outputs): positive semi-definite for convex losses, H without the network's curvature.
 */
export function gaussNewton(
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  set: DataSet,
  options: CurvatureOptions = {},
): DeviceOperator {
  return networkOperator('gauss-newton', device, model, params, set, options)
}

/** The remainder F = H - G = (1/N) Σ_i Σ_c r_{i,c} ∇²_θ z_{i,c}, computed directly. */
export function remainder(
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  set: DataSet,
  options: CurvatureOptions = {},
): DeviceOperator {
  return networkOperator('remainder', device, model, params, set, options)
}

/** Any of the operators by its kind. */
export function networkOperator(
  kind: CurvatureKind,
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  whole: DataSet,
  options: CurvatureOptions & DrawOptions,
): DeviceOperator {
  requireArguments(`${kind} operator`, { device, model, params, set: whole })
  const isDrawn = kind === 'fisher-monte-carlo'
  requireOptions(`${kind} operator`, options, [
    ...(['loss', 'batch', 'precision', 'params', 'samples', 'statistics', 'weightDecay'] as const),
    ...(['reduction', 'keepBytes', 'tangents', 'state'] as const),
    ...(isDrawn ? (['draws', 'seed'] as const) : []),
  ])
  if (options.state !== undefined) requireArguments(`${kind} operator`, { state: options.state })
  const statistics = resolveStatistics(model, options.statistics)
  if (PER_SAMPLE.has(kind)) requireFrozen(`The ${kind} operator`, model, statistics)
  const samples = selectSamples(whole, options.samples)
  const { set } = samples
  const loss = resolveLoss(options.loss ?? defaultLoss(set))
  requireMatch(model, loss, set)
  const precision = options.precision ?? 'f32'
  const reduction = oneOf('reduction', options.reduction ?? 'mean', ['mean', 'sum'])
  if (kind === 'gauss-newton' && loss.flat) {
    process.emitWarning(
      `The Gauss-Newton matrix of loss '${loss.name}' is zero: the loss is piecewise linear.`,
      'LosscapeWarning',
    )
  }
  const block = selectBlock(model, options.params)
  const tangents = options.tangents ?? 16
  requireArguments(`${kind} operator`, { tangents })
  const resultBytes = block.layout.storage * tangents * (precision === 'f64' ? 8 : 4)
  const plan =
    statistics === 'batch'
      ? { rows: statisticsBatch(model, set, options.batch), sideBySide: false }
      : planChunks(options.batch ?? 1024, set.size, device.threads, resultBytes)
  const batch = plan.rows
  const chunks = Math.ceil(set.size / batch)
  const weightDecay = decayOf(options)
  const isShifted = kind !== 'remainder' && kind !== 'gradient-covariance'
  const shift = isShifted ? (weightDecay * set.size) / chunks : 0
  const draws = requireDraws(options.draws ?? 1)
  const { selected } = block
  const setting: CurvatureSetting = {
    ...{ model, loss, set, batch, selected, statistics, shift, draws },
  }
  const description: OperatorDescription = {
    kind,
    model: model.name,
    loss: loss.name,
    params: block.layout.names,
    samples: samples.description,
    reduction,
    weightDecay,
    statistics,
    precision,
    ...(isDrawn && { draws, seed: String(options.seed ?? 0) }),
  }

  const owned: { dispose(): void }[] = []
  try {
    const point = uploadPoint(device, model, params, options.state, precision)
    owned.push(point)
    const batches = uploadBatches(device, set, batch, precision)
    owned.push(batches)
    const split = curvatureProgram(kind, setting)
    const run = { precision, sideBySide: plan.sideBySide }
    let inputs = batches.chunks.map(({ x, y, w }) => [...point.views, x, y, w])
    if (isDrawn) {
      const { buffer, rowBytes } = uploadNoise(
        device,
        setting,
        samples.indexOf,
        options.seed ?? 0,
        precision,
      )
      owned.push(buffer)
      inputs = inputs.map((views, i) => [...views, { buffer, offset: i * batch * rowBytes }])
    }
    if (kind === 'gradient-covariance') {
      const mean = meanGradient(device, setting, block.layout, inputs, run)
      owned.push(mean)
      const bytes = precision === 'f64' ? 8 : 4
      const views = parameterViews(block.layout, mean, bytes)
      inputs = inputs.map((own) => [...own, ...views])
    }
    const spec = operatorSpec(device, split, block.layout, inputs, {
      ...run,
      scale: reduction === 'sum' ? 1 : 1 / set.size,
      keepBytes: options.keepBytes ?? DEFAULT_KEEP,
    })
    const native = device.binding.createOperator(spec)
    compileLater(native, tangents, (count) => {
      native.addLinear(count, compileLinear(device, split, count, precision, plan.sideBySide))
    })
    const release = (): void => {
      for (const item of owned) item.dispose()
    }
    return new DeviceOperator(device, native, block.layout, precision, release, description)
  } catch (error) {
    for (const item of owned) item.dispose()
    throw error
  }
}

function decayOf({ weightDecay = 0 }: CurvatureOptions): number {
  if (!(Number.isFinite(weightDecay) && weightDecay >= 0)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `weightDecay must be a non-negative number, got ${weightDecay}.`,
    )
  }
  return weightDecay
}

/**
 * The block of a selection of parameters; `selected` goes over θ.., σ...
 * @throws ERR_ARGUMENT
 */
export function selectBlock(
  model: Model,
  params: string | readonly string[] | undefined,
): { selected: boolean[]; layout: ParameterLayout } {
  const { layout } = model
  const fixed = model.stateLayout.names.map(() => false)
  if (params === undefined) return { selected: [...layout.names.map(() => true), ...fixed], layout }
  if (typeof params !== 'string' && !Array.isArray(params)) {
    throw argumentError('The operator', 'params', 'a pattern or a list of names', params)
  }
  const names = typeof params === 'string' ? layout.match(params) : params
  if (names.length === 0) {
    throw new LosscapeError('ERR_ARGUMENT', 'params names no parameter: the block would be empty.')
  }
  for (const name of names) layout.entry(name)
  const chosen = layout.names.map((name) => names.includes(name))
  const block = new ParameterLayout(layout.entries.filter((_, i) => chosen[i]))
  return { selected: [...chosen, ...fixed], layout: block }
}

interface SpecOptions {
  readonly precision: Precision
  readonly scale: number
  readonly keepBytes: number
  readonly sideBySide: boolean
}

function operatorSpec(
  device: Device,
  split: Linearized,
  layout: ParameterLayout,
  chunks: NativeView[][],
  options: SpecOptions,
): OperatorSpec {
  const { precision, sideBySide } = options
  const compileOptions = sideBySide ? { threads: 1 } : {}
  const tangentOffsets = layout.entries.map((entry) => entry.storageOffset)
  return {
    dtype: precision,
    storage: layout.storage,
    segments: layout.segments(),
    scale: options.scale,
    primal:
      split.kept.length > 0
        ? compileProgram(device, split.primal, precision, compileOptions)
        : undefined,
    primalInputs: chunks,
    linear: [
      { tangents: 1, executable: compileProgram(device, split.linear, precision, compileOptions) },
    ],
    linearInputs: split.inputs.map(({ kind, index }) => {
      if (kind === 'kept') return { kind, index }
      if (kind === 'input') return { kind: 'chunk', index }
      return { kind, index: tangentOffsets[index] }
    }),
    chunkInputs: chunks,
    linearOutputs: tangentOffsets,
    keepBytes: options.keepBytes,
    sideBySide,
  }
}

/** One pass for several vectors. */
function compileLinear(
  device: Device,
  split: Linearized,
  tangents: number,
  precision: Precision,
  sideBySide: boolean,
): NativeExecutable {
  const options = sideBySide ? { threads: 1 } : {}
  const batched = split.inputs.map(({ kind }) => kind === 'tangent')
  return compileProgram(device, vmapProgram(split.linear, batched, tangents), precision, options)
}
