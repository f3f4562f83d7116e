import { LosscapeError } from '../errors.js'
import { basisRowBytes, type LanczosRun, type Reorthogonalize } from './lanczos-run.js'
import { EPSILON, type LinearOperator } from './operator.js'
import type { ProjectedEigen } from './projection.js'
import { pickRitz, type Which } from './ritz.js'

export interface BasisLimits {
  readonly k: number
  /** Products wanted; undefined for the default. */
  readonly maxSteps?: number
  /** Bytes of the basis. */
  readonly memory?: number
  /** Rows of the basis. */
  readonly basisSize?: number
  readonly reorthogonalize: Reorthogonalize
}

export interface BasisPlan {
  /** Columns of the projection at most. */
  readonly columns: number
  /** Products at most. */
  readonly products: number
}

/** Steps until convergence that most spectra need without a restart. */
function usualSteps(k: number): number {
  return Math.max(2 * k + 20, k + 40)
}

/** Restarts forget: they take more products in all. */
const RESTARTED = 10

/** Ritz vectors that a restart keeps beside the wanted ones, so that those converge faster. */
function spare(k: number): number {
  return k + Math.min(k, 10)
}

/**
 * Whether the wanted steps fit into the basis, or thick restarts are needed.
 * @throws ERR_ARGUMENT with the least bytes when one restart does not fit
 */
export function planBasis(operator: LinearOperator, limits: BasisLimits): BasisPlan {
  const { size } = operator
  const { k, memory, basisSize, reorthogonalize } = limits
  const bytes = basisRowBytes(operator)
  const rows = Math.min(basisSize ?? Infinity, memory ? Math.floor(memory / bytes) : Infinity)
  const wanted = Math.min(size, limits.maxSteps ?? usualSteps(k))
  if (wanted + 1 <= rows || reorthogonalize === 'none') return { columns: wanted, products: wanted }
  // A cycle is worth something from two products on.
  const least = Math.min(wanted, size, spare(k) + 2) + 1
  if (rows < least) {
    const given = memory === undefined ? `basisSize ${basisSize}` : `${memory} bytes`
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `k = ${k} of n = ${size} need a basis of at least ${least} rows, ${least * bytes} bytes; got ${given}. Raise it, or ask for fewer eigenvalues.`,
    )
  }
  if (reorthogonalize !== 'cgs2' && reorthogonalize !== 'cgs1') {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `A basis of ${rows} rows needs restarts, which reorthogonalize '${reorthogonalize}' does not allow: use 'cgs2', or at least ${(wanted + 1) * bytes} bytes.`,
    )
  }
  return { columns: rows - 1, products: limits.maxSteps ?? RESTARTED * usualSteps(k) }
}

export interface RestartSetting {
  readonly k: number
  readonly which: Which
  readonly tol: number
  readonly dtype: 'f32' | 'f64'
}

/**
 * Thick restart (Wu and Simon 2000): keeps the wanted Ritz vectors, up to ten more at their end of
 * the spectrum, and what else has converged while it leaves half of the room.
 */
export async function thickRestart(
  run: LanczosRun,
  { values, last, vectors }: ProjectedEigen,
  { k, which, tol, dtype }: RestartSetting,
): Promise<void> {
  const { steps, beta } = run.state
  const wanted = Math.min(spare(k), steps - 1)
  const kept = new Set(pickRitz(values, wanted, which))
  const norm = Math.max(Math.abs(values[0]), Math.abs(values[steps - 1]))
  const residual = (i: number): number => beta[steps - 1] * Math.abs(last[i])
  const converged = Array.from(values.keys())
    .filter((i) => !kept.has(i))
    .filter((i) => residual(i) <= Math.max(tol * Math.abs(values[i]), 10 * EPSILON[dtype] * norm))
    .sort((a, b) => residual(a) - residual(b) || a - b)
  const room = Math.floor(Math.max(0, steps - wanted - 1) / 2)
  for (const i of converged.slice(0, room)) kept.add(i)
  const indices = [...kept].sort((a, b) => b - a)
  const rows = new Float64Array(indices.length * steps)
  for (const [row, i] of indices.entries()) {
    rows.set((vectors as Float64Array).subarray(i * steps, (i + 1) * steps), row * steps)
  }
  await run.restart(
    rows,
    Float64Array.from(indices, (i) => values[i]),
  )
}
