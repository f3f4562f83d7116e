import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { BlockKrylov } from '../../lib/curvature/block-krylov.js'
import { type BlockLanczosCheckpoint, blockLanczos } from '../../lib/curvature/block-lanczos.js'
import { exactSpectrum } from '../../lib/curvature/dense.js'
import { hessian } from '../../lib/curvature/network.js'
import type { LinearOperator } from '../../lib/curvature/operator.js'
import { denseOperator, operatorFrom } from '../../lib/curvature/operators.js'
import { spaceOf } from '../../lib/curvature/space.js'
import { type Device, open } from '../../lib/device/device.js'
import { normals } from '../../lib/random/index.js'
import { MODEL_CASES } from './cases.js'
import { rotatedOperator, wigner } from './known-matrices.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

describe('blockLanczos', () => {
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
      const exact = await blockLanczos(f64, { k: 6, which, block: 4, maxProducts: n })
      const single = await blockLanczos(f32, { k: 6, which, maxProducts: n })
      for (const [i, value] of expected.entries()) {
        expect(Math.abs(exact.values[i] - value)).toBeLessThan(1e-10 * Math.abs(all[0]))
        expect(Math.abs(single.values[i] - value)).toBeLessThan(1e-5 * Math.abs(all[0]))
      }
      expect(exact.converged.every(Boolean)).toBe(true)
      expect(exact.diagnostics.asymmetry).toBeLessThan(1e-13)
      expect(single.diagnostics.noise).toBeLessThan(1e-5)
    },
  )

  it('gives Ritz vectors whose residuals are what it says', async () => {
    const n = 90
    using operator = denseOperator(device, wigner(n, 5))
    const result = await blockLanczos(operator, { k: 5, block: 3, vectors: true, tol: 1e-3 })
    const { values, vectors = [], residuals } = result
    expect(vectors.length).toBe(5)
    for (const [i, y] of vectors.entries()) {
      const ay = await operator.matvec(y)
      expect(Math.hypot(...y)).toBeCloseTo(1, 12)
      expect(Math.hypot(...Array.from(ay, (x, j) => x - values[i] * y[j]))).toBeCloseTo(
        residuals[i],
        9,
      )
    }
  })

  it.each([1, 3, 8])(
    'finds all copies in a two-valued spectrum with blocks of %i',
    async (block) => {
      const n = 200
      for (const dtype of ['f64', 'f32'] as const) {
        // As many copies as wanted, and fewer copies than wanted.
        for (const copies of [20, 13]) {
          const spectrum = Float64Array.from({ length: n }, (_, i) => (i < copies ? 50 : 1))
          const result = await blockLanczos(rotatedOperator(spectrum, dtype), { k: 20, block })
          for (let i = 0; i < 20; i++) {
            expect(Math.abs(result.values[i] - (i < copies ? 50 : 1))).toBeLessThan(
              50 * (dtype === 'f32' ? 1e-5 : 1e-10),
            )
          }
          expect(result.converged.every(Boolean)).toBe(true)
          expect(result.products).toBeLessThanOrEqual(n)
        }
      }
    },
  )

  it('finds multiplicities up to the block without restarts', async () => {
    const spectrum = Float64Array.from(
      { length: 300 },
      (_, i) => [9, 9, 9, 9, 9, 7, 7][i] ?? i / 300,
    )
    const { values, diagnostics, products } = await blockLanczos(rotatedOperator(spectrum), {
      k: 7,
    })
    for (const [i, value] of [9, 9, 9, 9, 9, 7, 7].entries()) {
      expect(Math.abs(values[i] - value)).toBeLessThan(1e-9)
    }
    expect(diagnostics.invariantSubspaceAt).toBe(-1)
    expect(products).toBeLessThan(150)
  })

  it.each([
    [1, 1],
    [2, 8],
    [3, 2],
    [8, 3],
    [30, 7],
    [40, 1],
  ])('exhausts a space of %i dimensions with blocks of %i', async (n, block) => {
    const operator = rotatedOperator(Float64Array.from({ length: n }, (_, i) => i + 1))
    for (const k of [n, n - 1, n - 2].filter((x) => x > 0)) {
      const { values, converged } = await blockLanczos(operator, { k, block, maxProducts: n })
      expect(values.length).toBe(k)
      for (let i = 0; i < k; i++) expect(Math.abs(values[i] - (n - i))).toBeLessThan(1e-11 * n)
      expect(converged.every(Boolean)).toBe(true)
    }
  })

  it('finds all eigenvalues of a random matrix to 1e-12', async () => {
    using operator = denseOperator(device, wigner(40, 8))
    const { values } = await exactSpectrum(operator)
    const result = await blockLanczos(operator, { k: 40, block: 6, maxProducts: 40 })
    for (let i = 0; i < 40; i++) {
      expect(Math.abs(result.values[i] - values[39 - i])).toBeLessThan(1e-12 * Math.abs(values[39]))
    }
    expect(result.diagnostics.exhausted).toBe(true)
  })

  it('counts outliers above a bulk in f32 without ghosts', async () => {
    const n = 2000
    const spectrum = Float64Array.from({ length: n }, (_, i) => {
      if (i < 10) return 50 * 0.755 ** i
      if (i < 200) return 3 / (i - 8)
      return i < 240 ? -0.01 * ((i - 199) / 40) : 1e-3 * (i / n)
    })
    const result = await blockLanczos(rotatedOperator(spectrum, 'f32'), {
      k: 20,
      block: 4,
      tol: 0,
      maxProducts: 80,
      vectors: true,
    })
    for (let i = 0; i < 10; i++) {
      expect(Math.abs(result.values[i] / spectrum[i] - 1)).toBeLessThan(1e-6)
    }
    expect(result.values.filter((x) => x > 3.5).length).toBe(10)
    const { vectors = [] } = result
    for (const [i, a] of vectors.entries()) {
      for (const b of vectors.slice(0, i)) {
        const overlap = Float64Array.from(a).reduce((s, x, e) => s + x * b[e], 0)
        expect(Math.abs(overlap)).toBeLessThan(1e-6)
      }
    }
  })

  it('works the same with its basis in several pieces of memory', async () => {
    const n = 90
    using operator = denseOperator(device, wigner(n, 6))
    const results = []
    for (const pieceBytes of [undefined, 1, 8 * n * 11]) {
      const run = new BlockKrylov(spaceOf(operator), { block: 3, maxRows: 30, seed: 1, pieceBytes })
      await run.start()
      for (let i = 0; i < 10; i++) await run.step()
      const c = normals(2, 0, 0, 60)
      results.push({ t: run.projected(), rows: await run.read(0), y: await run.combine(c, 2) })
      expect(await run.mismatch()).toBeLessThan(1e-14)
      run.dispose()
    }
    const [whole, ...others] = results
    for (const { t, rows, y } of others) {
      expect(rows.length).toBe(33)
      for (const [i, x] of whole.t.entries()) expect(Math.abs(x - t[i])).toBeLessThan(1e-12)
      for (const [r, row] of [...whole.rows, ...whole.y].entries()) {
        const other = [...rows, ...y][r]
        for (const [e, x] of row.entries()) expect(Math.abs(x - other[e])).toBeLessThan(1e-12)
      }
    }
  })

  it('gives its memory back, also after a failure', async () => {
    const buffers = (): number => device.memory().live.buffer?.count ?? 0
    using operator = denseOperator(device, wigner(40, 2))
    await blockLanczos(operator, { vectors: true })
    const before = buffers()
    await blockLanczos(operator, { vectors: true })
    const failing = blockLanczos(operator, {
      onProgress: () => {
        throw new RangeError('mine')
      },
    })
    await expect(failing).rejects.toThrow('mine')
    // Memory goes with the last job that uses it.
    await expect.poll(buffers).toBeLessThanOrEqual(before)
  })

  it('handles the zero operator and projectors of low rank', async () => {
    const zero = operatorFrom((v) => v.map(() => 0), 30)
    const { values, diagnostics } = await blockLanczos(zero, { k: 4, block: 3 })
    expect(Array.from(values)).toEqual([0, 0, 0, 0])
    expect(diagnostics.invariantSubspaceAt).toBe(1)
    for (const dtype of ['f64', 'f32'] as const) {
      const projector = rotatedOperator(
        Float64Array.from({ length: 100 }, (_, i) => (i < 5 ? 1 : 0)),
        dtype,
      )
      const low = await blockLanczos(projector, { k: 8 })
      for (let i = 0; i < 8; i++) {
        expect(Math.abs(low.values[i] - (i < 5 ? 1 : 0))).toBeLessThan(
          dtype === 'f32' ? 1e-5 : 1e-12,
        )
      }
    }
  })

  it('returns what has not converged with flags instead of throwing', async () => {
    using operator = denseOperator(device, wigner(100, 9))
    const { converged, residuals, products, blocks } = await blockLanczos(operator, {
      k: 10,
      block: 4,
      maxProducts: 15,
    })
    expect([products, blocks]).toEqual([12, 3])
    expect(converged.some((c) => !c)).toBe(true)
    expect(residuals.some((r) => r > 1e-3)).toBe(true)
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
      const exact = await blockLanczos(f64, { k: 6, which: 'both-ends', maxProducts: n })
      const single = await blockLanczos(f32, { k: 6, which: 'both-ends', maxProducts: n })
      const expected = [n - 1, n - 2, n - 3, 2, 1, 0].map((i) => values[i])
      for (const [i, value] of expected.entries()) {
        expect(Math.abs(exact.values[i] - value)).toBeLessThan(1e-10 * scale)
        expect(Math.abs(single.values[i] - value)).toBeLessThan(1e-5 * scale)
      }
    }
  })

  it('goes on from a checkpoint bit for bit, also after an abort', async () => {
    // Dependent rows in between: random ones are drawn again.
    const spectrum = Float64Array.from({ length: 80 }, (_, i) => Math.floor(i / 4))
    const operators = [
      denseOperator(device, wigner(80, 13), { dtype: 'f32' }),
      rotatedOperator(spectrum, 'f64'),
    ]
    for (const operator of operators) {
      const options = { k: 5, tol: 0, block: 5, maxProducts: 60, check: false, vectors: true }
      const whole = await blockLanczos(operator, options)
      const checkpoints: BlockLanczosCheckpoint[] = []
      const controller = new AbortController()
      const cut = blockLanczos(operator, {
        ...options,
        checkpointEvery: 7,
        onCheckpoint: (c) => {
          checkpoints.push(c)
        },
        onProgress: ({ products }) => products >= 40 && controller.abort(),
        signal: controller.signal,
      })
      await expect(cut).rejects.toMatchObject({ code: 'ERR_ABORTED' })
      expect(checkpoints.length).toBeGreaterThanOrEqual(3)
      expect(checkpoints.at(-1)?.state.products).toBeGreaterThanOrEqual(40)
      for (const resume of checkpoints) {
        const resumed = await blockLanczos(operator, { ...options, resume })
        expect(Array.from(resumed.projection)).toEqual(Array.from(whole.projection))
        expect(Array.from(resumed.values)).toEqual(Array.from(whole.values))
        expect(resumed.vectors).toEqual(whole.vectors)
        expect(resumed.diagnostics).toEqual(whole.diagnostics)
      }
    }
  })

  it('refuses checkpoints of something else', async () => {
    using operator = denseOperator(device, wigner(60, 13))
    using other = denseOperator(device, wigner(60, 14))
    using smaller = denseOperator(device, wigner(50, 13))
    const checkpoints: BlockLanczosCheckpoint[] = []
    const onCheckpoint = (c: BlockLanczosCheckpoint): void => {
      checkpoints.push(c)
    }
    await blockLanczos(operator, { seed: 3, checkpointEvery: 8, onCheckpoint })
    for (const resume of checkpoints.slice(0, 2)) {
      await expect(blockLanczos(operator, { resume })).resolves.toBeDefined()
      for (const run of [
        () => blockLanczos(operator, { resume, block: 4 }),
        () => blockLanczos(operator, { resume, seed: 4 }),
        () => blockLanczos(smaller, { resume }),
        () => blockLanczos(other, { resume }),
        () => blockLanczos(operator, { resume: { ...resume, basis: resume.basis.slice(1) } }),
      ]) {
        await expect(run()).rejects.toMatchObject({
          code: 'ERR_ARGUMENT',
          message: expect.stringContaining('heckpoint'),
        })
      }
    }
  })

  it('stops when told to, and refuses impossible requests', async () => {
    const controller = new AbortController()
    const reason = new Error('enough')
    const operator = operatorFrom((v) => v.map((x, i) => x * i), 50)
    const run = blockLanczos(operator, {
      k: 10,
      tol: 0,
      signal: controller.signal,
      onProgress: () => controller.abort(reason),
    })
    await expect(run).rejects.toMatchObject({ code: 'ERR_ABORTED', cause: reason })
    for (const options of [
      { k: 51 },
      { k: 0 },
      { k: 2.5 },
      { block: 0 },
      { block: Number.NaN },
      { k: 9, maxProducts: 8 },
      { block: 9, k: 1, maxProducts: 8 },
      { tol: -1 },
      { tol: Number.NaN },
      { checkpointEvery: 0 },
      { which: 'middle' as never },
      { blok: 3 } as never,
    ]) {
      await expect(blockLanczos(operator, options)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    }
    const skew = operatorFrom((v) => v.map((x, i) => x + (v[i + 1] ?? 0)), 20)
    await expect(blockLanczos(skew)).rejects.toMatchObject({ code: 'ERR_OPERATOR' })
  })

  it('names the block whose products are not finite', async () => {
    let calls = 0
    const inner = operatorFrom((v) => v.map((x, i) => x * i), 50)
    const operator: LinearOperator = {
      ...inner,
      matmat: async (vs, count) => {
        const out = await inner.matmat(vs, count)
        if (++calls === 3) out[7] = Number.NaN
        return out
      },
    }
    await expect(
      blockLanczos(operator, { k: 10, block: 2, tol: 0, check: false }),
    ).rejects.toMatchObject({
      code: 'ERR_NOT_FINITE',
      message: expect.stringContaining('block 3'),
    })
  })

  it('shows an operator with noise in its diagnostics', async () => {
    let calls = 0
    const noisy = operatorFrom((v) => {
      const noise = normals(77, calls++, 0, v.length)
      const size = Math.hypot(...v) / Math.sqrt(v.length)
      return v.map((x, i) => x * (i + 1) + 0.5 * size * noise[i])
    }, 60)
    const { diagnostics } = await blockLanczos(noisy, { k: 4, check: false })
    expect(diagnostics.asymmetry).toBeGreaterThan(1e-4)
    expect(diagnostics.noise).toBeGreaterThan(1e-4)
  })

  it('is reproducible bit for bit', async () => {
    const [test] = MODEL_CASES
    using h = hessian(device, test.model, test.params, test.set)
    const a = await blockLanczos(h, { k: 4, seed: 11 })
    const b = await blockLanczos(h, { k: 4, seed: 11 })
    expect(a).toEqual(b)
  })
})
