import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { permutation, stream } from '../../lib/random/index.js'
import { SampleOrder } from '../../lib/train/order.js'

const BASE = { samples: 10, batch: 4, seed: 3, shuffle: true, dropLast: false }

describe('SampleOrder', () => {
  it('pads the last batch with weight 0', () => {
    const order = new SampleOrder({ ...BASE, shuffle: false })
    expect(order).toMatchObject({ stepsPerEpoch: 3, samplesPerEpoch: 10 })
    const { rows, weights } = order.rows(1, 3)
    expect([...rows]).toEqual([4, 5, 6, 7, 8, 9, 0, 0])
    expect([...weights]).toEqual([1, 1, 1, 1, 1, 1, 0, 0])
    expect([0, 1, 2, 3].map((step) => order.samplesOf(step))).toEqual([4, 4, 2, 4])
  })

  it('drops the last batch', () => {
    const order = new SampleOrder({ ...BASE, shuffle: false, dropLast: true })
    expect(order).toMatchObject({ stepsPerEpoch: 2, samplesPerEpoch: 8 })
    expect([...order.rows(1, 3).rows]).toEqual([4, 5, 6, 7, 0, 1, 2, 3])
  })

  it('shuffles every epoch by its own stream', () => {
    const order = new SampleOrder({ ...BASE, batch: 5 })
    expect([...order.rows(2, 4).rows]).toEqual([...permutation(3, stream('shuffle', 1), 10)])
    expect([...order.rows(0, 2).rows]).not.toEqual([...order.rows(2, 4).rows])
  })

  it('gives the same rows however the steps are cut, and every sample once an epoch', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 0, max: 1000 }),
        fc.nat(),
        (samples, size, seed, cut) => {
          const batch = Math.min(size, samples)
          const options = { samples, batch, seed, shuffle: true, dropLast: false }
          const order = new SampleOrder(options)
          const steps = 3 * order.stepsPerEpoch
          const whole = order.rows(0, steps)
          const at = cut % (steps + 1)
          const fresh = new SampleOrder(options)
          const tail = fresh.rows(at, steps)
          expect([...fresh.rows(0, at).rows, ...tail.rows]).toEqual([...whole.rows])
          const epoch = order.rows(order.stepsPerEpoch, 2 * order.stepsPerEpoch)
          const seen = [...epoch.rows].filter((_, i) => epoch.weights[i] === 1)
          expect(seen.sort((a, b) => a - b)).toEqual(Array.from({ length: samples }, (_, i) => i))
        },
      ),
      { numRuns: 100 },
    )
  })
})
