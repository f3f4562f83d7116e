/** Means D_{c,c'} of the classes that occur: their dot products, and how much each class counts. */
export interface ClassMeans {
  /** C, outputs. */
  readonly classes: number
  /** Labels c that occur, ascending: P of them. */
  readonly labels: readonly number[]
  /** N_c / N of each. */
  readonly weights: readonly number[]
  /** Row-major [P C, P C]; row p C + c' is D_{c,c'} with c the p-th label. */
  readonly gram: Float64Array
}

/** Matrices with the eigenvalues of G₀, G₁, G₂ and their sum, besides zeros. */
export interface ClassGrams {
  /** [P, P] */
  readonly g0: Float64Array
  /** [P, P] */
  readonly g1: Float64Array
  /** [P (C - 1), P (C - 1)] */
  readonly g2: Float64Array
  /** [P C, P C] */
  readonly sum: Float64Array
}

/**
 * With B the weighted vectors of a term as rows, Bᵀ B and B Bᵀ share their eigenvalues; B Bᵀ is
 * linear in the dot products of the means, by way of the means of rows and of blocks.
 */
export function classGrams({ classes, labels, weights, gram }: ClassMeans): ClassGrams {
  const [P, C] = [labels.length, classes]
  const n = P * C
  const root = weights.map(Math.sqrt)
  const at = (p: number, a: number, q: number, b: number): number =>
    gram[(p * C + a) * n + q * C + b]
  // ⟨D_{p,a}, D_q⟩ and ⟨D_p, D_q⟩ with D_p the mean of D_{p,a} over a other than p's own label.
  const half = new Float64Array(n * P)
  const both = new Float64Array(P * P)
  for (let p = 0; p < P; p++) {
    for (let a = 0; a < C; a++) {
      for (let q = 0; q < P; q++) {
        let sum = 0
        for (let b = 0; b < C; b++) if (b !== labels[q]) sum += at(p, a, q, b)
        half[(p * C + a) * P + q] = sum / (C - 1)
        if (a !== labels[p]) both[p * P + q] += sum / (C - 1) ** 2
      }
    }
  }
  const g0 = new Float64Array(P * P)
  const g1 = new Float64Array(P * P)
  const sum = gram.slice()
  const others = labels.flatMap((label, p) =>
    Array.from({ length: C }, (_, a) => ({ p, a })).filter(({ a }) => a !== label),
  )
  const g2 = new Float64Array(others.length ** 2)
  for (let p = 0; p < P; p++) {
    for (let q = 0; q < P; q++) {
      const scale = root[p] * root[q]
      g0[p * P + q] = scale * at(p, labels[p], q, labels[q])
      g1[p * P + q] = scale * (C - 1) * both[p * P + q]
      for (let a = 0; a < C; a++) {
        for (let b = 0; b < C; b++) sum[(p * C + a) * n + q * C + b] *= scale
      }
    }
  }
  for (const [i, { p, a }] of others.entries()) {
    for (const [j, { p: q, a: b }] of others.entries()) {
      const centred =
        at(p, a, q, b) - half[(p * C + a) * P + q] - half[(q * C + b) * P + p] + both[p * P + q]
      g2[i * others.length + j] = root[p] * root[q] * centred
    }
  }
  return { g0, g1, g2, sum }
}

export function trace(matrix: Float64Array): number {
  const n = Math.round(Math.sqrt(matrix.length))
  let sum = 0
  for (let i = 0; i < n; i++) sum += matrix[i * n + i]
  return sum
}
