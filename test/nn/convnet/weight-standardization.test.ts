import { describe, expect, it } from 'vitest'
import {
  adaptiveStandardization,
  standardizedWeights,
} from '../../../lib/nn/convnet/weight-standardization.js'
import * as ops from '../../../lib/ops/index.js'
import { evaluate, trace } from '../../../lib/program/index.js'
import { uniforms } from '../../../lib/random/index.js'

const weights = (seed: number, n: number): Float64Array =>
  uniforms(seed, 0, 0, n).map((u) => 0.02 * u + 0.3)

function expectClose(a: ArrayLike<number>, b: ArrayLike<number>, tolerance: number): void {
  expect(a.length).toBe(b.length)
  for (let i = 0; i < a.length; i++) expect(Math.abs(a[i] - b[i])).toBeLessThan(tolerance)
}

describe('standardizedWeights', () => {
  it.each(['paper', 'official', 'official-bcn', 'bit', 'timm', 'timm-scaled', 'nfnet'] as const)(
    'folds what the operation computes: %s',
    (preset) => {
      const w = weights(1, 4 * 18)
      const gain = weights(2, 4)
      const shift = weights(3, 4)
      const program = trace(
        (x, g, s) => ops.weightStandardize([x], { preset, gain: [g], shift: [s] })[0],
        [[4, 2, 3, 3], [4], [4]],
      )
      const [expected] = evaluate(program, [w, gain, shift])
      expectClose(standardizedWeights(w, 4, { preset, gain, shift }), expected, 1e-12)
      const narrow = standardizedWeights(Float32Array.from(w), 4, { preset, gain, shift })
      // Rounding of the weights, magnified by mean / sigma.
      expectClose(narrow, expected, 1e-4)
    },
  )

  it('refuses what are no filters', () => {
    expect(() => standardizedWeights(new Float64Array(4), 4)).toThrow(/two weights or more/)
    expect(() => standardizedWeights(new Float64Array(9), 2)).toThrow(/2 filters/)
    expect(() => standardizedWeights(new Float64Array(9), 0)).toThrow(/positive integer/)
    expect(() => standardizedWeights(new Float64Array(8), 2, { gain: Float64Array.of(1) })).toThrow(
      /2 numbers in gain/,
    )
    expect(() => standardizedWeights('weights' as never, 2)).toThrow(/array of numbers/)
  })
})

describe('adaptiveStandardization', () => {
  it.each(['official', 'official-bcn', 'nfnet', 'timm-scaled'] as const)(
    'oracle 10: loaded filters are reproduced, %s',
    (preset) => {
      const w = weights(4, 5 * 12)
      w.fill(0.7, 0, 12)
      const affine = adaptiveStandardization(w, 5, { preset })
      expectClose(standardizedWeights(w, 5, { preset, ...affine }), w, 1e-12)
      const program = trace(
        (x, g, s) => ops.weightStandardize([x], { preset, gain: [g], shift: [s] })[0],
        [[5, 12], [5], [5]],
      )
      expectClose(evaluate(program, [w, affine.gain, affine.shift])[0], w, 1e-6)
    },
  )

  it('has no mean to give where nothing is centred', () => {
    const w = weights(5, 24)
    const settings = { center: false, epsilon: 0 }
    const affine = adaptiveStandardization(w, 2, settings)
    expect(Array.from(affine.shift)).toEqual([0, 0])
    expectClose(standardizedWeights(w, 2, { ...settings, ...affine }), w, 1e-12)
    expect(() => adaptiveStandardization(w, 2, { factor: 0 })).toThrow(/factor of 0/)
  })
})
