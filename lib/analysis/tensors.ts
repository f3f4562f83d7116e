import type { ParameterLayout } from '../nn/layout.js'
import type { Model } from '../nn/model.js'

/**
 * θ and σ cut into the tensors that a traced model takes before its samples.
 *
 * @param state default `model.initState()`
 * @throws ERR_SHAPE for vectors of another length
 */
export function tensorsOf(
  model: Model,
  params: ArrayLike<number>,
  state: ArrayLike<number> = model.initState(),
): Float64Array[] {
  return [...cut(model.layout, params), ...cut(model.stateLayout, state)]
}

function cut(layout: ParameterLayout, vector: ArrayLike<number>): Float64Array[] {
  layout.requireLength(vector.length)
  const all = Float64Array.from(vector)
  return layout.entries.map(({ offset, size }) => all.subarray(offset, offset + size))
}
