import { argumentError } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import type { Tensor } from '../program/tensor.js'

/**
 * Factor of the scores of queries [.., D]: what was given, or 1 / sqrt(D).
 * @throws ERR_ARGUMENT unless it is finite, ERR_SHAPE for D = 0 without one
 */
export function scoreScale(where: string, q: Tensor, given: number | undefined): number {
  if (given !== undefined) {
    if (Number.isFinite(given)) return given
    throw argumentError(where, 'scale', 'a finite number', given)
  }
  const D = q.shape.at(-1) ?? 1
  if (D > 0) return 1 / Math.sqrt(D)
  throw new LosscapeError(
    'ERR_SHAPE',
    `${where} expected heads of a width D of 1 or more, got q [${q.shape}]; without numbers in ` +
      'them there is no scale 1 / sqrt(D).',
  )
}
