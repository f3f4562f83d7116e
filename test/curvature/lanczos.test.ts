import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exactSpectrum } from '../../lib/curvature/dense.js'
import { lanczos } from '../../lib/curvature/lanczos.js'
import type { LanczosCheckpoint } from '../../lib/curvature/lanczos-checkpoint.js'
import { hessian } from '../../lib/curvature/network.js'
import { denseOperator, operatorFrom } from '../../lib/curvature/operators.js'
import { slq } from '../../lib/curvature/slq.js'
import { type Device, open } from '../../lib/device/device.js'
import { normals } from '../../lib/random/index.js'
import { MODEL_CASES } from './cases.js'
import { rotatedOperator, wigner } from './known-matrices.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

describe('lanczos', () => {
  it.each(['largest', 'smallest', 'both-ends', 'largest-magnitude'] as const)(
    '%s of a Wigner matrix',
    async (which) => {
      const n = 120
      const matrix = wigner(n, 3)
      using f64 = denseOperator(device, matrix)
      using f32 = denseOperator(device, matrix, { dtype: 'f32' })
      const { values } = await exactSpectrum(f64)
      const all = Array.from(values).reverse()
      const expected = {
        largest: all.slice(0, 6),
        smallest: all.slice(-6),
        'both-ends': [...all.slice(0, 3), ...all.slice(-3)],
        'largest-magnitude': [...all]
          .sort((a, b) => Math.abs(b) - Math.abs(a))
          .slice(0, 6)
          .sort((a, b) => b - a),
      }[which]
      const exact = await lanczos(f64, { k: 6, which, maxSteps: n })
      const single = await lanczos(f32, { k: 6, which, maxSteps: n })
      for (const [i, value] of expected.entries()) {
        expect(Math.abs(exact.values[i] - value)).toBeLessThan(1e-10 * Math.abs(all[0]))
        expect(Math.abs(single.values[i] - value)).toBeLessThan(1e-5 * Math.abs(all[0]))
      }
      expect(exact.converged.every(Boolean)).toBe(true)
    },
  )

  it('gives Ritz vectors whose residuals are what it says', async () => {
    const n = 90
    using operator = denseOperator(device, wigner(n, 5))
    const { values, vectors, residuals } = await lanczos(operator, {
      k: 4,
      vectors: true,
      tol: 1e-3,
    })
    for (const [i, y] of (vectors ?? []).entries()) {
      const ay = await operator.matvec(y)
      const residual = Math.hypot(...Array.from(ay, (x, j) => x - values[i] * y[j]))
      expect(Math.hypot(...y)).toBeCloseTo(1, 12)
      expect(residual).toBeCloseTo(residuals[i], 9)
    }
    expect(vectors?.length).toBe(4)
  })

  it('works the same through a user’s asynchronous function', async () => {
    const matrix = wigner(50, 7)
    using native = denseOperator(device, matrix)
    const user = operatorFrom(async (v) => native.matvec(v), 50)
    const a = await lanczos(native, { k: 3, seed: 4 })
    const b = await lanczos(user, { k: 3, seed: 4 })
    expect(Array.from(a.alpha)).toEqual(Array.from(b.alpha))
    expect(Array.from(a.values)).toEqual(Array.from(b.values))
  })

  it('finds every copy of a two-valued spectrum after breakdowns', async () => {
    const n = 200
    const operator = rotatedOperator(Float64Array.from({ length: n }, (_, i) => (i < 20 ? 50 : 1)))
    const { values, diagnostics, steps } = await lanczos(operator, { k: 30, maxSteps: n })
    const high = values.filter((x) => Math.abs(x - 50) < 1e-8).length
    expect(high).toBe(20)
    expect(diagnostics.invariantSubspaceAt).toBeGreaterThanOrEqual(0)
    expect(steps).toBeLessThanOrEqual(n)
  })

  it.each([1, 2, 3, 8])('exhausts a space of %i dimensions', async (n) => {
    const operator = rotatedOperator(Float64Array.from({ length: n }, (_, i) => i + 1))
    const { values, converged } = await lanczos(operator, { k: n, maxSteps: n })
    expect(Array.from(values, (x) => Math.round(x * 1e9) / 1e9)).toEqual(
      Array.from({ length: n }, (_, i) => n - i),
    )
    expect(converged.every(Boolean)).toBe(true)
  })

  it('handles the zero operator and a start vector inside an eigenspace', async () => {
    const zero = operatorFrom((v) => v.map(() => 0), 30)
    expect(Array.from((await lanczos(zero, { k: 4 })).values)).toEqual([0, 0, 0, 0])
    const diagonal = operatorFrom((v) => v.map((x, i) => x * (i + 1)), 10)
    const start = new Float64Array(10)
    start[4] = 1
    const { values } = await lanczos(diagonal, { k: 10, maxSteps: 10, start })
    for (let i = 0; i < 10; i++) expect(values[i]).toBeCloseTo(10 - i, 9)
  })

  it('returns what has not converged with flags instead of throwing', async () => {
    using operator = denseOperator(device, wigner(100, 9))
    const { converged, residuals, steps } = await lanczos(operator, { k: 10, maxSteps: 12 })
    expect(steps).toBe(12)
    expect(converged.some((c) => !c)).toBe(true)
    expect(residuals.some((r) => r > 1e-3)).toBe(true)
  })

  it('stops when told to, and refuses impossible requests', async () => {
    const controller = new AbortController()
    const reason = new Error('enough')
    const operator = operatorFrom((v) => v.map((x, i) => x * i), 50)
    const run = lanczos(operator, {
      k: 10,
      tol: 0,
      maxSteps: 50,
      signal: controller.signal,
      onProgress: () => controller.abort(reason),
    })
    await expect(run).rejects.toMatchObject({ code: 'ERR_ABORTED', cause: reason })
    await expect(lanczos(operator, { k: 51 })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    await expect(lanczos(operator, { k: 5, maxSteps: 3 })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
    })
    await expect(lanczos(operator, { start: new Float64Array(50) })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
    })
  })

  it('finds the extreme eigenvalues of network Hessians in both precisions', async () => {
    for (const test of MODEL_CASES.filter((c) => c.model.size > 20)) {
      using f64 = hessian(device, test.model, test.params, test.set, {
        loss: test.loss,
        precision: 'f64',
      })
      using f32 = hessian(device, test.model, test.params, test.set, { loss: test.loss })
      const { values } = await exactSpectrum(f64)
      const n = values.length
      const scale = Math.max(Math.abs(values[0]), Math.abs(values[n - 1]))
      const exact = await lanczos(f64, { k: 6, which: 'both-ends', maxSteps: n })
      const single = await lanczos(f32, { k: 6, which: 'both-ends', maxSteps: n })
      const expected = [
        values[n - 1],
        values[n - 2],
        values[n - 3],
        values[2],
        values[1],
        values[0],
      ]
      for (const [i, value] of expected.entries()) {
        expect(Math.abs(exact.values[i] - value)).toBeLessThan(1e-10 * scale)
        expect(Math.abs(single.values[i] - value)).toBeLessThan(1e-5 * scale)
      }
    }
  })

  it('goes on from a checkpoint bit for bit, also after an abort', async () => {
    using operator = denseOperator(device, wigner(80, 13), { dtype: 'f32' })
    const options = { k: 5, tol: 0, maxSteps: 40, check: false, vectors: true } as const
    const whole = await lanczos(operator, options)
    const checkpoints: LanczosCheckpoint[] = []
    const controller = new AbortController()
    const cut = lanczos(operator, {
      ...options,
      checkpointEvery: 7,
      onCheckpoint: (c) => checkpoints.push(c),
      onProgress: ({ step }) => step >= 20 && controller.abort(),
      signal: controller.signal,
    })
    await expect(cut).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    expect(checkpoints.length).toBeGreaterThanOrEqual(3)
    for (const resume of checkpoints) {
      const resumed = await lanczos(operator, { ...options, resume })
      expect(Array.from(resumed.alpha)).toEqual(Array.from(whole.alpha))
      expect(Array.from(resumed.vectors?.[0] ?? [])).toEqual(Array.from(whole.vectors?.[0] ?? []))
    }
    const [resume] = checkpoints
    using other = denseOperator(device, wigner(30, 13))
    await expect(lanczos(other, { resume })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
  })

  it('rejects with the error of a callback, and probes the operator first', async () => {
    using operator = denseOperator(device, wigner(60, 15))
    const failing = slq(operator, {
      probes: 2,
      steps: 30,
      onProgress: () => {
        throw new RangeError('mine')
      },
    })
    await expect(failing).rejects.toThrow('mine')
    const skew = operatorFrom((v) => v.map((x, i) => x + (v[i + 1] ?? 0)), 20)
    await expect(lanczos(skew)).rejects.toMatchObject({ code: 'ERR_OPERATOR' })
    await expect(slq(skew, { check: false })).resolves.toBeDefined()
  })

  it('is reproducible bit for bit', async () => {
    const [test] = MODEL_CASES
    using h = hessian(device, test.model, test.params, test.set)
    const a = await lanczos(h, { k: 4, seed: 11 })
    const b = await lanczos(h, { k: 4, seed: 11 })
    expect(Array.from(a.alpha)).toEqual(Array.from(b.alpha))
  })
})

describe('slq', () => {
  it('has the Jacobi coefficients of the semicircle law', async () => {
    const n = 1500
    using operator = denseOperator(device, wigner(n, 21), { dtype: 'f32' })
    const { nodes, weights } = await slq(operator, { probes: 4, steps: 6 })
    // Nodes 2 cos(lπ/(m+1)), weights (2/(m+1)) sin²(lπ/(m+1)); fluctuations O(1/√n).
    for (const [p, theta] of nodes.entries()) {
      for (let l = 1; l <= 6; l++) {
        const angle = (l * Math.PI) / 7
        expect(theta[6 - l]).toBeCloseTo(2 * Math.cos(angle), 0)
        expect(Math.abs(theta[6 - l] - 2 * Math.cos(angle))).toBeLessThan(0.12)
        expect(Math.abs(weights[p][6 - l] - (2 / 7) * Math.sin(angle) ** 2)).toBeLessThan(0.08)
      }
      expect(weights[p].reduce((s, w) => s + w, 0)).toBeCloseTo(1, 10)
    }
  })

  it('has the support of the Marchenko-Pastur law', async () => {
    const [n, samples] = [300, 600]
    const x = normals(23, 0, 0, samples * n)
    const product = (v: ArrayLike<number>): Float64Array => {
      const out = new Float64Array(n)
      for (let i = 0; i < samples; i++) {
        let dot = 0
        for (let j = 0; j < n; j++) dot += x[i * n + j] * v[j]
        for (let j = 0; j < n; j++) out[j] += (x[i * n + j] * dot) / samples
      }
      return out
    }
    const { nodes } = await slq(operatorFrom(product, n), { probes: 3, steps: 30 })
    const gamma = n / samples
    const low = Math.min(...nodes.map((t) => t[0]))
    const high = Math.max(...nodes.map((t) => t[t.length - 1]))
    expect(Math.abs(low - (1 - Math.sqrt(gamma)) ** 2)).toBeLessThan(0.05)
    expect(Math.abs(high - (1 + Math.sqrt(gamma)) ** 2)).toBeLessThan(0.15)
  })

  it('is exact for a probe when the steps reach the number of distinct eigenvalues', async () => {
    const operator = rotatedOperator(Float64Array.from({ length: 60 }, (_, i) => [1, 2, 5][i % 3]))
    const { nodes, weights } = await slq(operator, { probes: 2, steps: 20 })
    for (const [p, theta] of nodes.entries()) {
      expect(Array.from(theta, (t) => Math.round(t * 1e8) / 1e8)).toEqual([1, 2, 5])
      expect(weights[p].every((w) => w > 0.1)).toBe(true)
    }
  })

  it('states error bars that cover the trace', async () => {
    const n = 80
    const matrix = wigner(n, 29)
    for (let i = 0; i < n; i++) matrix[i * n + i] += 0.3
    let exact = 0
    for (let i = 0; i < n; i++) exact += matrix[i * n + i]
    using operator = denseOperator(device, matrix)
    let covered = 0
    for (let seed = 0; seed < 50; seed++) {
      const { trace } = await slq(operator, { probes: 10, steps: 12, seed })
      if (Math.abs(trace.value - exact) < 2.26 * trace.standardError) covered++
    }
    // 95 % intervals of Student's t with 9 degrees of freedom; 41 has probability 0.2 % or less.
    expect(covered).toBeGreaterThanOrEqual(41)
  })

  it('resumes finished probes', async () => {
    using operator = denseOperator(device, wigner(60, 31))
    const whole = await slq(operator, { probes: 4, steps: 10 })
    const calls: number[] = []
    const resumed = await slq(operator, {
      probes: 4,
      steps: 10,
      resume: { nodes: whole.nodes.slice(0, 2), weights: whole.weights.slice(0, 2) },
      onProbe: (p) => void calls.push(p),
    })
    expect(calls).toEqual([2, 3])
    expect(resumed).toEqual(whole)
  })
})
