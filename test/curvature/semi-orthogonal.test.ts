import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { lanczos } from '../../lib/curvature/lanczos.js'
import type { LanczosCheckpoint } from '../../lib/curvature/lanczos-checkpoint.js'
import { hessian } from '../../lib/curvature/network.js'
import { denseOperator, operatorFrom } from '../../lib/curvature/operators.js'
import { type Device, open } from '../../lib/device/device.js'
import { mlp } from '../../lib/nn/mlp.js'
import { normals } from '../../lib/random/index.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

const argument = expect.objectContaining({ code: 'ERR_ARGUMENT' })

/** 8 outliers from 40 to 4 above a bulk on [0, 1], behind a reflection. */
function outliers(n: number): Float64Array {
  const values = Float64Array.from({ length: n }, (_, i) =>
    i < 8 ? 40 * 0.1 ** (i / 7) : ((i * 37) % n) / n,
  )
  const w = normals(5, 0, 0, n)
  const square = w.reduce((s, x) => s + x * x, 0)
  const matrix = new Float64Array(n * n)
  let weighted = 0
  for (let i = 0; i < n; i++) weighted += w[i] ** 2 * values[i]
  // (I - 2 w wᵀ / s) D (I - 2 w wᵀ / s)
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      const outer = w[i] * w[j]
      matrix[i * n + j] =
        (i === j ? values[i] : 0) -
        (2 * outer * (values[i] + values[j])) / square +
        (4 * outer * weighted) / square ** 2
    }
  }
  return matrix
}

describe.each(['partial', 'selective'] as const)('%s reorthogonalisation', (reorthogonalize) => {
  it.each(['f32', 'f64'] as const)(
    'finds what full reorthogonalisation finds (%s)',
    async (dtype) => {
      const n = 600
      using operator = denseOperator(device, outliers(n), { dtype })
      const options = { k: 20, which: 'both-ends', maxSteps: 150, tol: 0, vectors: true } as const
      const full = await lanczos(operator, options)
      const semi = await lanczos(operator, { ...options, reorthogonalize })
      const tolerance = (dtype === 'f32' ? 1e-6 : 1e-12) * 40
      for (let i = 0; i < 20; i++) {
        expect(Math.abs(semi.values[i] - full.values[i])).toBeLessThan(tolerance)
      }
      expect(semi.values.filter((x) => x > 3).length).toBe(8)
      expect(full.diagnostics.reorthogonalizations).toBe(full.steps - 2)
      expect(semi.diagnostics.reorthogonalizations).toBeGreaterThan(2)
      expect(semi.diagnostics.reorthogonalizations).toBeLessThan(semi.steps)
      expect(semi.diagnostics.ghostsPossible).toBe(false)
      // The vectors are orthonormal although the basis is not.
      const y = semi.vectors ?? []
      const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
        Array.from(a).reduce((s, x, i) => s + x * b[i], 0)
      for (let i = 0; i < 8; i++) {
        for (let j = 0; j <= i; j++) {
          const off = Math.abs(dot(y[i], y[j]) - (i === j ? 1 : 0))
          expect(off).toBeLessThan(dtype === 'f32' ? 2e-6 : 1e-13)
        }
        const ay = await operator.matvec(y[i])
        const residual = Math.hypot(...ay.map((x, e) => x - semi.values[i] * y[i][e]))
        expect(residual).toBeLessThan(semi.residuals[i] + tolerance)
      }
    },
  )

  it('goes on from a checkpoint bit for bit', async () => {
    using operator = denseOperator(device, outliers(300), { dtype: 'f32' })
    const options = { k: 20, maxSteps: 60, tol: 0, reorthogonalize, vectors: true } as const
    const whole = await lanczos(operator, options)
    const checkpoints: LanczosCheckpoint[] = []
    await lanczos(operator, {
      ...options,
      vectors: false,
      checkpointEvery: 7,
      onCheckpoint: (c) => checkpoints.push(c),
    })
    expect(checkpoints.length).toBeGreaterThan(3)
    for (const resume of checkpoints) {
      const resumed = await lanczos(operator, { ...options, resume })
      expect(resumed).toEqual(whole)
    }
  })

  it('works with a user’s function, and in all of a small space', async () => {
    using native = denseOperator(device, outliers(40))
    const user = operatorFrom(async (v) => native.matvec(v), 40)
    const options = { k: 40, maxSteps: 40, reorthogonalize } as const
    const a = await lanczos(native, options)
    expect(await lanczos(user, options)).toEqual(a)
    const full = await lanczos(native, { k: 40, maxSteps: 40 })
    for (let i = 0; i < 40; i++) expect(a.values[i]).toBeCloseTo(full.values[i], 10)
    const zero = operatorFrom((v) => v.map(() => 0), 30)
    const nothing = await lanczos(zero, { k: 4, reorthogonalize })
    expect(Array.from(nothing.values)).toEqual([0, 0, 0, 0])
  })

  it('is as good as full reorthogonalisation on a network', async () => {
    const model = mlp({ input: 20, hidden: [30, 30], classes: 5 })
    const [size, n] = [200, model.size]
    const set = {
      name: 'random',
      size,
      shape: [20],
      inputs: normals(1, 0, 0, size * 20),
      targets: Int32Array.from({ length: size }, (_, i) => (i * 7) % 5),
      targetShape: [],
      classes: 5,
      normalization: { mean: [0], std: [1] },
    }
    const params = normals(2, 0, 0, n).map((x) => 0.3 * x)
    using operator = hessian(device, model, params, set)
    const options = { k: 20, which: 'both-ends', maxSteps: 100, tol: 0 } as const
    const full = await lanczos(operator, options)
    const semi = await lanczos(operator, { ...options, reorthogonalize })
    for (const [i, value] of full.values.entries()) {
      expect(Math.abs(semi.values[i] - value)).toBeLessThan(1e-5 * full.values[0])
    }
  })
})

describe('resuming lanczos', () => {
  it('refuses another seed, size, reorthogonalisation or operator, and damage', async () => {
    using operator = denseOperator(device, outliers(100))
    using other = denseOperator(
      device,
      outliers(100).map((x) => 1.001 * x),
    )
    using small = denseOperator(device, outliers(60))
    using single = denseOperator(device, outliers(100), { dtype: 'f32' })
    const options = { k: 3, maxSteps: 30, tol: 0 } as const
    let resume: LanczosCheckpoint | undefined
    await lanczos(operator, {
      ...options,
      seed: 9,
      checkpointEvery: 8,
      onCheckpoint: (c) => (resume = c),
    })
    if (!resume) throw new Error('no checkpoint')
    await expect(lanczos(operator, { ...options, seed: 9, resume })).resolves.toBeDefined()
    await expect(lanczos(operator, { ...options, resume })).resolves.toBeDefined()
    await expect(lanczos(operator, { ...options, seed: 8, resume })).rejects.toEqual(argument)
    await expect(lanczos(small, { ...options, resume })).rejects.toEqual(argument)
    await expect(lanczos(single, { ...options, resume })).rejects.toEqual(argument)
    await expect(lanczos(other, { ...options, resume })).rejects.toThrow('another operator')
    await expect(
      lanczos(operator, { ...options, resume, reorthogonalize: 'partial' }),
    ).rejects.toEqual(argument)
    await expect(lanczos(operator, { k: 3, maxSteps: 5, resume })).rejects.toEqual(argument)
    const { state, basis } = resume
    const damaged: LanczosCheckpoint[] = [
      { ...resume, basis: basis.slice(1) },
      { ...resume, state: { ...state, alpha: state.alpha.slice(1) } },
      { ...resume, state: { ...state, beta: state.beta.map((b, i) => (i === 3 ? NaN : b)) } },
    ]
    for (const bad of damaged) {
      await expect(lanczos(operator, { ...options, resume: bad })).rejects.toEqual(argument)
    }
  })
})

describe('lanczos without a basis', () => {
  it('ends at a breakdown, and has neither vectors nor checkpoints', async () => {
    using native = denseOperator(device, outliers(40))
    const zero = operatorFrom((v) => v.map(() => 0), 30)
    const options = { k: 1, reorthogonalize: 'none' } as const
    for (const operator of [zero, operatorFrom((v) => native.matvec(v), 40), native]) {
      const { values, diagnostics } = await lanczos(operator, options)
      expect(values[0]).toBeCloseTo(operator === zero ? 0 : 40, 6)
      expect(diagnostics.ghostsPossible).toBe(true)
      expect(diagnostics.reorthogonalizations).toBe(0)
    }
    for (const more of [{ vectors: true }, { onCheckpoint: () => {} }]) {
      await expect(lanczos(native, { ...options, ...more })).rejects.toEqual(argument)
    }
    const unknown = { reorthogonalize: 'mgs' as 'cgs2' }
    await expect(lanczos(native, unknown)).rejects.toEqual(argument)
  })
})
