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
 * layout order, in PyTorch's orientation (linear weights [out, in]); the element type is the array's.
 *
 * @throws ERR_SHAPE unless `params` has n elements; ERR_IO
 */
export async function saveModel(path: string, model: Model, params: FloatVector): Promise<void> {
  requireArguments('saveModel()', { path, model, params })
  await writeSafetensors(path, namedTensors(model.layout, params), { model: model.name })
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
  const { tensors } = await readSafetensors(path)
  return joinTensors(path, model.layout, tensors, [''])[0]
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

/** Logical vectors from named tensors, one per prefix; every tensor must have its place. */
export function joinTensors(
  path: string,
  layout: ParameterLayout,
  tensors: ReadonlyMap<string, SafeTensor>,
  prefixes: readonly string[],
): FloatVector[] {
  const wanted = prefixes.flatMap((prefix) =>
    layout.entries.map((entry) => ({ key: prefix + entry.name, prefix, entry })),
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
      expected: `the tensors of the model (n = ${layout.size})`,
      got: faults.join('; '),
      hint: 'Was the file written for another model?',
    })
  }
  const wide = wanted.some(({ key }) => tensors.get(key)?.dtype === 'F64')
  return prefixes.map((prefix) => {
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
