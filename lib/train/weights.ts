import { requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { formatError } from '../files/errors.js'
import { decodeBfloat, decodeHalf } from '../files/half.js'
import {
  readSafetensors,
  type SafeTensor,
  type TensorSource,
  writeSafetensors,
} from '../files/safetensors.js'
import type { FloatVector, ParameterLayout } from '../nn/layout.js'
import type { Model } from '../nn/model.js'

/**
 * Writes parameters as a safetensors file, atomically: one tensor per parameter under its name, in
 * layout order, in PyTorch's orientation (linear weights [out, in]), then those of the state; the
 * element type is the array's.
 *
 * @param state σ of a model that has one: `run.state`
 * @throws ERR_SHAPE unless `params` has n elements, and `state` those of σ; ERR_ARGUMENT without the
 * state that the model has; ERR_IO
 */
export async function saveModel(
  path: string,
  model: Model,
  params: FloatVector,
  state?: FloatVector,
): Promise<void> {
  requireArguments('saveModel()', { path, model, params })
  const tensors = namedTensors(model.layout, params)
  for (const [name, tensor] of stateTensors('saveModel()', model, state)) tensors.set(name, tensor)
  await writeSafetensors(path, tensors, { model: model.name })
}

/** The tensors of σ by name; none for a model without state. */
export function stateTensors(
  where: string,
  model: Model,
  state: FloatVector | undefined,
  prefix = '',
): Map<string, TensorSource> {
  if (state === undefined && model.stateLayout.size > 0) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${where} needs the state of model '${model.name}' beside its parameters: pass run.state.`,
    )
  }
  return namedTensors(model.stateLayout, state ?? new Float32Array(), prefix)
}

/**
 * Reads parameters that {@link saveModel} or another tool wrote: a Float64Array when the tensors
 * are F64, else a Float32Array (F16 and BF16 are widened).
 *
 * @throws ERR_IO; ERR_FORMAT listing every tensor that is missing, extra or of another shape than
 * the model's
 */
export async function loadModel(path: string, model: Model): Promise<FloatVector> {
  requireArguments('loadModel()', { path, model })
  return (await loadBoth(path, model))[0]
}

/**
 * Reads the state σ from a file of {@link loadModel}; empty for a model without.
 *
 * @throws as {@link loadModel} does; ERR_NOT_FINITE naming the tensor with a NaN or infinity
 */
export async function loadState(path: string, model: Model): Promise<FloatVector> {
  requireArguments('loadState()', { path, model })
  const [, state] = await loadBoth(path, model)
  requireFinite(path, model.stateLayout, state)
  return state
}

async function loadBoth(path: string, model: Model): Promise<FloatVector[]> {
  const { tensors } = await readSafetensors(path)
  return joinParts(path, tensors, [
    { prefix: '', layout: model.layout },
    { prefix: '', layout: model.stateLayout },
  ])
}

/** @throws ERR_NOT_FINITE naming the file and the tensor */
export function requireFinite(path: string, layout: ParameterLayout, vector: FloatVector): void {
  for (const { name } of layout.entries) {
    const at = layout.view(vector, name).findIndex((value) => !Number.isFinite(value))
    if (at < 0) continue
    throw new LosscapeError(
      'ERR_NOT_FINITE',
      `${path}: state '${name}' has ${layout.view(vector, name)[at]} at element ${at}. The statistics of its training are lost; take an earlier checkpoint.`,
    )
  }
}

/** The tensors of a logical vector, by name. */
export function namedTensors(
  layout: ParameterLayout,
  vector: FloatVector,
  prefix = '',
): Map<string, TensorSource> {
  layout.requireLength(vector.length)
  return new Map(
    layout.entries.map(({ name, shape }) => [
      prefix + name,
      { shape, data: layout.view(vector, name) },
    ]),
  )
}

const FLOATS = ['F64', 'F32', 'F16', 'BF16']

/** One logical vector of named tensors; every tensor must have its place. */
export function joinTensors(
  path: string,
  layout: ParameterLayout,
  tensors: ReadonlyMap<string, SafeTensor>,
): FloatVector {
  return joinParts(path, tensors, [{ prefix: '', layout }])[0]
}

/** A vector whose tensors carry a prefix to their names. */
export interface VectorPart {
  readonly prefix: string
  readonly layout: ParameterLayout
}

/**
 * Logical vectors of named tensors, one per part; every tensor must have its place.
 *
 * @throws ERR_FORMAT listing every tensor that is missing, extra, of another shape or type
 */
export function joinParts(
  path: string,
  tensors: ReadonlyMap<string, SafeTensor>,
  parts: readonly VectorPart[],
): FloatVector[] {
  const wanted = parts.flatMap(({ prefix, layout }) =>
    layout.entries.map((entry) => ({ key: prefix + entry.name, entry })),
  )
  const keys = new Set(wanted.map(({ key }) => key))
  const faults: string[] = []
  const list = (what: string, items: string[]): void => {
    if (items.length > 0) faults.push(`${what}: ${items.join(', ')}`)
  }
  list(
    'missing',
    wanted.filter(({ key }) => !tensors.has(key)).map(({ key }) => key),
  )
  list(
    'extra',
    [...tensors.keys()].filter((key) => !keys.has(key)),
  )
  list(
    'of another shape',
    wanted.flatMap(({ key, entry: { shape } }) => {
      const found = tensors.get(key)
      const fits = !found || found.shape.join() === shape.join()
      return fits ? [] : [`${key} [${found.shape}] instead of [${shape}]`]
    }),
  )
  list(
    'of no floating-point type',
    wanted.flatMap(({ key }) => {
      const found = tensors.get(key)
      return !found || FLOATS.includes(found.dtype) ? [] : [`${key} ${found.dtype}`]
    }),
  )
  if (faults.length > 0 && tensors.size === 0) faults.splice(0, faults.length, 'no tensors')
  if (faults.length > 0) {
    throw formatError(path, {
      expected: `the tensors of the model (n = ${parts[0].layout.size})`,
      got: faults.join('; '),
      hint: 'Was the file written for another model, or with another normalisation?',
    })
  }
  return parts.map(({ prefix, layout }) => {
    const wide = layout.names.some((name) => tensors.get(prefix + name)?.dtype === 'F64')
    const vector = wide ? new Float64Array(layout.size) : new Float32Array(layout.size)
    for (const { name, offset } of layout.entries) {
      vector.set(widened(tensors.get(prefix + name) as SafeTensor), offset)
    }
    return vector
  })
}

function widened({ dtype, data }: SafeTensor): FloatVector {
  if (data instanceof Float32Array || data instanceof Float64Array) return data
  if (data instanceof Uint16Array) {
    return dtype === 'BF16' ? decodeBfloat(data) : decodeHalf(data)
  }
  throw new LosscapeError('ERR_DTYPE', `Expected floating-point numbers, got ${dtype}.`)
}
