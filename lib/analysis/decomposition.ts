import { argumentError, requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import { exactSpectrum } from '../curvature/dense.js'
import { functional, largestMagnitude, type SpectralMeasure } from '../curvature/measure.js'
import { EPSILON, type LinearOperator } from '../curvature/operator.js'
import { slq } from '../curvature/slq.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'

/** The three matrices of H = G + F, of one network at one point. */
export interface Decomposition {
  readonly hessian: LinearOperator
  readonly gaussNewton: LinearOperator
  /** F, computed directly: the difference of two f32 products would be mostly rounding. */
  readonly remainder: LinearOperator
}

export interface DecompositionOptions {
  /** All eigenvalues by the dense path up to this n, quadrature beyond. Default 2000. */
  readonly exactUpTo?: number
  /** Of the quadrature. Default 10 and 80. */
  readonly probes?: number
  readonly steps?: number
  /** Default 0. */
  readonly seed?: number
  readonly signal?: AbortSignal
  /** Matrices done, and the share of the one under way. */
  readonly onProgress?: (done: number, total: number) => void
}

/** What is known of one of the three matrices. */
export interface SpectrumPart {
  /** One probe with equal weights when exact. */
  readonly measure: SpectralMeasure
  readonly frobenius: number
  readonly largest: number
  readonly smallest: number
  /** Below it in magnitude an eigenvalue's sign is rounding: √n ε max |λ|. */
  readonly floor: number
  /** Share of eigenvalues below -floor. */
  readonly negativeShare: number
}

export interface DecompositionGap {
  readonly size: number
  readonly exact: boolean
  /** ‖H - G‖_F / ‖H‖_F: 0 where the network's own curvature has gone. */
  readonly gap: number
  /** The same in the spectral norm. */
  readonly spectralGap: number
  /** -λ_min(H) / λ_max(H). */
  readonly negativeRatio: number
  readonly hessian: SpectrumPart
  readonly gaussNewton: SpectrumPart
  readonly remainder: SpectrumPart
}

/**
 * How far the Hessian is from its Gauss-Newton part, and where its negative eigenvalues come from:
 * G has none for a convex loss, so all come from F, which fades as the samples are fitted.
 *
 * Costs 3 n products when exact, else 3 · probes · steps. Source: Sagun et al. 2017, section 3.
 *
 * @throws ERR_ARGUMENT for operators of different sizes, ERR_OPERATOR, ERR_ABORTED
 */
export async function decompositionGap(
  parts: Decomposition,
  options: DecompositionOptions = {},
): Promise<DecompositionGap> {
  requireOptions('decompositionGap()', options, [
    ...(['exactUpTo', 'probes', 'steps', 'seed', 'signal', 'onProgress'] as const),
  ])
  for (const operator of [parts?.hessian, parts?.gaussNewton, parts?.remainder]) {
    requireArguments('decompositionGap()', { operator })
  }
  return withProgress(options, (guarded) => decompose(parts, guarded))
}

async function decompose(
  parts: Decomposition,
  options: DecompositionOptions,
): Promise<DecompositionGap> {
  const size = parts.hessian.size
  if (parts.gaussNewton.size !== size || parts.remainder.size !== size) {
    const sizes = [size, parts.gaussNewton.size, parts.remainder.size].join(', ')
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `The three matrices must be of one network; their sizes are ${sizes}.`,
    )
  }
  const { exactUpTo = 2000 } = options
  if (typeof exactUpTo !== 'number' || Number.isNaN(exactUpTo)) {
    throw argumentError('decompositionGap()', 'exactUpTo', 'a number', exactUpTo)
  }
  const exact = size <= exactUpTo
  const part = async (index: number, operator: LinearOperator): Promise<SpectrumPart> => {
    const measure = await measureOf(operator, exact, options, (share) =>
      options.onProgress?.(index + share, 3),
    )
    options.onProgress?.(index + 1, 3)
    return describe(measure, operator)
  }
  const hessian = await part(0, parts.hessian)
  const gaussNewton = await part(1, parts.gaussNewton)
  const remainder = await part(2, parts.remainder)
  const radius = (p: SpectrumPart): number => Math.max(Math.abs(p.largest), Math.abs(p.smallest))
  return {
    size,
    exact,
    gap: remainder.frobenius / hessian.frobenius,
    spectralGap: radius(remainder) / radius(hessian),
    negativeRatio: Math.max(0, -hessian.smallest / hessian.largest),
    hessian,
    gaussNewton,
    remainder,
  }
}

async function measureOf(
  operator: LinearOperator,
  exact: boolean,
  { probes = 10, steps = 80, seed = 0, signal }: DecompositionOptions,
  report: (share: number) => void,
): Promise<SpectralMeasure> {
  if (exact) {
    const onProgress = (done: number, total: number): void => report(done / total)
    const { values } = await exactSpectrum(operator, { signal, onProgress })
    return measureFrom(values)
  }
  return slq(operator, {
    probes,
    steps,
    seed,
    signal,
    onProgress: (p) => report((p.probe + p.step / p.steps) / p.probes),
  })
}

/** All eigenvalues of a matrix as a measure of one probe. */
export function measureFrom(values: ArrayLike<number>): SpectralMeasure {
  return {
    nodes: [Float64Array.from(values)],
    weights: [new Float64Array(values.length).fill(1 / values.length)],
  }
}

function describe(measure: SpectralMeasure, operator: LinearOperator): SpectrumPart {
  const all = measure.nodes.flatMap((row) => Array.from(row))
  const floor = Math.sqrt(operator.size) * EPSILON[operator.dtype] * largestMagnitude(measure)
  return {
    measure,
    frobenius: Math.sqrt(functional(measure, (t) => t * t, operator.size).value),
    largest: Math.max(...all),
    smallest: Math.min(...all),
    floor,
    negativeShare: functional(measure, (t) => (t < -floor ? 1 : 0), 1).value,
  }
}
