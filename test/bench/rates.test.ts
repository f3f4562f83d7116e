import { describe, expect, it } from 'vitest'
import { machineRates } from '../../bench/rates.js'
import {
  gaussNewtonFlops,
  gemmFloor,
  gradientFlops,
  hessianProductFlops,
  mlpParameters,
  reorthogonalizationBytes,
} from '../../bench/work.js'

const MLP784 = [784, 256, 256, 10]

describe('work', () => {
  it('counts parameters with biases', () => {
    expect(mlpParameters(MLP784)).toBe(269_322)
    expect(mlpParameters([64, 30, 30, 10])).toBe(3190)
  })

  it('counts the matrix products of the first layer and of the others', () => {
    // One layer: A W' and A^T dZ only.
    expect(hessianProductFlops([3, 5], 7)).toBe(2 * 2 * 3 * 5 * 7)
    expect(hessianProductFlops(MLP784, 512) / 1e9).toBeCloseTo(0.829, 3)
    expect(gaussNewtonFlops(MLP784, 512) / 1e9).toBeCloseTo(0.69, 3)
    expect(gradientFlops([2, 3, 4], 1)).toBe(2 * (2 * 6 + 3 * 12))
  })

  it('counts three reads of a growing basis', () => {
    expect(reorthogonalizationBytes(10, 2)).toBe(3 * 4 * 10 * (1 + 2))
  })
})

describe('machineRates', () => {
  it('measures the product rate once and the copy rate at every call', async () => {
    const calls = { copy: [] as number[], gemm: 0 }
    const rates = machineRates(
      { threads: 2, quick: false },
      {
        copyBandwidth: async (bytes) => {
          calls.copy.push(bytes)
          return 1e10
        },
        gemmRate: async (n, dtype, threads) => {
          calls.gemm += 1
          expect([n, dtype, threads]).toEqual([2048, 'f32', 2])
          return 1e11
        },
      },
    )
    expect(await gemmFloor(rates, 5e8)).toEqual({ value: 5, name: 'GEMM rate' })
    expect(await gemmFloor(rates, 1e8)).toEqual({ value: 1, name: 'GEMM rate' })
    await rates.copyBandwidth(1000.4)
    await rates.copyBandwidth(1000)
    expect(calls).toEqual({ copy: [1000, 1000], gemm: 1 })
  })

  it('turns a rate that is no number into null, and then there is no floor', async () => {
    const rates = machineRates(
      { threads: 1, quick: true },
      {
        copyBandwidth: async () => Number.NaN,
        gemmRate: async () => 0,
      },
    )
    expect(await rates.copyBandwidth(1)).toBeNull()
    expect(await gemmFloor(rates, 1)).toBeNull()
  })
})
