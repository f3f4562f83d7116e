import { throwIfAborted } from '../errors.js'
import { LEAVE_ONE_OUT, leaveOneOut } from './leave-one-out.js'
import type { LinearOperator } from './operator.js'
import { ROWS, Sketch, type SketchOptions } from './sketch.js'
import { spaceOf, type VectorBlock, type VectorSpace } from './space.js'

export interface SketchedDiagonal {
  readonly values: Float64Array
  /** Of every element; NaN when a single sample was taken. */
  readonly standardErrors: Float64Array
  readonly products: number
  /** No sampling error: all columns, or a sketch that spans the range of A. */
  readonly exact: boolean
}

type DiagonalSketchOptions = Omit<SketchOptions, 'distribution'>

/**
 * Mean of z ∘ A z over Rademacher z.
 * Source: Bekas, Kokiopoulou, Saad 2007.
 */
export async function hutchinsonDiagonal(
  operator: LinearOperator,
  products: number,
  { seed = 0, signal, onProducts }: DiagonalSketchOptions,
): Promise<SketchedDiagonal> {
  const space = spaceOf(operator, { signal })
  const z = space.allocate(Math.min(ROWS, products))
  const az = space.allocate(z.count)
  const moments = new Moments(space)
  try {
    for (let done = 0; done < products; ) {
      throwIfAborted(signal)
      const count = Math.min(z.count, products - done)
      const [probes, images] = [z.rows(0, count), az.rows(0, count)]
      await space.fill(probes, 'rademacher', seed, done)
      await space.apply(probes, images)
      await space.multiply(probes, images, images)
      await moments.add(images)
      done += count
      onProducts?.(done)
    }
    return { ...(await moments.result()), products, exact: false }
  } finally {
    for (const item of [z, az, moments]) item.dispose()
  }
}

/**
 * XDiag: the mean over i of diag(Q_i Q_iᵀ A) + w_i ∘ (I - Q_i Q_iᵀ) A w_i, where Q_i spans the sketch
 * without row i. As Q_i Q_iᵀ = Q (I - s_i s_iᵀ) Qᵀ and y_i = Q r_i, estimate i is
 *   diag(QQᵀA) + (Q s_i) ∘ ((s_iᵀ r_i) w_i - Z s_i).
 * The estimates depend on each other: the spread over i, divided by √q, understates the error by
 * 1.27 to 1.40 on spectra of slow, fast and no decay, and is multiplied by √2 here.
 * Source: Epperly, Tropp, Webber 2024, arXiv 2301.07825.
 */
export async function xdiag(
  operator: LinearOperator,
  products: number,
  options: DiagonalSketchOptions,
): Promise<SketchedDiagonal> {
  const rows = Math.min(operator.size, Math.floor(products / 2))
  const sketch = Sketch.of(operator, rows, options)
  const { space } = sketch
  const moments = new Moments(space)
  const work = space.allocate(2 * Math.min(ROWS, rows))
  try {
    await sketch.grow(rows)
    throwIfAborted(options.signal)
    if (sketch.complete) return await exactDiagonal(sketch)
    const { basis, images, probes, columns } = sketch
    const without = leaveOneOut(sketch)
    for (let from = 0; from < rows; from += ROWS) {
      const count = Math.min(ROWS, rows - from)
      const along = work.rows(0, count)
      const rest = work.rows(count, count)
      const s = Float64Array.from(without.slice(from, from + count).flatMap((row) => [...row]))
      const scales = new Float64Array(count * count)
      for (let i = 0; i < count; i++) {
        const at = from + i
        scales[i * count + i] = columns[at].reduce((sum, r, j) => sum + r * without[at][j], 0)
      }
      await space.combine(s, basis, along)
      await space.combine(scales, probes.rows(from, count), rest)
      await space.combine(
        s.map((x) => -x),
        images,
        rest,
        true,
      )
      await space.multiply(along, rest, along)
      await moments.add(along)
    }
    await addProjected(sketch, moments)
    const { values, standardErrors } = await moments.result()
    return {
      values,
      standardErrors: standardErrors.map((x) => LEAVE_ONE_OUT * x),
      products: sketch.products,
      exact: false,
    }
  } finally {
    for (const item of [sketch, moments, work]) item.dispose()
  }
}

/**
 * Diag++: with P = QQᵀ and Z = A Q the diagonals of P A and (I - P) A P are known,
 *   Σ_j q_j ∘ (2 z_j - Q Qᵀ z_j),
 * and Hutchinson's estimate is needed for (I - P) A (I - P) only. A third of the products each for
 * the sketch, Z and the rest. (The source estimates (I - P) A; A is symmetric here.)
 * Source: Baston, Nakatsukasa 2022, arXiv 2201.10684.
 */
export async function diagPlusPlus(
  operator: LinearOperator,
  products: number,
  options: DiagonalSketchOptions,
): Promise<SketchedDiagonal> {
  const rows = Math.min(operator.size, Math.floor(products / 3))
  const sketch = Sketch.of(operator, rows, options)
  const { space } = sketch
  const moments = new Moments(space)
  const work = space.allocate(3 * Math.min(ROWS, products - 2 * rows))
  try {
    await sketch.grow(rows)
    throwIfAborted(options.signal)
    if (sketch.complete) return await exactDiagonal(sketch)
    const { basis, images } = sketch
    const rest = products - sketch.products
    for (let done = 0; done < rest; ) {
      throwIfAborted(options.signal)
      const count = Math.min(work.count / 3, rest - done)
      const [g, projected, image] = [0, 1, 2].map((i) => work.rows(i * count, count))
      await space.fill(g, 'rademacher', options.seed ?? 0, rows + done)
      await space.fill(projected, 'rademacher', options.seed ?? 0, rows + done)
      await sketch.removeBasis(projected)
      await sketch.apply(projected, image, sketch.products + done)
      await sketch.removeBasis(image)
      await space.multiply(g, image, image)
      await moments.add(image)
      done += count
    }
    const h = await space.gram(images, basis)
    await addProjected(sketch, moments)
    // Z - Q QᵀZ in place of Z: the part of A P outside of the subspace.
    await space.combine(
      h.map((x) => -x),
      basis,
      images,
      true,
    )
    await addProjected(sketch, moments)
    return { ...(await moments.result()), products, exact: false }
  } finally {
    for (const item of [sketch, moments, work]) item.dispose()
  }
}

/** Adds Σ_j q_j ∘ z_j, the diagonal of QQᵀA, to the mean. */
async function addProjected({ space, basis, images }: Sketch, moments: Moments): Promise<void> {
  for (let j = 0; j < basis.count; j++) {
    await space.multiply(basis.rows(j, 1), images.rows(j, 1), moments.offset, true)
  }
}

async function exactDiagonal(sketch: Sketch): Promise<SketchedDiagonal> {
  const { space, products, remainder } = sketch
  const moments = new Moments(space)
  try {
    await addProjected(sketch, moments)
    const values = Float64Array.from(await space.read(moments.offset, 0))
    const standardErrors = new Float64Array(values.length).fill(remainder)
    return { values, standardErrors, products, exact: true }
  } finally {
    moments.dispose()
  }
}

/**
 * Elementwise mean and standard error of samples that come in blocks. What is kept of the squares is
 * their root, which has the range of the samples.
 */
class Moments {
  private readonly block: VectorBlock
  /** Added to the mean; zero at first. */
  readonly offset: VectorBlock
  /** The first sample: sums of differences to it do not cancel. */
  private readonly shift: VectorBlock
  private readonly sum: VectorBlock
  /** Root of the sum of squared differences. */
  private readonly norm: VectorBlock
  private count = 0

  constructor(private readonly space: VectorSpace) {
    this.block = space.allocate(4)
    ;[this.offset, this.shift, this.sum, this.norm] = [0, 1, 2, 3].map((i) => this.block.rows(i, 1))
  }

  /** Overwrites the samples. */
  async add(samples: VectorBlock): Promise<void> {
    const { space, shift, sum, norm } = this
    const ones = new Float64Array(samples.count).fill(1)
    if (this.count === 0) await space.combine([1], samples.rows(0, 1), shift)
    await space.combine(
      ones.map((x) => -x),
      shift,
      samples,
      true,
    )
    await space.combine(ones, samples, sum, true)
    await space.hypot(samples, norm)
    this.count += samples.count
  }

  async result(): Promise<{ values: Float64Array; standardErrors: Float64Array }> {
    const { space, count } = this
    const rows = [this.offset, this.shift, this.sum, this.norm]
    const [offset, shift, sum, norm] = await Promise.all(rows.map((row) => space.read(row, 0)))
    return {
      values: Float64Array.from(sum, (s, i) => offset[i] + shift[i] + s / count),
      standardErrors: Float64Array.from(sum, (s, i) => {
        // The part of the squares that the mean takes.
        const mean = norm[i] === 0 ? 0 : s / norm[i]
        const spread = Math.max(0, 1 - (mean * mean) / count)
        return norm[i] * Math.sqrt(spread / (count * (count - 1)))
      }),
    }
  }

  dispose(): void {
    this.block.dispose()
  }
}
