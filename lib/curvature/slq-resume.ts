import { LosscapeError } from '../errors.js'
import { rademacher } from '../random/index.js'
import { checkMeasure, type SpectralMeasure } from './measure.js'
import { allocate, type LinearOperator } from './operator.js'

/** Probes finished earlier, with what they belong to where it is known (as in a result of slq). */
export interface FinishedProbes extends SpectralMeasure {
  readonly size?: number
  readonly seed?: number
}

/** Weights are squares of a unit vector's components, maybe printed with few digits. */
const SUM = 1e-6

/**
 * @throws ERR_ARGUMENT unless every probe has ascending nodes, no more than `steps`, and
 * non-negative weights that sum to 1, and size and seed are the run's where they are there
 */
export function requireProbes(
  resume: FinishedProbes,
  { size, steps, seed }: { size: number; steps: number; seed: number },
): void {
  const refuse = (what: string): never => {
    throw new LosscapeError('ERR_ARGUMENT', `The probes cannot be resumed: ${what}.`)
  }
  if (resume.size !== undefined && resume.size !== size) {
    refuse(`they have n = ${resume.size}, the operator n = ${size}`)
  }
  if (resume.seed !== undefined && resume.seed !== seed) {
    refuse(`they were made with seed ${resume.seed}, not ${seed}`)
  }
  if (resume.nodes?.length === 0 && resume.weights?.length === 0) return
  try {
    checkMeasure(resume)
  } catch (cause) {
    throw new LosscapeError('ERR_ARGUMENT', (cause as Error).message, { cause })
  }
  for (const [p, nodes] of resume.nodes.entries()) {
    const weights = Array.from(resume.weights[p])
    if (nodes.length > steps)
      refuse(`probe ${p} has ${nodes.length} nodes, more than ${steps} steps`)
    if (Array.from(nodes).some((t, l) => l > 0 && t < nodes[l - 1])) {
      refuse(`the nodes of probe ${p} do not ascend`)
    }
    const sum = weights.reduce((total, w) => total + w, 0)
    if (weights.some((w) => w < 0) || !(Math.abs(sum - 1) <= SUM)) {
      refuse(`the weights of probe ${p} must not be negative and sum to 1, not ${sum}`)
    }
  }
}

/** Rounding of a product, relative to its norm; other seeds and operators are off by 1/√n. */
const LIMIT = { f32: 1e-5, f64: 1e-9 } as const

/**
 * One product shows whether probes are of this operator and seed: the first two moments of probe 0
 * are vᵀAv / n and ||Av||² / n.
 * @throws ERR_ARGUMENT
 */
export async function requireSameProbes(
  { nodes, weights }: FinishedProbes,
  operator: LinearOperator,
  seed: number,
  signal?: AbortSignal,
): Promise<void> {
  if (nodes.length === 0) return
  const { size, dtype } = operator
  const v = rademacher(seed, 0, 0, size, allocate(dtype, size))
  const product = await operator.matvec(v, { signal })
  const found = [0, 0]
  for (let i = 0; i < size; i++) {
    found[0] += (v[i] * product[i]) / size
    found[1] += product[i] ** 2 / size
  }
  const known = [1, 2].map((power) =>
    Array.from(nodes[0]).reduce((sum, t, l) => sum + weights[0][l] * t ** power, 0),
  )
  const scale = Math.sqrt(Math.max(found[1], known[1]))
  const errors = [Math.abs(found[0] - known[0])]
  // A rule of one node knows the mean only.
  if (nodes[0].length > 1) errors.push(Math.abs(Math.sqrt(found[1]) - Math.sqrt(known[1])))
  const error = Math.max(...errors)
  if (error <= LIMIT[dtype] * scale) return
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `The probes belong to another seed or operator (other parameters, data or loss): a moment is off by ${(error / scale).toExponential(1)}.`,
  )
}
