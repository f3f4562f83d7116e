import { requireArguments } from '../arguments.js'
import { withProgress } from '../callbacks.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import type { LinearOperator } from './operator.js'
import { spaceOf, type VectorBlock, type VectorSpace } from './space.js'

export interface OperatorCheck {
  /** |uᵀAv - vᵀAu| / (||u|| ||Av|| + ||v|| ||Au||). */
  readonly asymmetry: number
  /** ||Av - (Av)'|| / ||Av|| of two products with one vector. */
  readonly nondeterminism: number
  /** ||Av|| / ||v||: what size the products have. */
  readonly scale: number
}

/** Of the random vectors; those of algorithms have low numbers. */
const STREAM = 2 ** 20

/** Rounding of f32 products over many samples stays well below this; real defects do not. */
const LIMIT = { f32: 1e-4, f64: 1e-9 } as const

export interface CheckOptions {
  /** Of the random vectors. Default 0. */
  readonly seed?: number
  readonly signal?: AbortSignal
  /** After each of the three products. */
  readonly onProgress?: (done: number, products: number) => void
}

const PRODUCTS = 3

/**
 * Probes an operator before a long run: three products show whether it is symmetric and
 * deterministic.
 * @throws ERR_OPERATOR naming what is wrong and by how much, ERR_ABORTED
 */
export async function checkOperator(
  operator: LinearOperator,
  options: CheckOptions = {},
): Promise<OperatorCheck> {
  requireArguments('checkOperator()', { operator })
  requireOptions('checkOperator()', options, ['seed', 'signal', 'onProgress'])
  return withProgress(options, (guarded) => probe(operator, guarded))
}

async function probe(
  operator: LinearOperator,
  { seed = 0, signal, onProgress }: CheckOptions,
): Promise<OperatorCheck> {
  const space = spaceOf(operator, { signal })
  const probes = space.allocate(2)
  const products = space.allocate(2)
  const again = space.allocate(1)
  let asymmetry: number
  let nondeterminism: number
  let magnitude: number
  try {
    await space.fill(probes, 'normal', seed, STREAM)
    const pairs = [
      [probes.rows(0, 1), products.rows(0, 1)],
      [probes.rows(1, 1), products.rows(1, 1)],
      [probes.rows(1, 1), again],
    ]
    for (const [i, [x, y]] of pairs.entries()) {
      await space.apply(x, y)
      onProgress?.(i + 1, PRODUCTS)
    }
    const [, uAv, vAu] = await space.gram(probes, products)
    const [u, v] = await norms(space, probes)
    const [au, av] = await norms(space, products)
    await space.combine([-1], products.rows(1, 1), again, true)
    const [change] = await norms(space, again)
    const scale = u * av + v * au
    asymmetry = scale === 0 ? 0 : Math.abs(uAv - vAu) / scale
    nondeterminism = change === 0 ? 0 : change / av
    magnitude = av / v
  } finally {
    for (const block of [probes, products, again]) block.dispose()
  }
  if (Number.isNaN(nondeterminism)) {
    throw new LosscapeError('ERR_OPERATOR', 'A product of the operator holds NaN or infinity.')
  }
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
  return { asymmetry, nondeterminism, scale: magnitude }
}

const checked = new WeakMap<LinearOperator, OperatorCheck>()

/** {@link checkOperator}, once in the life of an operator: what algorithms do by default. */
export async function checkOnce(
  operator: LinearOperator,
  signal?: AbortSignal,
): Promise<OperatorCheck> {
  requireArguments('The algorithm', { operator })
  const before = checked.get(operator)
  if (before) return before
  const check = await checkOperator(operator, { signal })
  checked.set(operator, check)
  return check
}

/** Squares outside of these may have left the range of f64. */
const SQUARES = { least: 1e-250, most: 1e300 } as const

async function norms(space: VectorSpace, x: VectorBlock): Promise<number[]> {
  const gram = await space.gram(x, x)
  const squares = Array.from({ length: x.count }, (_, i) => gram[i * x.count + i])
  if (squares.every((s) => s >= SQUARES.least && s <= SQUARES.most)) return squares.map(Math.sqrt)
  return Promise.all(squares.map((_, i) => scaledNorm(space, x, i)))
}

async function scaledNorm(space: VectorSpace, x: VectorBlock, row: number): Promise<number> {
  const vector = await space.read(x, row)
  let largest = 0
  for (const value of vector) largest = Math.max(largest, Math.abs(value))
  if (largest === 0 || !Number.isFinite(largest)) return largest
  let sum = 0
  for (const value of vector) sum += (value / largest) ** 2
  return largest * Math.sqrt(sum)
}
