import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkOperator } from '../../lib/curvature/check.js'
import { denseMatrix, exactSpectrum } from '../../lib/curvature/dense.js'
import { gaussNewton, hessian, networkOperator, remainder } from '../../lib/curvature/network.js'
import { denseOperator, operatorFrom } from '../../lib/curvature/operators.js'
import { type Device, open } from '../../lib/device/device.js'
import { normals } from '../../lib/random/index.js'
import { KINDS, MODEL_CASES, referenceMatrix, referenceProduct } from './cases.js'

/** Error of a product relative to ||H|| ||v||. */
const TOLERANCE = { f32: 1e-5, f64: 1e-10 } as const

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

const norm = (x: ArrayLike<number>): number => Math.hypot(...Array.from(x))

function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return norm(Array.from(a, (x, i) => x - b[i]))
}

describe.each(MODEL_CASES)('$name', (test) => {
  const n = test.model.size

  it.each(KINDS)('%s products', async (kind) => {
    const matrix = referenceMatrix(kind, test)
    const size = Math.max(norm(matrix), 1e-3)
    const v = normals(41, 0, 0, n)
    const expected = v.map((_, i) =>
      matrix.subarray(i * n, (i + 1) * n).reduce((s, a, j) => s + a * v[j], 0),
    )
    for (const precision of ['f32', 'f64'] as const) {
      for (const batch of test.batches) {
        using operator = networkOperator(kind, device, test.model, test.params, test.set, {
          loss: test.loss,
          batch,
          precision,
        })
        const product = await operator.matvec(v)
        const bound = TOLERANCE[precision] * size * norm(v)
        expect(difference(product, expected)).toBeLessThan(bound)
        // Kept linearisation: the second product does not run the primal part again.
        expect(Array.from(await operator.matvec(v))).toEqual(Array.from(product))
      }
    }
  })

  it('several vectors at once, recomputed chunks, and sums', async () => {
    const vs = normals(42, 0, 0, 3 * n)
    using operator = hessian(device, test.model, test.params, test.set, {
      loss: test.loss,
      batch: 4,
      precision: 'f64',
      keepBytes: 0,
      reduction: 'sum',
      tangents: 2,
    })
    const together = await operator.matmat(vs, 3)
    for (let r = 0; r < 3; r++) {
      const v = vs.slice(r * n, (r + 1) * n)
      const expected = referenceProduct('hessian', test, v).map((x) => x * test.set.size)
      expect(difference(together.subarray(r * n, (r + 1) * n), expected)).toBeLessThan(
        1e-10 * Math.max(1, norm(expected)),
      )
    }
  })

  it('is symmetric and deterministic; its blocks are principal submatrices', async () => {
    using operator = hessian(device, test.model, test.params, test.set, {
      loss: test.loss,
      precision: 'f64',
    })
    const seen: number[][] = []
    await expect(
      checkOperator(operator, { onProgress: (...progress) => seen.push(progress) }),
    ).resolves.toMatchObject({ nondeterminism: 0 })
    expect(seen).toEqual([
      [1, 3],
      [2, 3],
      [3, 3],
    ])
    const { matrix, asymmetry } = await denseMatrix(operator)
    expect(asymmetry).toBeLessThan(1e-12)
    const entry = test.model.layout.entries[test.model.layout.entries.length - 1]
    using block = hessian(device, test.model, test.params, test.set, {
      loss: test.loss,
      precision: 'f64',
      params: [entry.name],
    })
    expect(block.size).toBe(entry.size)
    const part = await denseMatrix(block)
    const scale = Math.max(...matrix.map(Math.abs))
    for (let i = 0; i < entry.size; i++) {
      for (let j = 0; j < entry.size; j++) {
        const whole = matrix[(entry.offset + i) * n + entry.offset + j]
        expect(Math.abs(part.matrix[i * entry.size + j] - whole)).toBeLessThan(1e-12 * scale)
      }
    }
  })
})

describe('closed forms', () => {
  const [regression] = MODEL_CASES

  it('softmax regression: H = G, and shifts of all classes are null vectors', async () => {
    const { model, set, params } = regression
    using h = hessian(device, model, params, set, { precision: 'f64' })
    using f = remainder(device, model, params, set, { precision: 'f64' })
    const shift = new Float64Array(model.size)
    model.layout.view(shift, 'layers.0.bias').fill(1)
    expect(norm(await h.matvec(shift))).toBeLessThan(1e-14)
    expect(norm(await f.matvec(normals(1, 0, 0, model.size)))).toBeLessThan(1e-14)
  })

  it('rank of G is at most N (C - 1)', async () => {
    const test = MODEL_CASES.find((c) => c.name === 'gelu with layer norm')
    if (!test) throw new Error('case missing')
    using g = gaussNewton(device, test.model, test.params, test.set, { precision: 'f64' })
    const { values } = await exactSpectrum(g)
    const rank = values.filter((x) => x > 1e-12 * values[values.length - 1]).length
    expect(rank).toBeLessThanOrEqual(test.set.size * 2)
    expect(values[0]).toBeGreaterThan(-1e-12 * values[values.length - 1])
  })

  it('weight decay shifts the spectrum by λ exactly', async () => {
    const { model, set, params } = MODEL_CASES[1]
    const spectrum = async (weightDecay: number) => {
      using h = hessian(device, model, params, set, { precision: 'f64', batch: 5, weightDecay })
      return (await exactSpectrum(h)).values
    }
    const [plain, decayed] = [await spectrum(0), await spectrum(0.25)]
    for (const [i, value] of plain.entries()) expect(decayed[i]).toBeCloseTo(value + 0.25, 12)
  })

  it('(uv - 1)² / 2', async () => {
    const test = MODEL_CASES[MODEL_CASES.length - 1]
    const set = {
      ...test.set,
      size: 1,
      inputs: Float64Array.of(1),
      targets: Float64Array.of(1),
      normalization: { mean: [0], std: [1] },
    }
    const [u, v] = [1.5, -0.5]
    using h = hessian(device, test.model, [u, v], set, {
      loss: 'half-squared-error',
      precision: 'f64',
    })
    const { matrix } = await denseMatrix(h)
    expect(Array.from(matrix)).toEqual([v * v, 2 * u * v - 1, 2 * u * v - 1, u * u])
  })
})

describe('bad input', () => {
  const [test] = MODEL_CASES
  const coded = (code: string) => expect.objectContaining({ code })

  it('names a parameter that is not finite, and wrong lengths', () => {
    const broken = test.params.with(2, Number.NaN)
    expect(() => hessian(device, test.model, broken, test.set)).toThrow(coded('ERR_NOT_FINITE'))
    expect(() => hessian(device, test.model, [1, 2], test.set)).toThrow(coded('ERR_SHAPE'))
    expect(() => hessian(device, test.model, test.params, test.set, { batch: 0 })).toThrow(
      coded('ERR_ARGUMENT'),
    )
    expect(() => hessian(device, test.model, test.params, test.set, { params: 'none*' })).toThrow(
      coded('ERR_ARGUMENT'),
    )
    expect(() => hessian(device, test.model, test.params, test.set, { loss: 'mse' })).toThrow(
      coded('ERR_ARGUMENT'),
    )
  })

  it('refuses vectors of wrong length or with NaN, and use after dispose', async () => {
    const operator = hessian(device, test.model, test.params, test.set)
    await expect(operator.matvec([1])).rejects.toMatchObject({ code: 'ERR_SHAPE' })
    const v = new Float64Array(operator.size).fill(Number.NaN)
    await expect(operator.matvec(v)).rejects.toMatchObject({ code: 'ERR_NOT_FINITE' })
    operator.dispose()
    operator.dispose()
    await expect(operator.matvec(v.fill(0))).rejects.toMatchObject({ code: 'ERR_DISPOSED' })
  })

  it('finds labels outside the classes when the product runs', async () => {
    const labels = (test.set.targets as Int32Array).slice()
    labels[3] = 9
    const set = { ...test.set, targets: labels, classes: null }
    using operator = hessian(device, test.model, test.params, set, { loss: 'cross-entropy' })
    await expect(operator.matvec(new Float64Array(operator.size).fill(1))).rejects.toMatchObject({
      code: 'ERR_RANGE',
    })
  })

  it("checks a user's operator", async () => {
    await expect(operatorFrom((v) => v.slice(1), 4).matvec([1, 2, 3, 4])).rejects.toMatchObject({
      code: 'ERR_OPERATOR',
    })
    await expect(
      operatorFrom((v) => v.map(() => Number.NaN), 4).matvec([1, 2, 3, 4]),
    ).rejects.toMatchObject({ code: 'ERR_OPERATOR' })
    const skew = operatorFrom((v) => v.map((x, i) => (i === 0 ? x + 3 * v[1] : x)), 4)
    await expect(checkOperator(skew)).rejects.toThrow(/not symmetric/)
    let calls = 0
    const noisy = operatorFrom((v) => v.map((x) => x * (1 + 0.01 * calls++)), 4)
    await expect(checkOperator(noisy)).rejects.toThrow(/not deterministic/)
    using dense = denseOperator(device, [2, 1, 1, 3])
    expect(Array.from(await dense.matvec([1, 2]))).toEqual([4, 7])
  })
})
