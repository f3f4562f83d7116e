import { argumentError, isVector } from '../arguments.js'

/** How rough a surface is, in numbers that do not change when the loss is scaled. */
export interface Roughness {
  /**
   * Mean of the squared second differences of ln L along both axes, over the squared range of
   * ln L on the grid: 0 for a plane, 4 for a chessboard. It grows with the step of the grid, so
   * compare surfaces with equally many points only. NaN for a constant surface.
   */
  readonly index: number
  /** Share of points whose ln L exceeds or falls below both neighbours along an axis. */
  readonly extrema: number
  /** Triples of neighbours with finite ln L that both are taken over. */
  readonly triples: number
}

/**
 * Roughness of a loss on a grid [rows, columns], row-major. Triples with a loss that is not finite
 * or not positive are left out.
 *
 * @throws ERR_ARGUMENT unless `loss` is a whole number of rows
 */
export function surfaceRoughness(loss: ArrayLike<number>, columns: number): Roughness {
  if (!isVector(loss))
    throw argumentError('surfaceRoughness()', 'loss', 'an array of numbers', loss)
  if (!Number.isSafeInteger(columns) || columns < 1 || loss.length % columns !== 0) {
    const what = `a divisor of the ${loss.length} losses`
    throw argumentError('surfaceRoughness()', 'columns', what, columns)
  }
  const rows = loss.length / columns
  const height = Float64Array.from(loss, (x) => Math.log(x))
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (const h of height) {
    if (!Number.isFinite(h)) continue
    low = Math.min(low, h)
    high = Math.max(high, h)
  }
  let [sum, triples, extrema] = [0, 0, 0]
  const triple = (a: number, b: number, c: number): void => {
    const difference = a - 2 * b + c
    if (!Number.isFinite(difference)) return
    sum += difference * difference
    triples++
    if ((b > a && b > c) || (b < a && b < c)) extrema++
  }
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const at = i * columns + j
      if (j > 0 && j < columns - 1) triple(height[at - 1], height[at], height[at + 1])
      if (i > 0 && i < rows - 1) triple(height[at - columns], height[at], height[at + columns])
    }
  }
  const range = high - low
  return {
    index: range > 0 && triples > 0 ? sum / triples / (range * range) : Number.NaN,
    extrema: triples > 0 ? extrema / triples : Number.NaN,
    triples,
  }
}
