import { LosscapeError } from '../errors.js'
import type { LanczosState } from '../native.js'
import type { FloatVector } from '../nn/layout.js'
import type { LanczosRun, Reorthogonalize } from './lanczos-run.js'
import { EPSILON, type LinearOperator, type Precision } from './operator.js'

/**
 * A Lanczos run up to some product. Until a thick restart, later checkpoints share the basis vectors
 * of earlier ones and add one per product: they can be stored by appending.
 */
export interface LanczosCheckpoint {
  /** n */
  readonly size: number
  readonly dtype: Precision
  readonly seed: number
  readonly reorthogonalize: Reorthogonalize
  /** Rows that the basis may have; null when it was not limited. */
  readonly basisSize: number | null
  readonly state: LanczosState
  /**
   * steps + 1 vectors of n elements, steps when the space is exhausted; with
   * `checkpointRows: 'new'` without the first `firstRow`, which an earlier checkpoint had.
   */
  readonly basis: readonly FloatVector[]
  readonly firstRow: number
  /** What the last test for further copies of the values saw. */
  readonly copies: CopiesSeen
}

/** Values noted while the last of `spaces` Krylov spaces was under way, or just complete. */
export interface CopiesSeen {
  readonly spaces: number
  readonly values: Float64Array | null
}

interface SaverOptions {
  readonly header: Pick<
    LanczosCheckpoint,
    'size' | 'dtype' | 'seed' | 'reorthogonalize' | 'basisSize'
  >
  readonly every: number
  /** 'new': only vectors that no checkpoint has had. */
  readonly rows: 'all' | 'new'
  readonly resume?: LanczosCheckpoint
  readonly onCheckpoint?: (checkpoint: LanczosCheckpoint) => void
}

/** Hands out checkpoints; reads only the basis vectors that are new. */
export class CheckpointSaver {
  private basis: readonly FloatVector[]
  private rows: number
  private saved: number
  private restarts: number

  constructor(
    private readonly run: LanczosRun,
    private readonly options: SaverOptions,
  ) {
    const { resume, rows } = options
    this.basis = rows === 'all' && resume ? resume.basis : []
    this.rows = resume?.basis.length ?? 0
    this.saved = run.state.products
    this.restarts = run.state.restarts
  }

  /** Products until the next one is due. */
  get left(): number {
    if (!this.options.onCheckpoint) return Infinity
    return Math.max(1, this.saved + this.options.every - this.run.state.products)
  }

  async saveIfDue(copies: CopiesSeen): Promise<void> {
    if (this.run.state.products >= this.saved + this.options.every) await this.save(copies)
  }

  async save(copies: CopiesSeen): Promise<void> {
    const { header, rows, onCheckpoint } = this.options
    const { state } = this.run
    if (!onCheckpoint || state.products === 0) return
    if (state.restarts !== this.restarts) {
      this.basis = []
      this.rows = 0
    }
    const fresh = await this.run.readBasis(this.rows)
    const basis = rows === 'all' ? [...this.basis, ...fresh] : fresh
    const { size, dtype, seed, reorthogonalize, basisSize } = header
    const firstRow = rows === 'all' ? 0 : this.rows
    this.restarts = state.restarts
    this.saved = state.products
    this.rows += fresh.length
    if (rows === 'all') this.basis = basis
    await onCheckpoint({
      ...{ size, dtype, seed, reorthogonalize, basisSize },
      ...{ state, basis, firstRow, copies },
    })
  }
}

/**
 * Refuses a checkpoint of another size, precision, seed or reorthogonalisation, or a damaged one.
 * @throws ERR_ARGUMENT
 */
export function requireFit(
  checkpoint: LanczosCheckpoint,
  operator: LinearOperator,
  given: { seed?: number; reorthogonalize?: Reorthogonalize },
): LanczosCheckpoint {
  const refuse = (what: string): never => {
    throw new LosscapeError('ERR_ARGUMENT', `The checkpoint cannot be resumed: ${what}.`)
  }
  const { size, dtype, seed, reorthogonalize, state, basis } = checkpoint
  if (size !== operator.size || dtype !== operator.dtype) {
    refuse(`it has n = ${size} in ${dtype}, the operator n = ${operator.size} in ${operator.dtype}`)
  }
  if (given.seed !== undefined && given.seed !== seed) {
    refuse(`it was made with seed ${seed}, not ${given.seed}`)
  }
  if (given.reorthogonalize !== undefined && given.reorthogonalize !== reorthogonalize) {
    refuse(`it was made with reorthogonalize '${reorthogonalize}', not '${given.reorthogonalize}'`)
  }
  if (reorthogonalize === 'none') refuse("reorthogonalize 'none' keeps no basis")
  if (checkpoint.firstRow > 0) {
    refuse(
      `its first ${checkpoint.firstRow} basis vectors are those of earlier checkpoints: put them before its own`,
    )
  }
  const rows = state.steps + (state.exhausted ? 0 : 1)
  if (basis.length !== rows || basis.some((v) => v.length !== size)) {
    refuse(`${state.steps} steps need ${rows} basis vectors of n = ${size} elements`)
  }
  const numbers = [state.alpha, state.beta]
  if (numbers.some((list) => list.length !== state.steps || !list.every(Number.isFinite))) {
    refuse(`${state.steps} steps need as many finite alpha and beta`)
  }
  return checkpoint
}

/** Rounding of a product against its record; another operator is off by far more. */
const LIMIT = { f32: 1e-4, f64: 1e-9 } as const

/**
 * One product shows whether a checkpoint is this operator's: A V[0] lies in the span of V[0] and
 * the vector that it couples to.
 * @throws ERR_ARGUMENT
 */
export async function requireSameOperator(
  { state, basis, dtype }: LanczosCheckpoint,
  operator: LinearOperator,
  signal?: AbortSignal,
): Promise<void> {
  if (state.steps === 0) return
  const product = await operator.matvec(basis[0], { signal })
  const other = basis[state.kept > 0 ? state.kept : 1]
  let rest = 0
  let square = 0
  for (let i = 0; i < product.length; i++) {
    square += product[i] ** 2
    const coupled = other === undefined ? 0 : state.beta[0] * other[i]
    rest += (product[i] - state.alpha[0] * basis[0][i] - coupled) ** 2
  }
  const norm = Math.max(Math.sqrt(square), ...state.alpha.map(Math.abs))
  const error = Math.sqrt(rest)
  // Ritz vectors are rounded anew by every restart.
  const limit = LIMIT[dtype] + EPSILON[dtype] * state.restarts
  if (error <= limit * norm) return
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `The checkpoint belongs to another operator (other parameters, data or loss): a product is off by ${(error / norm).toExponential(1)} from what it recorded.`,
  )
}
