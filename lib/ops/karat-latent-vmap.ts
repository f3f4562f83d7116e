import type { OperationDefinition } from '../program/registry.js'
import { range } from '../program/shape.js'
import { emit, type Tensor } from '../program/tensor.js'
import type { Attributes } from '../program/types.js'
import { headCount } from './karat-latent-shapes.js'
import { broadcastTo, reshape, transpose } from './movement.js'

/** [a, b, ..] as [a b, ..]. */
export function merge(t: Tensor): Tensor {
  return reshape(t, [t.shape[0] * t.shape[1], ...t.shape.slice(2)])
}

/** vmap over tangents only: more tangents. `own` operands before `from` are not tangents. */
function mergeTangents(
  name: string,
  inputs: readonly Tensor[],
  batched: readonly boolean[],
  attributes: Attributes,
  size: number,
  from: number,
): Tensor[] {
  const all = inputs.map((t, i) => {
    if (i < from) return t
    return merge(batched[i] ? t : broadcastTo(t, [size, ...t.shape]))
  })
  return emit(name, all, attributes).map((t) =>
    reshape(t, [size, t.shape[0] / size, ...t.shape.slice(1)]),
  )
}

/**
 * vmap over anything else: more samples. Coefficients that are not mapped stay shared, unless they
 * come in several sets or their gradient is asked for, which every mapped sample has for itself.
 */
function mergeSamples(
  name: string,
  inputs: readonly Tensor[],
  batched: readonly boolean[],
  attributes: Attributes,
  size: number,
  from: number,
): Tensor[] {
  const isC = (i: number): boolean =>
    i === 2 || (i >= from && (i - from) % 3 === 2 && name !== 'karat_latent_vjp')
  const gradient = name.includes('_vjp')
  const shared =
    !gradient && inputs[2].shape[0] === 1 && !inputs.some((_, i) => isC(i) && batched[i])
  const all = inputs.map((t, i) => {
    if (isC(i) && shared) return t
    const mapped = batched[i] ? t : broadcastTo(t, [size, ...t.shape])
    if (i < from) return merge(mapped)
    // [S, R, B, ..] as [R, S B, ..]
    const swapped = transpose(mapped, [1, 0, ...range(mapped.rank).slice(2)])
    const [r, s, b] = swapped.shape
    return reshape(swapped, [r, s * b, ...swapped.shape.slice(3)])
  })
  return emit(name, all, attributes).map((t) => {
    if (from >= inputs.length) return reshape(t, [size, t.shape[0] / size, ...t.shape.slice(1)])
    const apart = reshape(t, [t.shape[0], size, t.shape[1] / size, ...t.shape.slice(2)])
    return transpose(apart, [1, 0, ...range(apart.rank).slice(2)])
  })
}

/** `before`: own operands that are not tangents. */
export function batching(
  name: string,
  before: number,
  tangents: boolean,
): OperationDefinition['vmap'] {
  return (inputs, batched, attributes, size) => {
    const from = tangents ? headCount(attributes) + before : inputs.length
    const onlyTangents = !batched.slice(0, from).some(Boolean)
    const rule = onlyTangents ? mergeTangents : mergeSamples
    return rule(name, inputs, batched, attributes, size, from)
  }
}
