import { requireArguments } from '../arguments.js'
import { orAborted, withProgress } from '../callbacks.js'
import { withSignal } from '../device/native-call.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import { requireOptions } from '../options.js'
import { normals, rademacher } from '../random/index.js'
import { meanAndError } from './measure.js'
import {
  allocate,
  isNative,
  type LinearOperator,
  type NativeLinearOperator,
  oneOf,
  requireFinite,
} from './operator.js'
import { applyNative } from './tangents.js'

export interface TraceOptions {
  /** Products, the upper limit when `tol` is given. Default 100. */
  readonly products?: number
  /** Stop when the standard error is at most this fraction of |mean| (after 10 products). */
  readonly tol?: number
  /** Default 'rademacher' (variance 2 (||A||_F² - Σ a_ii²)); 'normal' has 2 ||A||_F². */
  readonly distribution?: 'rademacher' | 'normal'
  readonly seed?: number
  readonly signal?: AbortSignal
  readonly onProgress?: (done: number, products: number) => void
}

export interface TraceResult {
  readonly value: number
  /** Of the mean over probes; NaN for a single one. */
  readonly standardError: number
  /** zᵀ A z of every probe. */
  readonly samples: Float64Array
}

/** Probes that share a pass over the data. */
const BLOCK = 8

/**
 * Hutchinson's estimate of the trace: the mean of zᵀ A z over random probes z with E[z zᵀ] = I.
 * Probe p is stream p of the seed. Cost: one product per probe, several per pass over the data.
 * Source: Hutchinson 1990.
 *
 * @throws ERR_ARGUMENT, ERR_ABORTED
 */
export async function hutchinsonTrace(
  operator: LinearOperator,
  options: TraceOptions = {},
): Promise<TraceResult> {
  requireArguments('hutchinsonTrace()', { operator })
  requireOptions('hutchinsonTrace()', options, [
    ...(['products', 'tol', 'distribution', 'seed', 'signal', 'onProgress'] as const),
  ])
  const { products = 100, tol, distribution = 'rademacher' } = options
  if (!Number.isInteger(products) || products < 1) {
    throw new LosscapeError('ERR_ARGUMENT', `products must be a positive integer, got ${products}.`)
  }
  if (tol !== undefined && !(tol >= 0)) {
    throw new LosscapeError('ERR_ARGUMENT', `tol must not be negative, got ${tol}.`)
  }
  oneOf('distribution', distribution, ['rademacher', 'normal'])
  return withProgress(options, (guarded) => meanOfForms(operator, products, guarded))
}

async function meanOfForms(
  operator: LinearOperator,
  products: number,
  { tol, distribution = 'rademacher', seed = 0, signal, onProgress }: TraceOptions,
): Promise<TraceResult> {
  const quadratic = isNative(operator) ? nativeForms(operator) : hostForms(operator)
  const samples: number[] = []
  try {
    while (samples.length < products) {
      throwIfAborted(signal)
      const count = Math.min(BLOCK, products - samples.length)
      samples.push(...(await quadratic.forms(distribution, seed, samples.length, count, signal)))
      onProgress?.(samples.length, products)
      const { value, standardError } = meanAndError(samples)
      if (tol !== undefined && samples.length >= 10 && standardError <= tol * Math.abs(value)) break
    }
  } finally {
    quadratic.dispose()
  }
  requireFinite(samples)
  return { ...meanAndError(samples), samples: Float64Array.from(samples) }
}

/** Computes zᵀ A z for the probes first .. first + count - 1. */
interface QuadraticForms {
  forms(
    kind: 'rademacher' | 'normal',
    seed: number,
    first: number,
    count: number,
    signal?: AbortSignal,
  ): Promise<number[]>
  dispose(): void
}

/** Probes are drawn, multiplied and summed on the device; only the sums come back. */
function nativeForms({ device, native, layout, dtype }: NativeLinearOperator): QuadraticForms {
  const { binding } = device
  const bytes = layout.storage * (dtype === 'f64' ? 8 : 4)
  const probes = binding.createBuffer(BLOCK * bytes)
  const products = binding.createBuffer(BLOCK * bytes)
  const segments = layout.segments()
  return {
    forms: (kind, seed, first, count, signal) =>
      withSignal(binding, signal, async (token) => {
        const rows = Array.from({ length: count }, (_, r) => r * bytes)
        // Queued together, in order.
        const drawn = rows.map((offset, r) => {
          const view = { buffer: probes, offset }
          return binding.fillProbe(view, dtype, segments, kind, seed, first + r, { token })
        })
        const z = { buffer: probes, offset: 0 }
        const applied = applyNative(native, z, { buffer: products, offset: 0 }, count, { token })
        const sums = rows.map((offset) => {
          const a = { buffer: probes, offset }
          return binding.dot(a, { buffer: products, offset }, layout.storage, dtype, { token })
        })
        const [forms] = await Promise.all([Promise.all(sums), applied, ...drawn])
        return forms
      }),
    dispose: () => {
      probes.dispose()
      products.dispose()
    },
  }
}

function hostForms(operator: LinearOperator): QuadraticForms {
  const n = operator.size
  return {
    async forms(kind, seed, first, count, signal) {
      const fill = kind === 'normal' ? normals : rademacher
      const z = allocate(operator.dtype, count * n)
      for (let r = 0; r < count; r++) {
        fill(seed, first + r, 0, n, z.subarray(r * n, (r + 1) * n))
      }
      const az = await orAborted(operator.matmat(z, count, { signal }), signal)
      return Array.from({ length: count }, (_, r) => {
        let dot = 0
        for (let i = r * n; i < (r + 1) * n; i++) dot += z[i] * az[i]
        return dot
      })
    },
    dispose: () => {},
  }
}
