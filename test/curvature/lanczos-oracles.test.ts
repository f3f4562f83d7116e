import { describe, expect, it } from 'vitest'
import { lanczos } from '../../lib/curvature/lanczos.js'
import { operatorFrom } from '../../lib/curvature/operators.js'
import { normals } from '../../lib/random/index.js'

const MODES = ['cgs2', 'cgs1', 'partial', 'selective'] as const

/** 2 x_i - x_{i-1} - x_{i+1}, with eigenvalues 2 - 2 cos(kπ / (n + 1)). */
function laplacian(n: number) {
  return operatorFrom((v) => v.map((x, i) => 2 * x - (v[i - 1] ?? 0) - (v[i + 1] ?? 0)), n)
}

describe.each(MODES)('lanczos with %s', (reorthogonalize) => {
  it('finds all eigenvalues of the 1-D Laplacian in n steps', async () => {
    const n = 64
    const { values, steps } = await lanczos(laplacian(n), { k: n, reorthogonalize })
    expect(steps).toBe(n)
    for (let k = 1; k <= n; k++) {
      expect(values[n - k]).toBeCloseTo(2 - 2 * Math.cos((k * Math.PI) / (n + 1)), 10)
    }
  })

  it('has the Jacobi coefficients of GOE and Wishart matrices', async () => {
    const n = 900
    const g = normals(3, 0, 0, n * n)
    const goe = operatorFrom((v) => {
      const out = new Float64Array(n)
      for (let i = 0; i < n; i++) {
        for (let j = 0; j < n; j++) {
          out[i] += (g[i * n + j] + g[j * n + i]) * v[j]
        }
      }
      return out.map((x) => x / Math.sqrt(2 * n))
    }, n)
    const a = await lanczos(goe, { k: 6, maxSteps: 10, reorthogonalize, check: false, tol: 0 })
    // Fluctuations are O(1/√n): 0.03.
    for (let j = 0; j < 9; j++) {
      expect(Math.abs(a.alpha[j])).toBeLessThan(0.2)
      expect(Math.abs(a.beta[j] - 1)).toBeLessThan(0.2)
    }
    const rows = 900
    const gamma = 300 / rows
    const wishart = operatorFrom((v) => {
      const out = new Float64Array(300)
      for (let r = 0; r < rows; r++) {
        let dot = 0
        for (let j = 0; j < 300; j++) dot += g[r * 300 + j] * v[j]
        for (let j = 0; j < 300; j++) out[j] += (g[r * 300 + j] * dot) / rows
      }
      return out
    }, 300)
    const b = await lanczos(wishart, { k: 6, maxSteps: 8, reorthogonalize, check: false, tol: 0 })
    expect(Math.abs(b.alpha[0] - 1)).toBeLessThan(0.2)
    for (let j = 1; j < 7; j++) {
      expect(Math.abs(b.alpha[j] - (1 + gamma))).toBeLessThan(0.3)
      expect(Math.abs(b.beta[j] - Math.sqrt(gamma))).toBeLessThan(0.15)
    }
  })

  it('shows an operator with 1 % noise per product in its diagnostics', async () => {
    let stream = 0
    const exact = laplacian(200)
    const noisy = operatorFrom(async (v) => {
      const product = await exact.matvec(v)
      const scale = (0.01 * Math.hypot(...product)) / Math.sqrt(200)
      const noise = normals(9, stream++, 0, 200)
      return product.map((x, i) => x + scale * noise[i])
    }, 200)
    const options = { k: 4, maxSteps: 40, reorthogonalize, tol: 0 } as const
    await expect(lanczos(noisy, options)).rejects.toMatchObject({ code: 'ERR_OPERATOR' })
    const bad = await lanczos(noisy, { ...options, check: false })
    const good = await lanczos(exact, { ...options, check: false })
    expect(bad.diagnostics.asymmetry).toBeGreaterThan(1e-4)
    expect(good.diagnostics.asymmetry).toBeLessThan(1e-6)
  })
})

describe('one pass of Gram-Schmidt', () => {
  it.each([100, 300])('is repeated where it does not suffice, n = %i', async (n) => {
    const values = Float64Array.from({ length: n }, (_, i) => 1 / (1 + i))
    const operator = operatorFrom((v) => v.map((x, i) => x * values[i]), n)
    const result = await lanczos(operator, { k: 40, reorthogonalize: 'cgs1', seed: 1 })
    for (const [i, value] of result.values.entries()) expect(value).toBeCloseTo(values[i], 9)
  })
})

describe('copies of an eigenvalue', () => {
  // 45 different values: the first Krylov space is complete after 45 products.
  const values = Float64Array.from({ length: 51 }, (_, i) => {
    if (i < 22) return 1 + i
    return i < 29 ? 0 : 20 - i
  })
  const sorted = Float64Array.from(values).sort().reverse()
  const operator = operatorFrom((v) => v.map((x, i) => x * values[i]), values.length)

  it.each([
    [24, 5],
    [25, 5],
    [28, 5],
    [32, 3],
    [32, 1],
    [40, 7],
  ])('are found wherever a test for convergence falls: k = %i, every %i', async (k, checkEvery) => {
    const result = await lanczos(operator, { k, checkEvery })
    for (const [i, value] of result.values.entries()) expect(value).toBeCloseTo(sorted[i], 9)
  })
})
