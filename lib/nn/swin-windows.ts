import * as ops from '../ops/index.js'
import type { Tensor } from '../program/tensor.js'

/** How the tokens of one stage are cut into windows. */
export interface Windows {
  /** Edge of the square of tokens. */
  readonly edge: number
  /** Edge of a window; divides `edge`. */
  readonly window: number
  /** Cyclic shift of every second block; 0 when one window holds all. */
  readonly shift: number
}

/** The tokens [B, edge, edge, C] rolled by `shift` towards the origin on both axes. */
export function roll(x: Tensor, shift: number): Tensor {
  if (shift === 0) return x
  return [1, 2].reduce((y, axis) => {
    const size = y.shape[axis]
    const by = ((shift % size) + size) % size
    const start = (from: number): number[] => y.shape.map((_, a) => (a === axis ? from : 0))
    return ops.concat(
      [
        ops.slice(y, start(by), y.shape.with(axis, size - by)),
        ops.slice(y, start(0), y.shape.with(axis, by)),
      ],
      axis,
    )
  }, x)
}

/** [B, edge, edge, C] → [B (edge / window)², window², C]. */
export function partition(x: Tensor, window: number): Tensor {
  const [B, edge, , C] = x.shape
  const n = edge / window
  const cells = ops.transpose(ops.reshape(x, [B, n, window, n, window, C]), [0, 1, 3, 2, 4, 5])
  return ops.reshape(cells, [B * n * n, window * window, C])
}

/** The inverse of {@link partition}. */
export function unpartition(x: Tensor, edge: number, window: number): Tensor {
  const C = x.shape[2]
  const n = edge / window
  const B = x.shape[0] / (n * n)
  const cells = ops.reshape(x, [B, n, n, window, window, C])
  return ops.reshape(ops.transpose(cells, [0, 1, 3, 2, 4, 5]), [B, edge, edge, C])
}

/**
 * Which part of the image a token of a shifted window comes from: tokens of one window attend each
 * other only where these numbers, 0 to 8, agree. [(edge / window)², window²], row-major.
 */
export function regions({ edge, window, shift }: Windows): number[][] {
  const band = (i: number): number => (i < edge - window ? 0 : i < edge - shift ? 1 : 2)
  const n = edge / window
  return Array.from({ length: n * n }, (_, w) =>
    Array.from({ length: window * window }, (_, t) => {
      const row = Math.floor(w / n) * window + Math.floor(t / window)
      const column = (w % n) * window + (t % window)
      return 3 * band(row) + band(column)
    }),
  )
}

/** Row of the table of relative positions for every pair of tokens of a window: [window⁴]. */
export function relativePositions(window: number): number[] {
  const tokens = window * window
  const span = 2 * window - 1
  return Array.from({ length: tokens * tokens }, (_, pair) => {
    const [i, j] = [Math.floor(pair / tokens), pair % tokens]
    const rows = Math.floor(i / window) - Math.floor(j / window) + window - 1
    const columns = (i % window) - (j % window) + window - 1
    return rows * span + columns
  })
}
