import { normals } from '../../lib/random/index.js'

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
