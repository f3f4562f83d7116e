import { native } from '../../lib/device/loader.js'
import { median } from '../statistics.js'
import type { BenchCase } from '../types.js'

const STORAGE = 2_000_000
const ROWS = 100
const READS = 3

/**
 * Two Gram-Schmidt passes against a full basis, as a share of the copy rate that is measured
 * right before. Three reads of the basis are counted whatever the kernel makes.
 */
export const reorthogonalization: BenchCase = {
  id: 'lanczos/reorth',
  what: 'reorthogonalisation, n 2,000,000, m 100, share of the copy rate at three basis reads',
  metric: 'bandwidth_share',
  slow: true,
  ours: async ({ threads, rates, quick }) => {
    const bytes = 4 * STORAGE * ROWS
    return {
      limit: { value: 1, name: 'copy rate' },
      async measure() {
        const rate = await rates.copyBandwidth(bytes)
        if (rate === null) throw new Error('The copy rate could not be measured.')
        const repeats = quick ? 1 : 3
        const seconds = await native().reorthogonalizationTime(STORAGE, ROWS, repeats, threads)
        return (READS * bytes) / median([...seconds]) / rate
      },
    }
  },
}
