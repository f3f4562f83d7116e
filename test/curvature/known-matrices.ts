import type { LinearOperator, Precision } from '../../lib/curvature/operator.js'
import { operatorFrom } from '../../lib/curvature/operators.js'
import { normals } from '../../lib/random/index.js'

/** A symmetric Gaussian matrix of variance 1/n. */
export function wigner(n: number, seed: number): Float64Array {
  const g = normals(seed, 0, 0, n * n)
  return g.map((x, at) => {
    const [i, j] = [Math.floor(at / n), at % n]
    return (x + g[j * n + i]) / Math.sqrt(2 * n)
  })
}

/** A diagonal behind three Householder reflections, never formed: O(n) per product. */
export function rotatedOperator(
  values: ArrayLike<number>,
  dtype: Precision = 'f64',
): LinearOperator {
  const n = values.length
  const mirrors = [17, 18, 19].map((seed) => normals(seed, 0, 0, n))
  const squares = mirrors.map((w) => w.reduce((sum, x) => sum + x * x, 0))
  const reflect = (v: Float64Array, k: number): void => {
    let dot = 0
    for (let i = 0; i < n; i++) dot += mirrors[k][i] * v[i]
    for (let i = 0; i < n; i++) v[i] -= ((2 * dot) / squares[k]) * mirrors[k][i]
  }
  const product = (x: ArrayLike<number>): Float64Array => {
    const v = Float64Array.from(x)
    for (const k of [0, 1, 2]) reflect(v, k)
    for (let i = 0; i < n; i++) v[i] *= values[i]
    for (const k of [2, 1, 0]) reflect(v, k)
    return v
  }
  return operatorFrom(product, n, { dtype })
}

/** V diag(values) V with V a product of `reflections` random Householder reflections; row-major. */
export function rotated(values: ArrayLike<number>, seed = 1, reflections = 3): Float64Array {
  const n = values.length
  const matrix = new Float64Array(n * n)
  for (let i = 0; i < n; i++) matrix[i * n + i] = values[i]
  for (let r = 0; r < reflections; r++) {
    const u = normals(seed, r, 0, n)
    const scale = 2 / u.reduce((sum, x) => sum + x * x, 0)
    // H A H = A - s u (Au)ᵀ - s (Au) uᵀ + s² (uᵀAu) u uᵀ, with A symmetric.
    const au = u.map((_, i) => {
      let sum = 0
      for (let j = 0; j < n; j++) sum += matrix[i * n + j] * u[j]
      return sum
    })
    const uau = u.reduce((sum, x, i) => sum + x * au[i], 0)
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        matrix[i * n + j] +=
          -scale * (u[i] * au[j] + au[i] * u[j]) + scale * scale * uau * u[i] * u[j]
      }
    }
  }
  return matrix
}

export function diagonalOf(matrix: Float64Array): Float64Array {
  const n = Math.round(Math.sqrt(matrix.length))
  return Float64Array.from({ length: n }, (_, i) => matrix[i * n + i])
}

export const sum = (values: Iterable<number>): number => [...values].reduce((a, b) => a + b, 0)

/**
 * Fewest intervals of `trials` that may hold the truth when each does with probability p, such that
 * fewer happen once in 1000.
 */
export function fewestCovered(trials: number, p: number): number {
  let probability = (1 - p) ** trials
  let below = probability
  let k = 0
  while (below < 1e-3) {
    probability *= ((trials - k) / (k + 1)) * (p / (1 - p))
    k++
    below += probability
  }
  return k
}
