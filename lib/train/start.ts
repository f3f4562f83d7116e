import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { requireArguments } from '../arguments.js'
import { readSafetensors } from '../files/safetensors.js'
import { type FloatVector, ParameterLayout } from '../nn/layout.js'
import type { Model } from '../nn/model.js'
import { requireOptions } from '../options.js'
import { joinParts, requireFinite } from './weights.js'

/** Options of {@link loadStart}. */
export interface StartOptions {
  /** Tensors that keep their random start: a pattern of names, `head.*`. Default none. */
  readonly skip?: string
  /** Of the random start. Default 0. */
  readonly seed?: number
  readonly signal?: AbortSignal
}

/**
 * A start vector for fine-tuning: the weights of a run folder (`model.safetensors`) or of a
 * safetensors file under the model's names, except what `skip` names, which starts at random and may
 * be absent or of another shape, as the head for other classes.
 *
 * @throws ERR_IO; ERR_FORMAT listing every tensor that is missing, extra or of another shape
 *
 * @example
 * const params = await loadStart('runs/pretrained', model, { skip: 'head.*' })
 * const state = await loadStartState('runs/pretrained', model, { skip: 'head.*' })
 */
export async function loadStart(
  path: string,
  model: Model,
  options: StartOptions = {},
): Promise<FloatVector> {
  requireArguments('loadStart()', { path, model })
  requireOptions('loadStart()', options, ['skip', 'seed', 'signal'])
  return (await loadBoth(path, model, options))[0]
}

/**
 * The state σ that goes with {@link loadStart}; what `skip` names starts as `model.initState()` has
 * it. Empty for a model without state.
 *
 * @throws as {@link loadStart} does; ERR_NOT_FINITE naming the tensor with a NaN or infinity
 */
export async function loadStartState(
  path: string,
  model: Model,
  options: StartOptions = {},
): Promise<FloatVector> {
  requireArguments('loadStartState()', { path, model })
  requireOptions('loadStartState()', options, ['skip', 'seed', 'signal'])
  const [, state] = await loadBoth(path, model, options)
  requireFinite(path, model.stateLayout, state)
  return state
}

async function loadBoth(path: string, model: Model, options: StartOptions): Promise<FloatVector[]> {
  const { skip, seed = 0, signal } = options
  const folder = await stat(path).then(
    (entry) => entry.isDirectory(),
    () => false,
  )
  const file = folder ? join(path, 'model.safetensors') : path
  const parts = [
    { prefix: '', layout: model.layout, start: await model.initAsync(seed, { signal }) },
    { prefix: '', layout: model.stateLayout, start: model.initState() },
  ]
  const all = new ParameterLayout(parts.flatMap(({ layout }) => layout.entries))
  const skipped = new Set(skip === undefined ? [] : all.match(skip))
  const { tensors } = await readSafetensors(file)
  const used = new Map([...tensors].filter(([name]) => !skipped.has(name)))
  for (const { layout, start } of parts) {
    for (const { name, shape } of layout.entries) {
      if (skipped.has(name)) used.set(name, { dtype: 'F64', shape, data: layout.view(start, name) })
    }
  }
  return joinParts(file, used, parts)
}
