import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { hessian } from '../../lib/curvature/network.js'
import { hutchinsonTrace } from '../../lib/curvature/trace.js'
import { shifted } from '../../lib/curvature/wrappers.js'
import { type Device, open } from '../../lib/device/device.js'
import { normals } from '../../lib/random/index.js'
import { MODEL_CASES } from './cases.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

const test = MODEL_CASES[1]
const make = (tangents?: number) =>
  hessian(device, test.model, test.params, test.set, {
    ...{ loss: test.loss, precision: 'f64', tangents },
  })

describe('passes for several vectors', () => {
  it('are compiled when a product first needs them', async () => {
    const compiled = vi.spyOn(device, 'compileEncoded')
    try {
      const added = (): number => {
        const { length } = compiled.mock.calls
        compiled.mockClear()
        return length
      }
      using operator = make(16)
      // The primal and the linear program.
      expect(added()).toBeLessThanOrEqual(2)
      const vs = normals(1, 0, 0, 37 * operator.size)
      const product = (count: number) =>
        operator.matmat(vs.subarray(0, count * operator.size), count)
      await product(1)
      expect(added()).toBe(0)
      // 11 = 8 + 2 + 1
      await product(11)
      expect(added()).toBe(2)
      await product(10)
      expect(added()).toBe(0)
      // 37 = 16 + 16 + 4 + 1
      await product(37)
      expect(added()).toBe(2)
      using wrapped = shifted(make(4), 2)
      added()
      await wrapped.matmat(vs.subarray(0, 2 * operator.size), 2)
      expect(added()).toBe(1)
      using fresh = make()
      added()
      await hutchinsonTrace(fresh, { products: 8 })
      expect(added()).toBe(1)
    } finally {
      compiled.mockRestore()
    }
  })

  it('are asked for while another product runs', async () => {
    using operator = make(16)
    const { size } = operator
    const vs = normals(1, 0, 0, 23 * size)
    const counts = [1, 2, 3, 7, 23, 16, 5]
    const products = await Promise.all(
      counts.map((count) => operator.matmat(vs.subarray(0, count * size), count)),
    )
    const expected: Float64Array[] = []
    for (let r = 0; r < 23; r++) {
      const v = vs.subarray(r * size, (r + 1) * size)
      expected.push(Float64Array.from(await operator.matvec(v)))
    }
    for (const [i, count] of counts.entries()) {
      for (let r = 0; r < count; r++) {
        expected[r].forEach((x, e) => {
          expect(Math.abs(products[i][r * size + e] - x)).toBeLessThan(1e-11)
        })
      }
    }
  })
})
