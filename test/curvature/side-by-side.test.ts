import { describe, expect, it } from 'vitest'
import { planChunks } from '../../lib/device/batches.js'
import { data, hessian, models, open } from '../../lib/index.js'

describe('chunks that run side by side', () => {
  it('share the batch among the threads when it is large enough for that', () => {
    expect(planChunks(1024, 1000, 1, 4)).toEqual({ rows: 1000, sideBySide: false })
    expect(planChunks(1024, 1000, 2, 4)).toEqual({ rows: 500, sideBySide: true })
    expect(planChunks(300, 1000, 2, 4)).toEqual({ rows: 125, sideBySide: true })
    expect(planChunks(127, 1000, 2, 4)).toEqual({ rows: 125, sideBySide: false })
    expect(planChunks(1024, 10_000, 16, 4)).toEqual({ rows: 1000, sideBySide: false })
    expect(planChunks(8192, 10_000, 8, 4)).toEqual({ rows: 625, sideBySide: true })
  })

  it('do not, when the results of the threads would take too much memory', () => {
    expect(planChunks(1024, 1000, 2, 2 ** 28)).toEqual({ rows: 500, sideBySide: true })
    expect(planChunks(1024, 1000, 2, 2 ** 28 + 1)).toEqual({ rows: 1000, sideBySide: false })
  })

  it.each([1, 2, 3])(
    'give the product of one thread, several vectors, %i chunks',
    async (chunks) => {
      const samples = 401
      const model = models.mlp({ input: 6, hidden: [5], classes: 3, activation: 'tanh' })
      const inputs = Float32Array.from({ length: samples * 6 }, (_, i) => Math.sin(i * i))
      const targets = Int32Array.from({ length: samples }, (_, i) => i % 3)
      const set = data.fromArrays(inputs, targets, { shape: [6], classes: 3 })
      const params = model.init(3)
      const n = model.layout.size
      const vectors = Float64Array.from({ length: 5 * n }, (_, i) => Math.cos(7 * i))
      const products: ArrayLike<number>[] = []
      for (const threads of [1, 2]) {
        const device = await open({ threads })
        const options = {
          batch: Math.ceil(samples / chunks),
          precision: 'f64',
          tangents: 4,
        } as const
        const H = hessian(device, model, params, set, { ...options, weightDecay: 0.1 })
        products.push(await H.matmat(vectors, 5))
        H.dispose()
        device.dispose()
      }
      for (let i = 0; i < vectors.length; i++) {
        expect(products[1][i]).toBeCloseTo(products[0][i], 12)
      }
    },
  )
})
