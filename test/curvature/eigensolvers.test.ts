import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exactSpectrum } from '../../lib/curvature/dense.js'
import type { Eigenpairs, EigenpairsOptions } from '../../lib/curvature/eigenpairs.js'
import { inverse } from '../../lib/curvature/inverse.js'
import { lobpcg } from '../../lib/curvature/lobpcg.js'
import { hessian } from '../../lib/curvature/network.js'
import type { LinearOperator, Precision } from '../../lib/curvature/operator.js'
import { denseOperator, operatorFrom } from '../../lib/curvature/operators.js'
import { powerIteration } from '../../lib/curvature/power-iteration.js'
import { subspaceIteration } from '../../lib/curvature/subspace-iteration.js'
import { shifted } from '../../lib/curvature/wrappers.js'
import { type Device, open } from '../../lib/device/device.js'
import { normals } from '../../lib/random/index.js'
import { MODEL_CASES } from './cases.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

/** A diagonal turned by three reflections: A = Q diag(λ) Qᵀ, rows of Q the eigenvectors. */
function rotated(lambda: readonly number[], seed = 1): { matrix: Float64Array; q: Float64Array } {
  const n = lambda.length
  const q = new Float64Array(n * n)
  for (let i = 0; i < n; i++) q[i * n + i] = 1
  for (let reflection = 0; reflection < 3; reflection++) {
    const u = normals(seed, reflection, 0, n, new Float64Array(n))
    const square = u.reduce((sum, x) => sum + x * x, 0)
    for (let i = 0; i < n; i++) {
      let dot = 0
      for (let j = 0; j < n; j++) dot += q[i * n + j] * u[j]
      for (let j = 0; j < n; j++) q[i * n + j] -= ((2 * dot) / square) * u[j]
    }
  }
  const matrix = new Float64Array(n * n)
  for (let r = 0; r < n; r++) {
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) matrix[i * n + j] += lambda[r] * q[r * n + i] * q[r * n + j]
    }
  }
  return { matrix, q }
}

function user(matrix: Float64Array, dtype: Precision): LinearOperator {
  const n = Math.sqrt(matrix.length)
  const product = (v: ArrayLike<number>): Float64Array =>
    Float64Array.from({ length: n }, (_, i) => {
      let sum = 0
      for (let j = 0; j < n; j++) sum += matrix[i * n + j] * v[j]
      return sum
    })
  return operatorFrom(product, n, { dtype })
}

function operatorOf(
  kind: 'native' | 'user',
  matrix: Float64Array,
  dtype: Precision,
): LinearOperator {
  return kind === 'native' ? denseOperator(device, matrix, { dtype }) : user(matrix, dtype)
}

const VALUES = { f32: 1e-5, f64: 1e-10 } as const

/** Values against the truth, unit orthogonal vectors, residuals recomputed from scratch. */
async function expectPairs(
  result: Eigenpairs,
  expected: readonly number[],
  operator: LinearOperator,
  norm: number,
): Promise<void> {
  const { dtype } = operator
  expect(result.converged).toEqual(expected.map(() => true))
  for (const [i, value] of expected.entries()) {
    expect(Math.abs(result.values[i] - value)).toBeLessThan(VALUES[dtype] * norm)
    const y = result.vectors[i]
    const ay = await operator.matvec(y)
    const residual = Math.hypot(...ay.map((x, e) => x - result.values[i] * y[e]))
    expect(residual).toBeLessThan(result.residuals[i] + 1e-6 * norm * (dtype === 'f32' ? 1 : 1e-8))
    for (let j = 0; j <= i; j++) {
      const dot = Array.from(y).reduce((sum, x, e) => sum + x * result.vectors[j][e], 0)
      expect(Math.abs(dot - (i === j ? 1 : 0))).toBeLessThan(dtype === 'f32' ? 1e-5 : 1e-12)
    }
  }
}

const N = 90
/** Ten outliers of both signs on a bulk in [-0.5, 0.5]. */
const OUTLIERS = [20, -15, 12, 9, -7.5, 6, 5, -4, 3, -2.4]
const SPECTRUM = [...OUTLIERS, ...Array.from({ length: N - 10 }, (_, i) => i / (N - 11) - 0.5)]
const descending = (values: ArrayLike<number>): number[] => Array.from(values).sort((a, b) => b - a)
const byMagnitude = (values: ArrayLike<number>, k: number): number[] =>
  descending(
    Array.from(values)
      .sort((a, b) => Math.abs(b) - Math.abs(a))
      .slice(0, k),
  )

describe.each(['native', 'user'] as const)('%s operators', (kind) => {
  describe.each(['f32', 'f64'] as const)('in %s', (dtype) => {
    const { matrix } = rotated(SPECTRUM)
    const tol = dtype === 'f32' ? 1e-5 : 1e-10

    it('power iteration finds the largest by magnitude, one after another', async () => {
      const operator = operatorOf(kind, matrix, dtype)
      const result = await powerIteration(operator, { k: 4, tol })
      await expectPairs(result, byMagnitude(OUTLIERS, 4), operator, 20)
      expect(result.products).toBe(result.iterations)
    })

    it('subspace iteration keeps the signs', async () => {
      const operator = operatorOf(kind, matrix, dtype)
      const result = await subspaceIteration(operator, { k: 6, oversampling: 4, tol })
      await expectPairs(result, byMagnitude(OUTLIERS, 6), operator, 20)
      expect(result.products).toBe(10 * result.iterations)
    })

    it.each(['smallest', 'largest'] as const)('lobpcg finds the %s', async (which) => {
      const operator = operatorOf(kind, matrix, dtype)
      const result = await lobpcg(operator, { k: 4, which, tol })
      const all = descending(SPECTRUM)
      const expected = which === 'largest' ? all.slice(0, 4) : all.slice(-4)
      await expectPairs(result, expected, operator, 20)
      expect(result.iterations).toBeLessThan(60)
    })
  })

  const SOLVERS: Record<
    string,
    (A: LinearOperator, o: EigenpairsOptions & { k?: number }) => Promise<Eigenpairs>
  > = { powerIteration, subspaceIteration, lobpcg }

  describe.each(Object.keys(SOLVERS))('%s', (name) => {
    const solve = SOLVERS[name]
    const { matrix } = rotated(SPECTRUM)

    it('finds every eigenvalue when k = n', async () => {
      const lambda = [5, -4, 3, 2, -1, 0.5, 0]
      const operator = operatorOf(kind, rotated(lambda).matrix, 'f64')
      const result = await solve(operator, { k: 7 })
      await expectPairs(result, descending(lambda), operator, 5)
      const single = operatorOf(kind, Float64Array.of(-3), 'f64')
      expect(await solve(single, {})).toMatchObject({ values: Float64Array.of(-3) })
    })

    it('is done at once with the zero operator and with a multiple of the identity', async () => {
      const zero = await solve(operatorOf(kind, new Float64Array(400), 'f64'), { k: 3 })
      expect(zero.values).toEqual(new Float64Array(3))
      expect(zero.converged).toEqual([true, true, true])
      const { matrix: two } = rotated(Array(20).fill(2))
      const operator = operatorOf(kind, two, 'f64')
      await expectPairs(await solve(operator, { k: 3 }), [2, 2, 2], operator, 2)
    })

    it('finds copies of multiple eigenvalues', async () => {
      const lambda = Array.from({ length: 60 }, (_, i) => (i < 5 ? 50 : 60 + (i % 2)))
      const operator = operatorOf(kind, rotated(lambda).matrix, 'f64')
      // From 50 to both ends of what the solvers look for.
      const shift = name === 'lobpcg' ? operator : shifted(operator, -61.5)
      const expected = Array(5).fill(name === 'lobpcg' ? 50 : -11.5)
      await expectPairs(await solve(shift, { k: 5 }), expected, shift, 62)
    })

    it('returns what it has with flags, repeats itself, reports, and can be aborted', async () => {
      const operator = operatorOf(kind, matrix, 'f64')
      const seen: number[] = []
      const options = { k: 3, maxIterations: 3, seed: 5 }
      const first = await solve(operator, {
        ...options,
        onProgress: (p) => {
          expect(p).toMatchObject({ maxIterations: 3, wanted: 3 })
          seen.push(p.iteration)
        },
      })
      expect(Math.max(...seen)).toBe(3)
      expect(first.converged).toContain(false)
      expect(first.values).toHaveLength(3)
      for (const [i, value] of first.values.entries()) {
        const nearest = Math.min(...SPECTRUM.map((x) => Math.abs(x - value)))
        expect(nearest).toBeLessThanOrEqual(first.residuals[i])
      }
      expect(await solve(operator, options)).toEqual(first)
      expect((await solve(operator, { ...options, seed: 6 })).values).not.toEqual(first.values)

      const controller = new AbortController()
      const aborted = solve(operator, {
        k: 3,
        tol: 0,
        signal: controller.signal,
        onProgress: () => controller.abort(),
      })
      await expect(aborted).rejects.toMatchObject({ code: 'ERR_ABORTED' })
      const failing = solve(operator, {
        onProgress: () => {
          throw new RangeError('mine')
        },
      })
      await expect(failing).rejects.toThrow(RangeError)
      const rejecting = solve(operator, { tol: 0, onProgress: () => Promise.reject('mine') })
      await expect(rejecting).rejects.toBe('mine')
    })

    it('refuses bad input', async () => {
      const operator = operatorOf(kind, matrix, 'f64')
      for (const bad of [
        { k: 0 },
        { k: N + 1 },
        { k: 1.5 },
        { tol: -1 },
        { tol: Number.NaN },
        { maxIterations: 0 },
        { maxSteps: 3 },
      ] as EigenpairsOptions[]) {
        await expect(solve(operator, bad)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
      }
      const skew = rotated(SPECTRUM).matrix.map((x, at) => x + (at === 1 ? 1 : 0))
      await expect(solve(operatorOf(kind, skew, 'f64'), {})).rejects.toMatchObject({
        code: 'ERR_OPERATOR',
        message: expect.stringContaining('not symmetric'),
      })
      const broken = matrix.slice()
      broken[3] = Number.NaN
      await expect(solve(operatorOf(kind, broken, 'f64'), { check: false })).rejects.toMatchObject({
        code: 'ERR_OPERATOR',
      })
    })
  })
})

describe('power iteration', () => {
  const swinging = [10, -10, ...Array.from({ length: 40 }, (_, i) => i / 40)]

  it('says that a pair of equal magnitude has not converged, or finds both', async () => {
    const operator = denseOperator(device, rotated(swinging).matrix)
    const one = await powerIteration(operator, { maxIterations: 60 })
    expect(one.converged).toEqual([false])
    // There is an eigenvalue within the residual: nothing wrong is claimed.
    expect(10 - Math.abs(one.values[0])).toBeLessThan(one.residuals[0])
    const both = await powerIteration(operator, { k: 2, maxIterations: 60 })
    await expectPairs(both, [10, -10], operator, 10)
  })

  it('leaves out what it is told to', async () => {
    const { matrix, q } = rotated(SPECTRUM)
    const operator = denseOperator(device, matrix)
    const known = [0, 1, 3].map((i) => q.slice(i * N, (i + 1) * N).map((x) => -7 * x))
    const result = await powerIteration(operator, { k: 2, deflate: known, tol: 1e-10 })
    await expectPairs(result, [12, -7.5], operator, 20)
    const first = await powerIteration(operator, { tol: 1e-9 })
    const { values } = await powerIteration(operator, { tol: 1e-9, deflate: first.vectors })
    expect(values[0]).toBeCloseTo(-15, 8)
    await expect(powerIteration(operator, { deflate: [[1]] })).rejects.toMatchObject({
      code: 'ERR_SHAPE',
    })
    const zeros = [known[0], new Float64Array(N)]
    await expect(powerIteration(operator, { deflate: zeros })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringContaining('Vector 1 of deflate is zero'),
    })
    const two = denseOperator(device, [1, 0, 0, 2])
    const all = [
      [1, 0],
      [0, 1],
    ]
    await expect(powerIteration(two, { deflate: all })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
    })
  })
})

describe('subspace iteration', () => {
  it('needs no oversampling, and refuses a negative one', async () => {
    const operator = denseOperator(device, rotated(SPECTRUM).matrix)
    const result = await subspaceIteration(operator, { k: 3, oversampling: 0, tol: 1e-9 })
    await expectPairs(
      result,
      [20, 12, -15].sort((a, b) => b - a),
      operator,
      20,
    )
    await expect(subspaceIteration(operator, { oversampling: -1 })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
    })
  })

  it('serves an operator of low rank', async () => {
    const operator = denseOperator(device, rotated([4, -3, ...Array(38).fill(0)]).matrix)
    const result = await subspaceIteration(operator, { k: 4 })
    await expectPairs(result, [4, 0, 0, -3], operator, 4)
  })
})

describe('lobpcg', () => {
  /** 1-D Laplacian plus a diagonal that spans four orders of magnitude. */
  const n = 200
  const diagonal = Float64Array.from({ length: n }, (_, i) => 2 + 10 ** ((4 * i) / n))
  const hard = new Float64Array(n * n)
  for (let i = 0; i < n; i++) {
    hard[i * n + i] = diagonal[i]
    if (i > 0) hard[i * n + i - 1] = hard[(i - 1) * n + i] = -1
  }

  it('finds the smallest of the 1-D Laplacian, 2 - 2 cos(k π / (n + 1))', async () => {
    const m = 60
    const laplacian = new Float64Array(m * m)
    for (let i = 0; i < m; i++) {
      laplacian[i * m + i] = 2
      if (i > 0) laplacian[i * m + i - 1] = laplacian[(i - 1) * m + i] = -1
    }
    const operator = denseOperator(device, laplacian)
    const expected = [4, 3, 2, 1].map((k) => 2 - 2 * Math.cos((k * Math.PI) / (m + 1)))
    const solver = inverse(operator, { tol: 1e-6 })
    await expectPairs(
      await lobpcg(operator, { k: 4, tol: 1e-8, preconditioner: solver }),
      expected,
      operator,
      4,
    )
    const alone = await lobpcg(operator, { k: 4 })
    await expectPairs(alone, expected, operator, 4)
  })

  it.each(['f32', 'f64'] as const)('a diagonal preconditioner helps in %s', async (dtype) => {
    const operator = denseOperator(device, hard, { dtype })
    const { values } = await exactSpectrum(denseOperator(device, hard))
    const tol = dtype === 'f32' ? 1e-3 : 1e-9
    const result = await lobpcg(operator, { k: 3, tol, preconditioner: diagonal })
    expect(result.converged).toEqual([true, true, true])
    for (let i = 0; i < 3; i++) {
      expect(Math.abs(result.values[2 - i] - values[i])).toBeLessThan(tol * values[i])
    }
    expect(result.iterations).toBeLessThan(80)
    const plain = await lobpcg(operator, { k: 3, tol, maxIterations: result.iterations })
    expect(plain.converged).toEqual([false, false, false])
  })

  it('starts where it is told to', async () => {
    const operator = denseOperator(device, hard)
    const options = { k: 3, preconditioner: diagonal }
    const first = await lobpcg(operator, options)
    const again = await lobpcg(operator, { ...options, start: first.vectors })
    expect(again.iterations).toBe(0)
    expect(again.converged).toEqual([true, true, true])
    await expect(lobpcg(operator, { k: 1, start: first.vectors })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
    })
    await expect(lobpcg(operator, { start: [[1, 2]] })).rejects.toMatchObject({
      code: 'ERR_SHAPE',
    })
  })

  it('refuses preconditioners that cannot work', async () => {
    const operator = denseOperator(device, hard)
    const negative = diagonal.map((x) => -x)
    await expect(lobpcg(operator, { preconditioner: negative })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
    })
    const small = denseOperator(device, [1])
    await expect(lobpcg(operator, { preconditioner: small })).rejects.toMatchObject({
      code: 'ERR_SHAPE',
    })
    await expect(
      lobpcg(operator, { which: 'largest-magnitude' as 'largest' }),
    ).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
  })
})

describe.each(['f32', 'f64'] as const)('the Hessian of a network in %s', (precision) => {
  it('has the ends that the dense path finds', async () => {
    const { model, params, set, loss } = MODEL_CASES[1]
    using h = hessian(device, model, params, set, { loss, precision, batch: 7 })
    using reference = hessian(device, model, params, set, { loss, precision: 'f64' })
    const { values } = await exactSpectrum(reference)
    const all = descending(values)
    const norm = Math.max(all[0], -all[all.length - 1])
    const tol = precision === 'f32' ? 1e-4 : 1e-9
    await expectPairs(await powerIteration(h, { tol }), byMagnitude(all, 1), h, norm)
    await expectPairs(await subspaceIteration(h, { k: 3, tol }), byMagnitude(all, 3), h, norm)
    await expectPairs(await lobpcg(h, { k: 3, which: 'largest', tol }), all.slice(0, 3), h, norm)
    await expectPairs(await lobpcg(h, { k: 2, tol }), all.slice(-2), h, norm)
  })
})
