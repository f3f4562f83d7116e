import { LosscapeError } from '../errors.js'
import type { FloatVector } from '../nn/layout.js'
import { uniforms } from '../random/index.js'
import { allocate, type LinearOperator } from './operator.js'

export interface OperatorCheck {
  /** |uᵀAv - vᵀAu| / (||u|| ||Av|| + ||v|| ||Au||). */
  readonly asymmetry: number
  /** ||Av - (Av)'|| / ||Av|| of two products with one vector. */
  readonly nondeterminism: number
}

/** Rounding of f32 products over many samples stays well below this; real defects do not. */
const LIMIT = { f32: 1e-4, f64: 1e-9 } as const

/**
 * Probes an operator before a long run: three products show whether it is symmetric and
 * deterministic.
 * @throws ERR_OPERATOR naming what is wrong and by how much
 */
export async function checkOperator(
  operator: LinearOperator,
  options: { seed?: number; signal?: AbortSignal } = {},
): Promise<OperatorCheck> {
  const { seed = 0, signal } = options
  const probe = (stream: number): FloatVector =>
    uniforms(seed, 2 ** 20 + stream, 0, operator.size, allocate(operator.dtype, operator.size)).map(
      (x) => x - 0.5,
    )
  const u = probe(0)
  const v = probe(1)
  const au = await operator.matvec(u, { signal })
  const av = await operator.matvec(v, { signal })
  const again = await operator.matvec(v, { signal })
  const scale = norm(u) * norm(av) + norm(v) * norm(au)
  const asymmetry = scale === 0 ? 0 : Math.abs(dot(u, av) - dot(v, au)) / scale
  const change = norm(av.map((x, i) => x - again[i]))
  const nondeterminism = change === 0 ? 0 : change / norm(av)
  const limit = LIMIT[operator.dtype]
  // Written so that a NaN fails too.
  if (!(nondeterminism <= limit)) {
    throw new LosscapeError(
      'ERR_OPERATOR',
      `The operator is not deterministic: two products with one vector differ by ${nondeterminism.toExponential(1)} of their norm.`,
    )
  }
  if (!(asymmetry <= limit)) {
    throw new LosscapeError(
      'ERR_OPERATOR',
      `The operator is not symmetric: uᵀAv and vᵀAu differ by ${asymmetry.toExponential(1)} of their scale.`,
    )
  }
  return { asymmetry, nondeterminism }
}

const checked = new WeakSet<LinearOperator>()

/** {@link checkOperator}, once in the life of an operator: what algorithms do by default. */
export async function checkOnce(operator: LinearOperator, signal?: AbortSignal): Promise<void> {
  if (checked.has(operator)) return
  await checkOperator(operator, { signal })
  checked.add(operator)
}

function dot(a: FloatVector, b: FloatVector): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i]
  return sum
}

function norm(a: FloatVector): number {
  return Math.sqrt(dot(a, a))
}
