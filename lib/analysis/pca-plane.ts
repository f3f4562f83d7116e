import { requireArguments } from '../arguments.js'
import { defaultBinding } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import { inSlices, type Slices } from '../slices.js'
import { requireVectorList, type VectorList } from './overlap.js'

/** The plane in which a training moves most. */
export interface PcaPlane {
  /** θ_T, the last vector: the origin of the plane. */
  readonly center: Float64Array
  /** Two orthonormal directions in parameter space. */
  readonly directions: readonly [Float64Array, Float64Array]
  /** Shares of the variance of all components, descending; they sum to 1. */
  readonly explained: Float64Array
  /** Coordinates of the orthogonal projections of θ_t - θ_T, in order; the last one is (0, 0). */
  readonly path: readonly PathPoint[]
}

export interface PathPoint {
  readonly x: number
  readonly y: number
}

export interface PcaOptions {
  readonly signal?: AbortSignal
}

/** Elements of every vector that the native side sees at once: 64 vectors take 64 MB. */
const CHUNK = 2 ** 17
/** Native rows are a whole number of these long. */
const STORAGE_UNIT = 64
/** Components of less variance than this share are rounding. */
const LEAST_SHARE = 1e-12

/**
 * Principal components of the checkpoints θ_0 .. θ_T of one training: the eigenvectors of the
 * Gram matrix of θ_t - θ_T, centred, in float64. The sign of a direction is such that the first
 * checkpoint has no negative coordinate. Costs T² n / 2 products and one pass to combine them.
 *
 * Source: Li et al. 2018, arXiv 1712.09913, section 7 (which leaves the last vector out of the mean).
 *
 * @throws ERR_ARGUMENT for fewer than 3 vectors or vectors that lie on a line, ERR_SHAPE,
 * ERR_NOT_FINITE, ERR_ABORTED
 *
 * @example
 * const plane = await pcaPlane(checkpoints)
 * const surface = await lossSurface(device, model, plane, test, { grid: 25 })
 */
export async function pcaPlane(
  checkpoints: VectorList,
  options: PcaOptions = {},
): Promise<PcaPlane> {
  requireOptions('pcaPlane()', options, ['signal'])
  requireVectorList('pcaPlane()', 'checkpoints', checkpoints)
  const count = checkpoints.length
  if (count < 3) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `pcaPlane() needs at least 3 parameter vectors to span a plane, got ${count}.`,
    )
  }
  const n = checkpoints[0].length
  for (const params of checkpoints) {
    requireArguments('pcaPlane()', { params })
    if (params.length !== n) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `pcaPlane() expected vectors of ${n} numbers as the first one, got ${params.length}.`,
      )
    }
  }
  const { signal } = options
  const gram = await differenceGram(checkpoints, signal)
  const centred = centre(gram, count)
  const binding = defaultBinding()
  const { values, vectors } = await withSignal(binding, signal, (token) =>
    binding.symmetricEigen(centred, count, true, { token }),
  )
  const total = values.reduce((sum, x) => sum + Math.max(0, x), 0)
  const explained = values.map((x) => Math.max(0, x) / total).reverse()
  if (!(explained[1] > LEAST_SHARE)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `The ${count} parameter vectors lie on a line or are all alike: they span no plane.`,
    )
  }
  const center = Float64Array.from(checkpoints[count - 1])
  const rows = [1, 2].map((k) => {
    const row = (vectors as Float64Array).slice((count - k) * count, (count - k + 1) * count)
    return row.map((c) => c / Math.sqrt(values[count - k]))
  })
  // Σ_t c_t (d_t - mean) = Σ_t (c_t - mean of c) d_t, and the eigenvectors sum to zero already.
  const path = checkpoints.map((_, t) => {
    const [x, y] = rows.map((row) => row.reduce((sum, c, s) => sum + c * gram[s * count + t], 0))
    return { x, y }
  })
  const signs = [path[0].x < 0 ? -1 : 1, path[0].y < 0 ? -1 : 1]
  const [first, second] = await inSlices(
    combine(
      checkpoints,
      rows.map((row, k) => row.map((c) => signs[k] * c)),
    ),
    signal,
  )
  return {
    center,
    directions: [first, second],
    explained,
    path: path.map(({ x, y }) => ({ x: signs[0] * x + 0, y: signs[1] * y + 0 })),
  }
}

/** [T + 1, T + 1] products of θ_t - θ_T, chunk by chunk, so that no second copy of all is made. */
async function differenceGram(list: VectorList, signal?: AbortSignal): Promise<Float64Array> {
  const count = list.length
  const last = list[count - 1]
  const n = last.length
  const binding = defaultBinding()
  const storage = Math.ceil(Math.min(CHUNK, n) / STORAGE_UNIT) * STORAGE_UNIT
  const rows = new Float64Array(count * storage)
  const buffer = binding.createBuffer(rows.byteLength)
  const gram = new Float64Array(count * count)
  try {
    for (let from = 0; from < n; from += storage) {
      const length = Math.min(storage, n - from)
      rows.fill(0)
      for (const [t, vector] of list.entries()) {
        for (let i = 0; i < length; i++) {
          rows[t * storage + i] = vector[from + i] - last[from + i]
        }
      }
      const view = { buffer, offset: 0 }
      const part = await withSignal(binding, signal, async (token) => {
        const jobs = [
          buffer.write(0, rows, { token }),
          binding.gram(view, count, view, count, storage, 'f64', { token }),
        ] as const
        return (await Promise.all(jobs))[1]
      })
      for (let k = 0; k < gram.length; k++) gram[k] += part[k]
    }
  } finally {
    buffer.dispose()
  }
  for (let t = 0; t < count; t++) {
    if (Number.isFinite(gram[t * count + t])) continue
    throw new LosscapeError('ERR_NOT_FINITE', `Parameter vector ${t} holds a NaN or an infinity.`)
  }
  return gram
}

/** (I - 11ᵀ/k) G (I - 11ᵀ/k), the Gram matrix of the rows minus their mean. */
function centre(gram: Float64Array, k: number): Float64Array {
  const means = Float64Array.from({ length: k }, (_, i) => {
    let sum = 0
    for (let j = 0; j < k; j++) sum += gram[i * k + j]
    return sum / k
  })
  const mean = means.reduce((sum, x) => sum + x, 0) / k
  return gram.map((x, at) => x - means[Math.floor(at / k)] - means[at % k] + mean)
}

/** Σ_t c_t (θ_t - θ_T) for each row of coefficients, normalised once more against rounding. */
function* combine(
  list: VectorList,
  coefficients: readonly Float64Array[],
): Slices<readonly Float64Array[]> {
  const last = list[list.length - 1]
  const out: Float64Array[] = []
  for (const row of coefficients) {
    const direction = new Float64Array(last.length)
    for (const [t, vector] of list.entries()) {
      const c = row[t]
      for (let from = 0; from < direction.length; from += CHUNK) {
        const end = Math.min(from + CHUNK, direction.length)
        for (let i = from; i < end; i++) direction[i] += c * (vector[i] - last[i])
        yield
      }
    }
    const norm = Math.sqrt(direction.reduce((sum, x) => sum + x * x, 0))
    out.push(direction.map((x) => x / norm))
    yield
  }
  return out
}
