import { argumentError, requireArguments } from '../arguments.js'
import { defaultBinding } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'

/** A dense matrix, row-major. */
export interface HostMatrix {
  readonly rows: number
  readonly columns: number
  readonly data: ArrayLike<number>
}

export interface SingularValueOptions {
  readonly signal?: AbortSignal
}

/** Largest rows + columns: LAPACK takes some seconds there. */
const MOST = 8192

/**
 * All min(rows, columns) singular values of a matrix, descending, in float64: the upper half of
 * the eigenvalues of [[0, A], [Aᵀ, 0]], which unlike those of A Aᵀ are exact to ε σ_1 also where σ
 * is small. Costs about 4/3 (rows + columns)³ operations off the event loop.
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE, ERR_NOT_FINITE, ERR_ABORTED
 */
export async function singularValues(
  matrix: HostMatrix,
  options: SingularValueOptions = {},
): Promise<Float64Array> {
  requireMatrix('singularValues()', matrix)
  requireOptions('singularValues()', options, ['signal'])
  const { rows, columns, data } = matrix
  const size = rows + columns
  if (size > MOST) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `singularValues() takes matrices of rows + columns up to ${MOST}, got ${rows} x ${columns}.`,
    )
  }
  const block = new Float64Array(size * size)
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const value = data[i * columns + j]
      block[i * size + rows + j] = value
      block[(rows + j) * size + i] = value
    }
  }
  const binding = defaultBinding()
  const { values } = await withSignal(binding, options.signal, (token) =>
    binding.symmetricEigen(block, size, false, { token }),
  )
  const count = Math.min(rows, columns)
  return values
    .subarray(size - count)
    .map((x) => Math.max(0, x))
    .reverse()
}

/**
 * The non-zero singular values of Z Wᵀ for tall factors Z [N, r] and W [M, r], descending: with
 * Z = Q R and W = P S they are those of R Sᵀ, of r x r numbers. Costs 2 (N + M) r² operations
 * instead of the cube of N. There are min(N, M, r) of them.
 *
 * @throws ERR_ARGUMENT, ERR_SHAPE for factors of different widths, ERR_NOT_FINITE, ERR_ABORTED
 */
export async function lowRankSingularValues(
  z: HostMatrix,
  w: HostMatrix,
  options: SingularValueOptions = {},
): Promise<Float64Array> {
  requireMatrix('lowRankSingularValues()', z)
  requireMatrix('lowRankSingularValues()', w)
  if (z.columns !== w.columns) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `The factors Z [${z.rows}, ${z.columns}] and W [${w.rows}, ${w.columns}] differ in width.`,
    )
  }
  const [a, b] = [triangle(z), triangle(w)]
  const product = new Float64Array(a.rows * b.rows)
  for (let i = 0; i < a.rows; i++) {
    for (let j = 0; j < b.rows; j++) {
      let sum = 0
      for (let k = 0; k < z.columns; k++)
        sum += a.data[i * z.columns + k] * b.data[j * z.columns + k]
      product[i * b.rows + j] = sum
    }
  }
  return singularValues({ rows: a.rows, columns: b.rows, data: product }, options)
}

/** R of a QR factorisation by Householder reflections: [min(rows, columns), columns]. */
function triangle({ rows, columns, data }: HostMatrix): HostMatrix & { data: Float64Array } {
  const a = Float64Array.from(data)
  const count = Math.min(rows, columns)
  for (let k = 0; k < count; k++) {
    let norm = 0
    for (let i = k; i < rows; i++) norm = Math.hypot(norm, a[i * columns + k])
    if (norm === 0) continue
    const alpha = a[k * columns + k] > 0 ? -norm : norm
    const v = Float64Array.from({ length: rows - k }, (_, i) => a[(k + i) * columns + k])
    v[0] -= alpha
    const squares = v.reduce((sum, x) => sum + x * x, 0)
    for (let j = k; j < columns; j++) {
      let dot = 0
      for (let i = 0; i < v.length; i++) dot += v[i] * a[(k + i) * columns + j]
      const factor = (2 * dot) / squares
      for (let i = 0; i < v.length; i++) a[(k + i) * columns + j] -= factor * v[i]
    }
  }
  const r = a.slice(0, count * columns)
  // What reflections have cleared is rounding.
  for (let i = 0; i < count; i++) r.fill(0, i * columns, i * columns + i)
  return { rows: count, columns, data: r }
}

function requireMatrix(where: string, matrix: HostMatrix): void {
  const { rows, columns, data } = matrix ?? {}
  const whole = [rows, columns].every((d) => Number.isSafeInteger(d) && d >= 1)
  if (!whole) throw argumentError(where, 'matrix', '{ rows, columns, data }', matrix)
  requireArguments(where, { matrix: data })
  if (data.length !== rows * columns) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `${where} expected ${rows * columns} numbers for a ${rows} x ${columns} matrix, got ${data.length}.`,
    )
  }
  for (let i = 0; i < data.length; i++) {
    if (Number.isFinite(data[i])) continue
    throw new LosscapeError(
      'ERR_NOT_FINITE',
      `${where}: element [${Math.floor(i / columns)}, ${i % columns}] is ${data[i]}.`,
    )
  }
}
