import { setImmediate } from 'node:timers/promises'
import { argumentError, isVector, requireArguments } from '../arguments.js'
import { defaultBinding } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import { requireOptions } from '../options.js'

/** Vectors that span a subspace, as {@link EigenResult} has them: k rows of n elements. */
export type VectorList = readonly ArrayLike<number>[]

export interface SubspaceOverlap {
  /** ‖UᵀW‖_F² / min(k_U, k_W) for orthonormal bases: 1 when one holds the other, 0 when orthogonal. */
  readonly overlap: number
  /** Cosines of the principal angles, descending. */
  readonly cosines: Float64Array
}

/**
 * How much two subspaces of R^n have in common. The vectors need not be orthonormal, nor equally
 * many; those that depend on others to 1e-8 are dropped. Two random subspaces have an overlap of
 * about max(k_U, k_W) / n. Costs O(n (k_U + k_W)²), giving turns to the event loop.
 *
 * Source: principal angles by Björck and Golub 1973; the overlap as in Gur-Ari et al., arXiv
 * 1812.04754.
 *
 * @throws ERR_SHAPE for vectors of different lengths, ERR_ARGUMENT for none or only zeros,
 * ERR_ABORTED
 */
export async function subspaceOverlap(
  u: VectorList,
  w: VectorList,
  options: { signal?: AbortSignal } = {},
): Promise<SubspaceOverlap> {
  requireOptions('subspaceOverlap()', options, ['signal'])
  requireVectorList('subspaceOverlap()', 'u', u)
  requireVectorList('subspaceOverlap()', 'w', w)
  const { signal } = options
  const n = u[0]?.length ?? 0
  const a = await orthonormalBasis(u, n, signal)
  const b = await orthonormalBasis(w, n, signal)
  // The smaller side's Gram matrix of UᵀW: its eigenvalues are the squared cosines.
  const [few, many] = a.length <= b.length ? [a, b] : [b, a]
  const k = few.length
  const products = few.map((row) => many.map((column) => dot(row, column)))
  const gram = new Float64Array(k * k)
  let squares = 0
  for (let i = 0; i < k; i++) {
    for (let j = 0; j < k; j++) gram[i * k + j] = dot(products[i], products[j])
    squares += gram[i * k + i]
  }
  const binding = defaultBinding()
  const { values } = await withSignal(binding, signal, (token) =>
    binding.symmetricEigen(gram, k, false, { token }),
  )
  const cosines = values.map((x) => Math.sqrt(Math.min(1, Math.max(0, x)))).reverse()
  return { overlap: Math.min(1, squares / k), cosines }
}

export interface GradientOverlap {
  /** ‖P g‖² / ‖g‖² with P onto the span of the vectors, in [0, 1]. */
  readonly share: number
  /** (qᵢᵀ g)² / ‖g‖² for the vectors made orthonormal one after another. */
  readonly each: Float64Array
}

/**
 * Share of a gradient that lies in the span of vectors, such as the top eigenvectors of the Hessian:
 * after a short training most of it does (Gur-Ari et al., arXiv 1812.04754). O(n k²).
 *
 * @throws ERR_SHAPE, ERR_ARGUMENT for a gradient of zero or no vectors, ERR_ABORTED
 */
export async function gradientOverlap(
  gradient: ArrayLike<number>,
  vectors: VectorList,
  options: { signal?: AbortSignal } = {},
): Promise<GradientOverlap> {
  requireOptions('gradientOverlap()', options, ['signal'])
  requireArguments('gradientOverlap()', { v: gradient })
  requireVectorList('gradientOverlap()', 'vectors', vectors)
  const norm = dot(gradient, gradient)
  if (!(norm > 0 && Number.isFinite(norm))) {
    throw new LosscapeError('ERR_ARGUMENT', 'The gradient must be finite and not zero.')
  }
  const basis = await orthonormalBasis(vectors, gradient.length, options.signal)
  const each = Float64Array.from(basis, (q) => dot(q, gradient) ** 2 / norm)
  return {
    share: Math.min(
      1,
      each.reduce((sum, x) => sum + x, 0),
    ),
    each,
  }
}

/** @throws ERR_ARGUMENT */
export function requireVectorList(where: string, name: string, list: unknown): void {
  if (Array.isArray(list) && list.every(isVector)) return
  throw argumentError(where, name, 'a list of vectors', list)
}

/** Gram-Schmidt, twice, in float64. */
async function orthonormalBasis(
  vectors: VectorList,
  n: number,
  signal: AbortSignal | undefined,
): Promise<Float64Array[]> {
  const basis: Float64Array[] = []
  for (const [i, vector] of vectors.entries()) {
    await setImmediate()
    throwIfAborted(signal)
    if (vector.length !== n) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `Expected vectors of n = ${n} elements, vector ${i} has ${vector.length}.`,
      )
    }
    const q = Float64Array.from(vector)
    const before = Math.sqrt(dot(q, q))
    for (let sweep = 0; sweep < 2; sweep++) {
      for (const b of basis) {
        const c = dot(b, q)
        for (let k = 0; k < n; k++) q[k] -= c * b[k]
      }
    }
    const norm = Math.sqrt(dot(q, q))
    if (!Number.isFinite(norm)) {
      throw new LosscapeError('ERR_NOT_FINITE', `Vector ${i} of a subspace is not finite.`)
    }
    if (norm > 1e-8 * before) basis.push(q.map((x) => x / norm))
  }
  if (basis.length === 0) {
    throw new LosscapeError('ERR_ARGUMENT', 'A subspace needs at least one vector that is not 0.')
  }
  return basis
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i]
  return sum
}
