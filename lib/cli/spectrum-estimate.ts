import { normals } from '../random/index.js'
import { lanczosSteps } from './spectrum-compute.js'
import type { OpenedSpectrum, SpectrumRequest } from './spectrum-run.js'
import { describeEstimate, type Estimate } from './train-estimate.js'

/** Times one product and adds up what Lanczos and the probes will ask for. */
export async function estimateSpectrum(
  { operator, device, set }: OpenedSpectrum,
  request: SpectrumRequest,
  signal: AbortSignal,
): Promise<Estimate> {
  const n = operator.size
  const v = normals(request.seed, 0, 0, n, new Float64Array(n))
  // The first product also linearises every chunk.
  const begin = performance.now()
  await operator.matvec(v, { signal })
  const middle = performance.now()
  await operator.matvec(v, { signal })
  const [first, product] = [middle - begin, performance.now() - middle]
  const ends = lanczosSteps(n, request)
  const steps = Math.min(n, request.steps)
  const products = request.exact ? n : ends + request.probes * steps
  const bytes = operator.layout.storage * (operator.dtype === 'f64' ? 8 : 4)
  const vectors = request.exact ? 2 * n : Math.max(ends, steps) + 1
  const sweeps = request.exact ? 0 : 1.5 * (ends ** 2 + request.probes * steps ** 2) * bytes
  const rate = await device.binding.copyBandwidth(2 ** 26, device.threads)
  return describeEstimate({
    n,
    samples: set.size,
    products,
    memory_bytes: device.memory().peakBytes + vectors * (request.exact ? 8 * n : bytes),
    time_ms: first + products * product + (1000 * sweeps) / rate,
  })
}
