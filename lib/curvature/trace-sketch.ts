import { throwIfAborted } from '../errors.js'
import { dot, LEAVE_ONE_OUT, leaveOneOut } from './leave-one-out.js'
import { type Estimate, meanAndError } from './measure.js'
import type { LinearOperator } from './operator.js'
import { ROWS, rowDots, Sketch, type SketchOptions } from './sketch.js'

export interface SketchedTrace extends Estimate {
  readonly products: number
  readonly exact: boolean
}

interface Budget {
  readonly products: number
  readonly tol?: number
}

/** Rows of the first stage when a tolerance may end the run early. */
const FIRST_STAGE = 8

/**
 * XTrace: the mean over i of the Hutch++ estimates that take all rows of the sketch but i for the
 * basis and row i for the remainder,
 *   tr(QᵀAQ) - s_iᵀ(QᵀAQ) s_i + u_iᵀ A u_i,  u_i = w_i - Q (I - s_i s_iᵀ) Qᵀ w_i,
 * from Gram matrices alone, without a product per i. With a tolerance the sketch doubles until the
 * standard error is small enough; all products are used again.
 *
 * The estimates depend on each other: their spread over √q understates the error by 1.2 to 1.65 on
 * spectra of slow, fast and no decay. The standard error is √2 of it.
 * Source: Epperly, Tropp, Webber 2024, arXiv 2301.07825.
 */
export async function xtrace(
  operator: LinearOperator,
  { products, tol }: Budget,
  options: SketchOptions,
): Promise<SketchedTrace> {
  const capacity = Math.min(operator.size, Math.floor(products / 2))
  const sketch = Sketch.of(operator, capacity, options)
  try {
    for (;;) {
      const stage = tol === undefined ? capacity : Math.max(FIRST_STAGE, sketch.count)
      await sketch.grow(Math.min(stage, capacity - sketch.count))
      throwIfAborted(options.signal)
      if (sketch.complete) return await exactTrace(sketch)
      const { value, standardError: spread } = meanAndError(await leaveOneOutTraces(sketch))
      const standardError = LEAVE_ONE_OUT * spread
      const reached = tol !== undefined && standardError <= tol * Math.abs(value)
      if (reached || sketch.count === capacity) {
        return { value, standardError, products: sketch.products, exact: false }
      }
    }
  } finally {
    sketch.dispose()
  }
}

/**
 * Hutch++: the trace of QᵀAQ for a basis Q of A S, plus Hutchinson's estimate of the remainder
 * (I - QQᵀ) A (I - QQᵀ). A third of the products each for A S, A Q and the remainder; a tolerance
 * ends the last third early.
 * Source: Meyer, Musco, Musco, Woodruff 2021, arXiv 2010.09649.
 */
export async function hutchPlusPlus(
  operator: LinearOperator,
  { products, tol }: Budget,
  options: SketchOptions,
): Promise<SketchedTrace> {
  const rows = Math.min(operator.size, Math.floor(products / 3))
  const sketch = Sketch.of(operator, rows, options)
  const { space } = sketch
  const probes = space.allocate(Math.min(ROWS, products - 2 * rows))
  const images = space.allocate(probes.count)
  try {
    await sketch.grow(rows)
    throwIfAborted(options.signal)
    if (sketch.complete) return await exactTrace(sketch)
    const known = await projectedTrace(sketch)
    const samples: number[] = []
    for (;;) {
      const count = Math.min(probes.count, products - sketch.products - samples.length)
      const g = probes.rows(0, count)
      const stream = rows + samples.length
      await space.fill(g, options.distribution ?? 'rademacher', options.seed ?? 0, stream)
      await sketch.removeBasis(g)
      await sketch.apply(g, images.rows(0, count), sketch.products + samples.length)
      samples.push(...(await rowDots(space, g, images.rows(0, count))))
      throwIfAborted(options.signal)
      const { value: rest, standardError } = meanAndError(samples)
      const value = known + rest
      const used = sketch.products + samples.length
      const reached =
        tol !== undefined && samples.length >= 10 && standardError <= tol * Math.abs(value)
      if (reached || used >= products) {
        return { value, standardError, products: used, exact: false }
      }
    }
  } finally {
    for (const item of [sketch, probes, images]) item.dispose()
  }
}

/**
 * The trace of a matrix whose range the sketch spans. What was left out as rounding has the
 * Frobenius norm `remainder`, hence a trace of at most √n times that.
 */
async function exactTrace(sketch: Sketch): Promise<SketchedTrace> {
  const { rank, space, products, remainder } = sketch
  const value = rank === 0 ? 0 : await projectedTrace(sketch)
  return { value, standardError: Math.sqrt(space.size) * remainder, products, exact: true }
}

async function projectedTrace({ space, basis, images }: Sketch): Promise<number> {
  return (await rowDots(space, basis, images)).reduce((sum, x) => sum + x, 0)
}

async function leaveOneOutTraces(sketch: Sketch): Promise<number[]> {
  const { space, count: q, probes, basis, images, columns, forms } = sketch
  const h = await space.gram(basis, images)
  const wz = await space.gram(probes, images)
  const wq = await space.gram(probes, basis)
  let total = 0
  for (let j = 0; j < q; j++) total += h[j * q + j]
  const timesH = (x: Float64Array): Float64Array =>
    x.map((_, j) => dot(h.subarray(j * q, (j + 1) * q), x))
  return leaveOneOut(sketch).map((s, i) => {
    const row = (matrix: Float64Array) => matrix.subarray(i * q, (i + 1) * q)
    const c = row(wq)
    const along = dot(s, c)
    const p = c.map((x, j) => x - s[j] * along)
    const remainder = forms[i] - dot(row(wz), p) - dot(columns[i], p) + dot(p, timesH(p))
    return total - dot(s, timesH(s)) + remainder
  })
}
