import { requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import { defaultBinding } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import { LosscapeError } from '../errors.js'
import type { FloatVector } from '../nn/layout.js'
import { requireOptions } from '../options.js'
import { BlockKrylov, type BlockState } from './block-krylov.js'
import { checkOnce } from './check.js'
import type { EigenResult } from './lanczos.js'
import { EPSILON, isNative, type LinearOperator, oneOf, type Precision } from './operator.js'
import { type Selection, selectRitz, WHICH, type Which } from './ritz.js'
import { spaceOf } from './space.js'

export interface BlockLanczosProgress {
  readonly products: number
  readonly maxProducts: number
  /** Ritz values wanted that have converged, of those wanted. */
  readonly converged: number
  readonly wanted: number
}

export interface BlockLanczosOptions {
  /** Eigenvalues wanted, copies counted. Default 6; at most n. */
  readonly k?: number
  /** Default 'largest'. 'both-ends' takes ⌈k/2⌉ from the top and ⌊k/2⌋ from the bottom. */
  readonly which?: Which
  /** Vectors that are multiplied together. Default 8; at most n. */
  readonly block?: number
  /** Converged: residual ≤ max(tol |θ|, 10 eps ||A||). Default 1e-4 in f32, 1e-8 in f64. */
  readonly tol?: number
  /** Whole blocks are multiplied while they fit. Default min(n, 2k + 20 block). */
  readonly maxProducts?: number
  /** Seed of the start block. Default 0. */
  readonly seed?: number
  /** Also return Ritz vectors. Default false. */
  readonly vectors?: boolean
  /** Called with all that a later run needs to go on, and on abort. */
  readonly onCheckpoint?: (checkpoint: BlockLanczosCheckpoint) => void | Promise<void>
  /** Products between checkpoints. Default 80. */
  readonly checkpointEvery?: number
  /**
   * Goes on from a checkpoint of the same operator, seed and block, bit for bit when the other
   * options are the same too; k and which may differ. One product tells whether the operator is the
   * same, unless `check` is false.
   */
  readonly resume?: BlockLanczosCheckpoint
  /** Probe symmetry and determinism first, once per operator (3 products). Default true. */
  readonly check?: boolean
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: BlockLanczosProgress) => void
}

/** A block Lanczos run up to some block. Later checkpoints share vectors of earlier ones. */
export interface BlockLanczosCheckpoint {
  /** n */
  readonly size: number
  readonly dtype: Precision
  readonly seed: number
  readonly block: number
  readonly state: BlockState
  /** Basis vectors of n elements, those that wait for their products included. */
  readonly basis: readonly FloatVector[]
  /** What the last test for further copies of the values saw. */
  readonly copies: BlockCopiesSeen
}

/** Values found after a number of products and of restarts. */
export interface BlockCopiesSeen {
  readonly products: number
  readonly restarts: number
  readonly values: Float64Array | null
}

export interface BlockEigenResult
  extends Pick<EigenResult, 'values' | 'residuals' | 'errorBounds' | 'converged' | 'vectors'> {
  /** Products with single vectors. */
  readonly products: number
  /** Passes of the operator, each over a block of vectors. */
  readonly blocks: number
  /** T = V A Vᵀ, row-major [products, products], block tridiagonal. */
  readonly projection: Float64Array
  readonly diagnostics: {
    /** Largest difference of a coupling of two blocks from its two sides / ||A||. */
    readonly asymmetry: number
    readonly noise: number
    /** Blocks after which an invariant subspace was complete, or -1. */
    readonly invariantSubspaceAt: number
    readonly exhausted: boolean
  }
}

/**
 * Extreme eigenvalues with their multiplicities by block Lanczos with full reorthogonalisation: a
 * block of vectors shares every pass over the data, and each eigenvalue is found as often as the
 * block has rows; where blocks become dependent random vectors take over, which find further
 * copies. For simple eigenvalues `lanczos` needs fewer products and less time: a product of several
 * vectors costs less than as many single ones only where the pass over the data itself is dear.
 *
 * What has not converged within `maxProducts` is returned with its residual and
 * `converged: false`; nothing is thrown for it.
 *
 * Memory (products + 2 block) n; cost per block one product of `block` vectors and two reads of
 * the basis. Sources: Golub & Underwood 1977; {@link orthonormalize} for the orthogonalisation.
 *
 * @throws ERR_ARGUMENT for k outside 1..n or a checkpoint of something else, ERR_NOT_FINITE when a
 * product is not finite, ERR_OPERATOR for an operator that is not symmetric, ERR_ABORTED
 */
export async function blockLanczos(
  operator: LinearOperator,
  options: BlockLanczosOptions = {},
): Promise<BlockEigenResult> {
  requireArguments('blockLanczos()', { operator })
  requireOptions('blockLanczos()', options, [
    ...(['k', 'which', 'block', 'tol', 'maxProducts', 'seed', 'vectors', 'check'] as const),
    ...(['onCheckpoint', 'checkpointEvery', 'resume', 'signal', 'onProgress'] as const),
  ])
  return withProgress(options, (guarded) => extremeEigenvalues(readOptions(operator, guarded)))
}

async function extremeEigenvalues(wanted: Wanted): Promise<BlockEigenResult> {
  const { operator, block, maxProducts, seed, options } = wanted
  const { resume, check = true, signal } = options
  if (check) await checkOnce(operator, signal)
  const space = spaceOf(operator, { signal })
  const run = new BlockKrylov(space, { block, maxRows: maxProducts, seed })
  try {
    if (resume) await run.resume(resume.state, resume.basis)
    else await run.start()
    if (resume && check) await requireSameOperator(run, operator)
    const { ritz, vectors: s } = await untilConverged(run, wanted)
    const { state } = run
    const vectors = options.vectors ? await ritzVectors(run, ritz, s) : undefined
    const norm = ritz.norm || 1
    return {
      values: ritz.values,
      residuals: ritz.residuals,
      errorBounds: ritz.errorBounds,
      converged: ritz.converged,
      vectors,
      products: state.products,
      blocks: run.blocksDone,
      projection: state.matrix,
      diagnostics: {
        asymmetry: state.asymmetry / norm,
        noise: state.noise / norm,
        invariantSubspaceAt: state.invariantSubspaceAt,
        exhausted: run.waiting === 0,
      },
    }
  } finally {
    run.dispose()
  }
}

interface Wanted {
  readonly operator: LinearOperator
  readonly k: number
  readonly which: Which
  readonly block: number
  readonly tol: number
  readonly maxProducts: number
  readonly seed: number
  readonly options: BlockLanczosOptions
}

function readOptions(operator: LinearOperator, options: BlockLanczosOptions): Wanted {
  const { size, dtype } = operator
  const { resume, tol = dtype === 'f32' ? 1e-4 : 1e-8 } = options
  const seed = options.seed ?? resume?.seed ?? 0
  const block = Math.min(size, requireCount('block', options.block ?? resume?.block ?? 8))
  const k = requireCount('k', options.k ?? Math.min(6, size))
  if (k > size) {
    throw new LosscapeError('ERR_ARGUMENT', `k must be at most n = ${size}, got ${k}.`)
  }
  const most = requireCount('maxProducts', options.maxProducts ?? 2 * k + 20 * block)
  if (most < Math.max(k, block)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `maxProducts must be at least k = ${k} and the block of ${block}, got ${most}.`,
    )
  }
  requireCount('checkpointEvery', options.checkpointEvery ?? 80)
  if (typeof tol !== 'number' || !(tol >= 0)) {
    throw new LosscapeError('ERR_ARGUMENT', `tol must not be negative, got ${String(tol)}.`)
  }
  if (resume) requireFit(resume, operator, block, seed)
  const which = oneOf('which', options.which ?? 'largest', WHICH)
  const maxProducts = Math.min(size, most)
  return { operator, k, which, block, tol, maxProducts, seed, options }
}

function requireCount(name: string, value: number): number {
  if (Number.isSafeInteger(value) && value >= 1) return value
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `${name} must be a positive integer, got ${String(value)}.`,
  )
}

function requireFit(
  checkpoint: BlockLanczosCheckpoint,
  operator: LinearOperator,
  block: number,
  seed: number,
): void {
  const refuse = (what: string): never => {
    throw new LosscapeError('ERR_ARGUMENT', `The checkpoint cannot be resumed: ${what}.`)
  }
  const { size, dtype, basis, state } = checkpoint
  if (size !== operator.size || dtype !== operator.dtype) {
    refuse(`it has n = ${size} in ${dtype}, the operator n = ${operator.size} in ${operator.dtype}`)
  }
  if (checkpoint.block !== block) refuse(`it was made with blocks of ${checkpoint.block}`)
  if (checkpoint.seed !== seed) refuse(`it was made with seed ${checkpoint.seed}, not ${seed}`)
  const rows = state.blocks.reduce((sum, count) => sum + count, 0)
  if (basis.length !== rows || basis.some((v) => v.length !== size)) {
    refuse(`its blocks need ${rows} basis vectors of n = ${size} elements`)
  }
  if (state.matrix.length !== state.products ** 2 || !state.matrix.every(Number.isFinite)) {
    refuse(`${state.products} products need as many rows and columns of finite numbers`)
  }
}

/** Rounding of a product against its record; another operator is off by far more. */
const LIMIT = { f32: 1e-4, f64: 1e-9 } as const

async function requireSameOperator(run: BlockKrylov, { dtype }: LinearOperator): Promise<void> {
  const mismatch = await run.mismatch()
  if (mismatch <= LIMIT[dtype]) return
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `The checkpoint belongs to another operator (other parameters, data or loss): a product is off by ${mismatch.toExponential(1)} from what it recorded.`,
  )
}

interface Ritz {
  readonly ritz: Selection
  /** Eigenvectors of T as rows, ascending. */
  readonly vectors: Float64Array
}

async function untilConverged(run: BlockKrylov, wanted: Wanted): Promise<Ritz> {
  const { k, maxProducts, options } = wanted
  const copies = new CopyCheck(options.resume?.copies)
  const saver = new Saver(run, wanted, copies)
  try {
    for (;;) {
      const target = nextTest(run, k)
      while (canGoOn(run, wanted) && run.products < target) {
        await run.step()
        await saver.saveIfDue()
      }
      const found = await solve(run, wanted)
      const { products } = run
      const converged = found.ritz.converged.filter(Boolean).length
      options.onProgress?.({ products, maxProducts, converged, wanted: k })
      if (!canGoOn(run, wanted)) return found
      if (converged === k && copies.complete(run, found.ritz.values)) return found
      await run.step()
      await saver.saveIfDue()
    }
  } catch (error) {
    await saver.save()
    throw error
  }
}

/**
 * Products of the next test, by those before the last block alone, so that a resumed run tests
 * where the whole one does. A test costs O(products³): a constant share of them keeps it small.
 */
function nextTest({ products, lastBlock }: BlockKrylov, k: number): number {
  let test = k
  while (test <= products - lastBlock) test = Math.ceil(1.25 * test)
  return test
}

function canGoOn(run: BlockKrylov, { maxProducts }: Wanted): boolean {
  return run.waiting > 0 && run.products + run.waiting <= maxProducts
}

async function solve(run: BlockKrylov, wanted: Wanted): Promise<Ritz> {
  const { operator, k, which, tol, options } = wanted
  const { products } = run
  const binding = isNative(operator) ? operator.device.binding : defaultBinding()
  const solved = await withSignal(binding, options.signal, (token) =>
    binding.symmetricEigen(run.projected(), products, true, { token }),
  )
  const vectors = solved.vectors as Float64Array
  const last = Float64Array.from({ length: products }, (_, i) =>
    run.residual(vectors.subarray(i * products, (i + 1) * products)),
  )
  const epsilon = EPSILON[operator.dtype]
  const chosen = { k: Math.min(k, products), which, tol, epsilon }
  return { ritz: selectRitz({ values: solved.values, last }, 1, chosen), vectors }
}

/** Hands out checkpoints; reads only the basis vectors that are new. */
class Saver {
  private basis: FloatVector[]
  private saved: number

  constructor(
    private readonly run: BlockKrylov,
    private readonly wanted: Wanted,
    private readonly copies: CopyCheck,
  ) {
    this.basis = [...(wanted.options.resume?.basis ?? [])]
    this.saved = run.products
  }

  async saveIfDue(): Promise<void> {
    const every = this.wanted.options.checkpointEvery ?? 80
    if (this.run.products >= this.saved + every) await this.save()
  }

  async save(): Promise<void> {
    const { operator, block, seed, options } = this.wanted
    const { state } = this.run
    if (!options.onCheckpoint || state.products === 0) return
    this.basis = [...this.basis, ...(await this.run.read(this.basis.length))]
    this.saved = state.products
    const { size, dtype } = operator
    const { basis, copies } = this
    await options.onCheckpoint({ size, dtype, seed, block, state, basis, copies: copies.seen })
  }
}

/**
 * Dependent rows show that a Krylov space was complete in some direction; the random rows in their
 * place may find further copies of the values. All are found when these bring nothing new until
 * they in turn become dependent, or for as long as it took the rows before them.
 */
class CopyCheck {
  constructor(public seen: BlockCopiesSeen = { products: 0, restarts: 0, values: null }) {}

  complete({ products, restarts, blocksDone }: BlockKrylov, values: Float64Array): boolean {
    if (restarts.length === 0) return true
    const { seen } = this
    const scale = Math.max(Math.abs(values[0]), Math.abs(values[values.length - 1]))
    const same = seen.values?.every((v, i) => Math.abs(v - values[i]) <= 1e-6 * scale) ?? false
    if (same && seen.products < products) {
      return restarts.length > seen.restarts || blocksDone >= 2 * restarts[restarts.length - 1]
    }
    this.seen = { products, restarts: restarts.length, values }
    return false
  }
}

/** Y = S V for the selected rows of S. */
function ritzVectors(
  run: BlockKrylov,
  { indices }: Selection,
  vectors: Float64Array,
): Promise<FloatVector[]> {
  const { products } = run
  const factors = new Float64Array(indices.length * products)
  for (const [row, index] of indices.entries()) {
    factors.set(vectors.subarray(index * products, (index + 1) * products), row * products)
  }
  return run.combine(factors, indices.length)
}
