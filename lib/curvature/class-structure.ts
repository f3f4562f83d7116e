import { requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import type { DataSet } from '../data/dataset.js'
import type { Device } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import type { NativeBinding } from '../native.js'
import { requireMatch } from '../nn/batch.js'
import { type LossSpec, resolveLoss } from '../nn/loss.js'
import type { Model, StatisticsMode } from '../nn/model.js'
import { requireOptions } from '../options.js'
import { type ClassMeans, classGrams, trace } from './class-gram.js'
import { byClass, sumClasses } from './class-means.js'
import { requireFrozen, type SampleSelection, selectSamples } from './description.js'
import { gaussNewtonDiagonal } from './gauss-newton-diagonal.js'
import { selectBlock } from './network.js'
import { oneOf, type Precision } from './operator.js'
import { requireLikelihood } from './scores.js'

export interface ClassStructureOptions {
  /** Default 'cross-entropy'. */
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
  /** Bytes for the C² class means and their dot products. Default 2 GiB. */
  readonly memoryLimit?: number
  readonly signal?: AbortSignal
  /** Backward passes of single samples done, of 2 N C. */
  readonly onProgress?: (done: number, total: number) => void
}

/** A mean D_{c,c'} in the plane of the two strongest directions of all of them. */
export interface ClassPoint {
  /** c, the label of the samples. */
  readonly label: number
  /** c', the output; D_{c,c} belongs to G₀, the others cluster by c. */
  readonly other: number
  readonly x: number
  readonly y: number
}

export interface ClassStructure {
  /** C */
  readonly classes: number
  /** N_c per class. */
  readonly counts: Int32Array
  /** n, parameters of the block. */
  readonly size: number
  /** Descending; all other eigenvalues of the terms are zero. */
  readonly eigenvalues: {
    /** At most C. */
    readonly g0: Float64Array
    /** At most C: the outliers. */
    readonly g1: Float64Array
    /** At most C (C - 2) beside rounding. */
    readonly g2: Float64Array
    /** Of G₀ + G₁ + G₂. */
    readonly sum: Float64Array
  }
  readonly traces: {
    readonly g: number
    readonly g0: number
    readonly g1: number
    readonly g2: number
    /** What the others leave of tr G. */
    readonly g3: number
  }
  /** Dot products of the D_{c,c'}, [P C, P C] in the order of `points`, P classes occurring. */
  readonly gram: Float64Array
  readonly points: readonly ClassPoint[]
  /** Share of Σ ||D_{c,c'}||² that lies in the plane of the points. */
  readonly explained: number
}

const WHAT = 'classStructure()'
const DEFAULT_LIMIT = 2 * 1024 ** 3
/** Matrices of dot products alive together: of the means, of two terms, eigenvectors, scratch. */
const GRAM_COPIES = 6

/**
 * The decomposition G = G₀ + G₁ + G₂ + G₃ of the Gauss-Newton matrix of softmax cross-entropy by
 * classes. With d_{i,c'} = √p_{i,c'} J_iᵀ (e_{c'} - p_i), D_{c,c'} its mean over the samples of
 * class c, D_c the mean of D_{c,c'} over c' ≠ c, and weights π_c = N_c / N (1/C for balanced
 * classes, the paper's case):
 *
 *   G₀ = Σ π_c D_{c,c} D_{c,c}ᵀ                       G₁ = (C - 1) Σ π_c D_c D_cᵀ
 *   G₂ = Σ π_c Σ_{c'≠c} (D_{c,c'} - D_c)(..)ᵀ          G₃ = Σ π_c Σ_{c'} Cov_i(d_{i,c'} | c)
 *
 * exactly. G₁ holds the outliers, G₂ the second tier, G₃ the bulk. The D_{c,c'} are summed on the
 * device, class by class; only their dot products leave it. Cost: 2 C backward passes over the data
 * (half of them for tr G), memory for C² vectors, O(C⁶) for eigenvalues.
 *
 * V. Papyan, arXiv 1901.08244, section 5; unbalanced classes are our extension.
 *
 * @example
 * const { eigenvalues, points } = await classStructure(device, model, params, set)
 *
 * @throws ERR_ARGUMENT for a loss that is not a softmax cross-entropy, or fewer than two outputs;
 * ERR_OUT_OF_MEMORY when the means need more than `memoryLimit`; as `gaussNewton` does otherwise
 */
export async function classStructure(
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  set: DataSet,
  options: ClassStructureOptions = {},
): Promise<ClassStructure> {
  requireArguments(WHAT, { device, model, params, set })
  requireOptions(WHAT, options, [
    ...(['loss', 'batch', 'precision', 'params', 'samples', 'memoryLimit'] as const),
    ...(['signal', 'onProgress', 'state', 'statistics'] as const),
  ])
  if (options.state !== undefined) requireArguments(WHAT, { state: options.state })
  requireFrozen(WHAT, model, options.statistics)
  return withProgress(options, (guarded) => measure(device, model, params, set, guarded))
}

async function measure(
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  set: DataSet,
  options: ClassStructureOptions,
): Promise<ClassStructure> {
  const { set: part } = selectSamples(set, options.samples)
  const loss = resolveLoss(options.loss ?? 'cross-entropy')
  requireMatch(model, loss, part)
  const classes = model.output.length === 1 ? model.output[0] : 0
  if (requireLikelihood(loss, WHAT).family !== 'categorical' || classes < 2) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${WHAT} needs a softmax cross-entropy over at least two outputs [C], got loss '${loss.name}' and outputs [${model.output}].`,
    )
  }
  const precision = oneOf('precision', options.precision ?? 'f32', ['f32', 'f64'])
  const block = selectBlock(model, options.params)
  const members = byClass(part, classes)
  const labels = members.flatMap((samples, c) => (samples.length > 0 ? [c] : []))
  const weights = labels.map((c) => members[c].length / part.size)
  const bytes = precision === 'f64' ? 8 : 4
  const rowBytes = block.layout.storage * bytes
  const rows = labels.length * classes
  requireMemory(rows, rowBytes, options.memoryLimit ?? DEFAULT_LIMIT)
  const { signal, onProgress } = options
  throwIfAborted(signal)
  const total = 2 * part.size * classes

  const means = device.binding.createBuffer(Math.max(1, rows) * rowBytes)
  try {
    let done = 0
    await sumClasses({
      ...{ device, model, params, set: part, loss, precision, block, labels, members, classes },
      ...{ means, rowBytes, batch: options.batch ?? 1024, signal, state: options.state },
      advance: (samples) => {
        done += samples
        onProgress?.(done, total)
      },
    })
    const view = { buffer: means, offset: 0 }
    const { storage } = block.layout
    const gram = await withSignal(device.binding, signal, (token) =>
      device.binding.gram(view, rows, view, rows, storage, precision, { token }),
    )
    means.dispose()
    const { loss: spec = 'cross-entropy', batch, params: names, state, statistics } = options
    const diagonal = await gaussNewtonDiagonal(device, model, params, part, {
      ...{ loss: spec, batch, precision, params: names, signal, state, statistics },
      onProgress: (passes) => onProgress?.(done + passes * part.size, total),
    })
    const trG = diagonal.reduce((s, x) => s + x, 0)
    const found = { classes, labels, weights, gram }
    return {
      classes,
      counts: Int32Array.from(members, (samples) => samples.length),
      size: block.layout.size,
      ...(await spectra(device.binding, found, trG, signal)),
      gram,
      ...(await embed(device.binding, found, signal)),
    }
  } finally {
    means.dispose()
  }
}

function requireMemory(rows: number, rowBytes: number, limit: number): void {
  if (!(limit > 0)) {
    throw new LosscapeError('ERR_ARGUMENT', `memoryLimit must be a number of bytes, got ${limit}.`)
  }
  const needed = rows * rowBytes + GRAM_COPIES * 8 * rows ** 2
  if (needed <= limit) return
  throw new LosscapeError(
    'ERR_OUT_OF_MEMORY',
    `${WHAT} needs ${bytes(needed)} for ${rows} class means of ${bytes(rowBytes)} and their dot products; memoryLimit is ${bytes(limit)}. Raise it, or choose a block with \`params\`.`,
  )
}

function bytes(count: number): string {
  return count < 2 ** 20 ? `${count} bytes` : `${Math.ceil(count / 2 ** 20)} MiB`
}

async function spectra(
  binding: NativeBinding,
  found: ClassMeans,
  trG: number,
  signal: AbortSignal | undefined,
): Promise<Pick<ClassStructure, 'eigenvalues' | 'traces'>> {
  const grams = classGrams(found)
  const values = async (matrix: Float64Array): Promise<Float64Array> => {
    const n = Math.round(Math.sqrt(matrix.length))
    const eigen = await withSignal(binding, signal, (token) =>
      binding.symmetricEigen(matrix, n, false, { token }),
    )
    // A matrix of dot products has no negative eigenvalue but by rounding.
    return eigen.values.reverse().map((x) => Math.max(0, x))
  }
  const [g0, g1, g2] = [trace(grams.g0), trace(grams.g1), trace(grams.g2)]
  return {
    eigenvalues: {
      g0: await values(grams.g0),
      g1: await values(grams.g1),
      g2: await values(grams.g2),
      sum: await values(grams.sum),
    },
    traces: { g: trG, g0, g1, g2, g3: trG - g0 - g1 - g2 },
  }
}

/** Coordinates √λ u of the two strongest eigenvectors: the best picture of the means in a plane. */
async function embed(
  binding: NativeBinding,
  { classes, labels, gram }: ClassMeans,
  signal: AbortSignal | undefined,
): Promise<Pick<ClassStructure, 'points' | 'explained'>> {
  const n = labels.length * classes
  const { values, vectors = new Float64Array(n * n) } = await withSignal(binding, signal, (token) =>
    binding.symmetricEigen(gram.slice(), n, true, { token }),
  )
  const axis = (k: number): Float64Array => {
    const u = vectors.subarray((n - 1 - k) * n, (n - k) * n)
    const peak = u.reduce((m, x) => (Math.abs(x) > Math.abs(m) ? x : m), 0)
    const scale = Math.sign(peak) * Math.sqrt(Math.max(0, values[n - 1 - k]))
    return u.map((x) => scale * x)
  }
  const [x, y] = [axis(0), axis(1)]
  const all = trace(gram)
  return {
    points: labels.flatMap((label, p) =>
      Array.from({ length: classes }, (_, other) => {
        const i = p * classes + other
        return { label, other, x: x[i], y: y[i] }
      }),
    ),
    explained: all === 0 ? 0 : (values[n - 1] + values[n - 2]) / all,
  }
}
