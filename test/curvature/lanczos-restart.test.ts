import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { lanczos } from '../../lib/curvature/lanczos.js'
import type { LanczosCheckpoint } from '../../lib/curvature/lanczos-checkpoint.js'
import type { LinearOperator } from '../../lib/curvature/operator.js'
import { denseOperator } from '../../lib/curvature/operators.js'
import { type Device, open } from '../../lib/device/device.js'
import { rotatedOperator } from './known-matrices.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

/** The same matrix natively. */
async function denseOf(operator: LinearOperator): Promise<ReturnType<typeof denseOperator>> {
  const n = operator.size
  const matrix = new Float64Array(n * n)
  for (let i = 0; i < n; i++) {
    const unit = new Float64Array(n)
    unit[i] = 1
    matrix.set(await operator.matvec(unit), i * n)
  }
  return denseOperator(device, matrix, { dtype: operator.dtype })
}

/** Ends that are hard to separate: (i / n)² on both sides of zero. */
function crowded(n: number): Float64Array {
  return Float64Array.from({ length: n }, (_, i) => (2 * ((i + 0.5) / n) - 1) * 3)
}

function expectValues(got: Float64Array, expected: readonly number[], tolerance: number): void {
  expect(got.length).toBe(expected.length)
  for (const [i, value] of expected.entries()) {
    expect(Math.abs(got[i] - value), `value ${i}`).toBeLessThan(tolerance)
  }
}

describe('thick restart', () => {
  it.each(['largest', 'smallest', 'both-ends', 'largest-magnitude'] as const)(
    'finds %s of a crowded spectrum in a small basis',
    async (which) => {
      const values = crowded(500)
      values[3] = -4
      values[200] = 4.5
      const descending = Array.from(values).sort((a, b) => b - a)
      const expected = {
        largest: descending.slice(0, 6),
        smallest: descending.slice(-6),
        'both-ends': [...descending.slice(0, 3), ...descending.slice(-3)],
        'largest-magnitude': [...descending]
          .sort((a, b) => Math.abs(b) - Math.abs(a))
          .slice(0, 6)
          .sort((a, b) => b - a),
      }[which]
      const operator = rotatedOperator(values)
      const options = { k: 6, which, basisSize: 30, maxSteps: 3000, vectors: true } as const
      const result = await lanczos(operator, options)
      expect(result.converged.every(Boolean)).toBe(true)
      expect(result.diagnostics.restarts).toBeGreaterThan(1)
      expect(result.steps).toBeGreaterThan(29)
      expect(result.alpha.length).toBeLessThanOrEqual(29)
      expectValues(result.values, expected, 1e-7)
      for (const [i, y] of (result.vectors ?? []).entries()) {
        const ay = await operator.matvec(y)
        const residual = Math.hypot(...ay.map((x, j) => x - result.values[i] * y[j]))
        expect(residual).toBeLessThan(2 * result.residuals[i] + 1e-11)
      }
    },
  )

  it('needs few products more than an unlimited basis, in less memory', async () => {
    const values = crowded(400)
    for (let i = 0; i < 8; i++) values[i] = 10 + 5 * i
    using operator = await denseOf(rotatedOperator(values, 'f32'))
    const whole = await lanczos(operator, { k: 8, maxSteps: 200 })
    const memory = 36 * 448 * 4
    let peak = 0
    const small = await lanczos(operator, {
      k: 8,
      maxSteps: 400,
      memory,
      onProgress: () => {
        peak = Math.max(peak, device.memory().live.lanczos.bytes)
      },
    })
    expect(whole.converged.every(Boolean)).toBe(true)
    expect(small.converged.every(Boolean)).toBe(true)
    expectValues(small.values, Array.from(whole.values), 1e-5 * 45)
    expect(small.steps).toBeLessThan(2 * whole.steps + 36)
    expect(peak).toBeGreaterThan(0)
    expect(peak).toBeLessThanOrEqual(memory)
  })

  it('does not restart when the steps fit', async () => {
    const operator = rotatedOperator(crowded(60))
    const plain = await lanczos(operator, { k: 3, maxSteps: 40 })
    const limited = await lanczos(operator, { k: 3, maxSteps: 40, memory: 41 * 64 * 8 })
    expect(Array.from(limited.alpha)).toEqual(Array.from(plain.alpha))
    expect(limited.diagnostics.restarts).toBe(0)
  })

  it.each([
    [20, 'f64'],
    [20, 'f32'],
    [100, 'f64'],
    [100, 'f32'],
  ] as const)(
    'finds 20 right copies where %i of 200 values are 50 and the rest 1 (%s)',
    async (copies, dtype) => {
      const values = Float64Array.from({ length: 200 }, (_, i) => (i < copies ? 50 : 1))
      using native = await denseOf(rotatedOperator(values, dtype))
      for (const operator of [rotatedOperator(values, dtype), native]) {
        const result = await lanczos(operator, { k: 20, basisSize: 34, maxSteps: 2000 })
        expect(result.diagnostics.restarts).toBeGreaterThan(0)
        expectValues(result.values, new Array(20).fill(50), dtype === 'f32' ? 5e-4 : 1e-9)
        const more = await lanczos(operator, { k: 22, basisSize: 40, maxSteps: 2000 })
        const expected = Array.from({ length: 22 }, (_, i) => (i < copies ? 50 : 1))
        expectValues(more.values, expected, dtype === 'f32' ? 5e-4 : 1e-9)
      }
    },
  )

  it('handles the zero operator and a projector', async () => {
    const zero = await lanczos(rotatedOperator(new Float64Array(100)), { k: 4, basisSize: 11 })
    expect(Array.from(zero.values)).toEqual([0, 0, 0, 0])
    expect(zero.converged.every(Boolean)).toBe(true)
    const projector = rotatedOperator(Float64Array.from({ length: 150 }, (_, i) => (i < 7 ? 1 : 0)))
    const { values } = await lanczos(projector, { k: 9, basisSize: 21, maxSteps: 600 })
    expectValues(values, [1, 1, 1, 1, 1, 1, 1, 0, 0], 1e-10)
  })

  it.each([0, 1, 2])('gives n - %i values, in as many rows as that takes', async (missing) => {
    const n = 40
    const operator = rotatedOperator(crowded(n))
    const expected = Array.from(crowded(n)).reverse()
    const k = n - missing
    const result = await lanczos(operator, { k, basisSize: n + 1 })
    expectValues(result.values, expected.slice(0, k), 1e-11)
    await expect(lanczos(operator, { k, basisSize: n })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringContaining(`at least ${n + 1} rows, ${(n + 1) * 64 * 8} bytes`),
    })
  })

  it('refuses budgets too small for one restart, and what cannot restart', async () => {
    const operator = rotatedOperator(crowded(300))
    const bytes = (5 + 5 + 3) * 320 * 8
    await expect(lanczos(operator, { k: 5, memory: bytes - 1 })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringContaining(`${bytes} bytes`),
    })
    const least = await lanczos(operator, { k: 5, memory: bytes, maxSteps: 60 })
    expect(least.steps).toBe(60)
    for (const bad of [{ memory: 0 }, { memory: Number.NaN }, { basisSize: 0 }]) {
      await expect(lanczos(operator, bad)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    }
    const partial = { k: 5, basisSize: 20, reorthogonalize: 'partial' } as const
    await expect(lanczos(operator, partial)).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringContaining('cgs2'),
    })
  })

  it('counts products, and returns what has not converged with flags', async () => {
    const operator = rotatedOperator(crowded(500))
    let products = 0
    const counting: LinearOperator = {
      ...operator,
      matvec(v, options) {
        products++
        return operator.matvec(v, options)
      },
    }
    const result = await lanczos(counting, { k: 5, basisSize: 15, maxSteps: 37, check: false })
    expect(products).toBe(37)
    expect(result.steps).toBe(37)
    expect(result.converged.every(Boolean)).toBe(false)
  })

  it('goes on from any checkpoint bit for bit', async () => {
    using operator = await denseOf(rotatedOperator(crowded(200), 'f32'))
    const options = { k: 4, which: 'both-ends', basisSize: 20, maxSteps: 150, tol: 0 } as const
    const whole = await lanczos(operator, { ...options, vectors: true })
    const checkpoints: LanczosCheckpoint[] = []
    await lanczos(operator, {
      ...options,
      checkpointEvery: 11,
      onCheckpoint: (c) => checkpoints.push(c),
    })
    expect(checkpoints.map((c) => c.state.products)).toEqual(
      Array.from({ length: Math.floor(whole.steps / 11) }, (_, i) => 11 * (i + 1)),
    )
    expect(checkpoints.length).toBeGreaterThan(5)
    expect(checkpoints.some((c) => c.state.kept > 0 && c.state.steps > c.state.kept)).toBe(true)
    for (const resume of checkpoints) {
      const { basisSize: _, ...rest } = options
      const resumed = await lanczos(operator, { ...rest, resume, vectors: true })
      expect(Array.from(resumed.alpha)).toEqual(Array.from(whole.alpha))
      expect(Array.from(resumed.beta)).toEqual(Array.from(whole.beta))
      expect(resumed.vectors).toEqual(whole.vectors)
      expect(resumed.diagnostics).toEqual(whole.diagnostics)
    }
    using other = await denseOf(
      rotatedOperator(
        crowded(200).map((x) => x * 1.01),
        'f32',
      ),
    )
    await expect(lanczos(other, { ...options, resume: checkpoints[5] })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringContaining('another operator'),
    })
  })

  it('refuses a start vector beside a checkpoint, and vectors that were damaged', async () => {
    const operator = rotatedOperator(crowded(60))
    const checkpoints: LanczosCheckpoint[] = []
    const options = { k: 3, tol: 1e-12, checkpointEvery: 5 }
    await lanczos(operator, { ...options, onCheckpoint: (c) => checkpoints.push(c) })
    const resume = checkpoints[1]
    const start = new Float64Array(60).fill(1)
    await expect(lanczos(operator, { ...options, resume, start })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringContaining('leave start out'),
    })
    const damages = [(v: number) => 0 * v, (v: number) => v / 2, () => Number.NaN]
    for (const damage of damages) {
      const basis = resume.basis.map((v, row) => (row === 4 ? Float64Array.from(v, damage) : v))
      await expect(
        lanczos(operator, { ...options, resume: { ...resume, basis } }),
      ).rejects.toMatchObject({
        code: 'ERR_ARGUMENT',
        message: expect.stringContaining('basis vector 4'),
      })
    }
  })

  it('names what it got for k', async () => {
    const k = '3' as unknown as number
    await expect(lanczos(rotatedOperator(crowded(20)), { k })).rejects.toThrow(/got '3'/)
  })

  it('stops where the whole run stops, also when converged', async () => {
    const values = Float64Array.from({ length: 200 }, (_, i) => (i < 12 ? 50 : 1))
    const operator = rotatedOperator(values)
    const options = { k: 10, basisSize: 24, maxSteps: 1000, check: false } as const
    const checkpoints: LanczosCheckpoint[] = []
    const whole = await lanczos(operator, {
      ...options,
      checkpointEvery: 1,
      onCheckpoint: (c) => checkpoints.push(c),
    })
    expect(whole.steps).toBeLessThan(1000)
    for (const resume of checkpoints) {
      const resumed = await lanczos(operator, { ...options, resume })
      expect(resumed.steps).toBe(whole.steps)
      expect(resumed.values).toEqual(whole.values)
    }
  })
})
