import { slq } from '../curvature/slq.js'
import { basisRows, endProducts } from './spectrum-compute.js'
import type { OpenedSpectrum, SpectrumRequest } from './spectrum-run.js'
import { describeEstimate, type Estimate } from './train-estimate.js'

/**
 * Times a few Lanczos steps, which run natively one after another as those of the command do, and
 * adds up what the ends and the probes will ask for. Ends that converge early make it less.
 */
export async function estimateSpectrum(
  { operator, device, set }: OpenedSpectrum,
  request: SpectrumRequest,
  signal: AbortSignal,
): Promise<Estimate> {
  const n = operator.size
  const time = async (products: number): Promise<number> => {
    const begin = performance.now()
    const steps = Math.min(n, products)
    await slq(operator, { probes: 1, steps, reorthogonalize: 'none', check: false, signal })
    return performance.now() - begin
  }
  const [few, more] = [2, 10]
  // The first products also linearise every chunk.
  const first = await time(few)
  const [longer, shorter] = [await time(more), await time(few)]
  const product = longer > shorter ? (longer - shorter) / (more - few) : longer / more
  const setUp = Math.max(0, first - few * product)
  const ends = endProducts(operator, request)
  const steps = Math.min(n, request.steps)
  const products = request.exact ? n : ends + request.probes * steps
  const bytes = operator.layout.storage * (operator.dtype === 'f64' ? 8 : 4)
  const rows = basisRows(operator, request)
  const vectors = request.exact ? 2 * n : rows
  const swept = 2 * ends * Math.min(ends, rows) - Math.min(ends, rows) ** 2
  const sweeps = request.exact ? 0 : 1.5 * (swept + request.probes * steps ** 2) * bytes
  const rate = await device.binding.copyBandwidth(2 ** 26, device.threads)
  return describeEstimate({
    n,
    samples: set.size,
    products,
    memory_bytes: device.memory().peakBytes + vectors * (request.exact ? 8 * n : bytes),
    time_ms: setUp + products * product + (1000 * sweeps) / rate,
  })
}
