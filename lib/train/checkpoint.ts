import { argumentError, requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { formatError } from '../files/errors.js'
import { readSafetensors, writeSafetensors } from '../files/safetensors.js'
import type { FloatVector } from '../nn/layout.js'
import type { Model } from '../nn/model.js'
import type { EpochSums } from './metrics.js'
import type { Recipe } from './recipe.js'
import { joinParts, namedTensors, requireFinite, stateTensors } from './weights.js'

/** What decides the order and arithmetic of the steps; a resumed run must have the same. */
export interface CheckpointSetting {
  readonly model: string
  readonly optimizer: string
  readonly samples: number
  readonly batch: number
  readonly seed: number
  readonly shuffle: boolean
  readonly dropLast: boolean
  readonly precision: 'f32' | 'f64'
  /** Loss, optimiser, schedule, clipping and the model's configuration, option by option. */
  readonly recipe: Recipe
}

/** A training run at a step boundary: all that it needs to go on bit for bit. */
export interface Checkpoint {
  /** Steps made. */
  readonly step: number
  /** θ, logical. */
  readonly params: FloatVector
  /** The optimiser's state, logical: none, [m] or [m, v]. */
  readonly moments: readonly FloatVector[]
  /** The moving average of θ, logical; of runs that keep one. */
  readonly ema?: FloatVector
  /** The state σ of the model, logical; of models that have one. */
  readonly state?: FloatVector
  /** Of the epoch under way. */
  readonly epochSums: EpochSums
  readonly lastFiniteLoss: number | null
  readonly setting: CheckpointSetting
}

const FORMAT = 'losscape-checkpoint-2'

/**
 * Writes a checkpoint as one safetensors file, atomically: tensors `params/NAME`, `moment0/NAME`,
 * `moment1/NAME`, `ema/NAME`, `state/NAME` in the run's element type, the rest as JSON in the header's metadata.
 *
 * @throws ERR_IO, ERR_SHAPE; ERR_ARGUMENT without the state that the model has
 */
export async function saveCheckpoint(
  path: string,
  model: Model,
  checkpoint: Checkpoint,
): Promise<void> {
  requireArguments('saveCheckpoint()', { path, model, checkpoint })
  const { params, moments, ema, state, ...plain } = checkpoint
  requireArguments('saveCheckpoint()', { params })
  if (!Array.isArray(moments)) {
    throw argumentError('saveCheckpoint()', 'moments', 'a list of vectors', moments)
  }
  const tensors = namedTensors(model.layout, params, 'params/')
  for (const [k, moment] of moments.entries()) {
    for (const [name, tensor] of namedTensors(model.layout, moment, `moment${k}/`)) {
      tensors.set(name, tensor)
    }
  }
  if (ema) {
    for (const [name, tensor] of namedTensors(model.layout, ema, 'ema/')) tensors.set(name, tensor)
  }
  for (const [name, tensor] of stateTensors('saveCheckpoint()', model, state, 'state/')) {
    tensors.set(name, tensor)
  }
  const described = { ...plain, moments: moments.length, ...(ema && { ema: true }) }
  const metadata = { format: FORMAT, state: JSON.stringify(described) }
  await writeSafetensors(path, tensors, metadata)
}

/**
 * @throws ERR_IO; ERR_FORMAT when the file is no checkpoint, or listing every tensor that is
 * missing, extra or of another shape than the model's; ERR_NOT_FINITE naming the state that is not
 */
export async function loadCheckpoint(path: string, model: Model): Promise<Checkpoint> {
  requireArguments('loadCheckpoint()', { path, model })
  const { tensors, metadata } = await readSafetensors(path)
  const { moments: count, ema: averaged, ...plain } = parseState(path, metadata)
  const prefixes = [
    'params/',
    ...Array.from({ length: count }, (_, k) => `moment${k}/`),
    ...(averaged ? ['ema/'] : []),
  ]
  const { layout, stateLayout } = model
  const hasState = stateLayout.size > 0
  const parts = prefixes.map((prefix) => ({ prefix, layout }))
  const vectors = joinParts(path, tensors, [
    ...parts,
    ...(hasState ? [{ prefix: 'state/', layout: stateLayout }] : []),
  ])
  const [params, ...rest] = vectors
  const state = hasState ? rest.pop() : undefined
  if (state) requireFinite(path, stateLayout, state)
  const moments = rest.slice(0, count)
  return {
    ...plain,
    params,
    moments,
    ...(averaged && { ema: rest[count] }),
    ...(state && { state }),
  }
}

interface State extends Omit<Checkpoint, 'params' | 'moments' | 'ema' | 'state'> {
  readonly moments: number
  readonly ema?: boolean
}

function parseState(path: string, metadata: Readonly<Record<string, string>>): State {
  const fail = (cause?: unknown): never => {
    throw formatError(path, {
      expected: `a checkpoint (metadata '${FORMAT}')`,
      got: metadata.format ? `'${metadata.format}'` : 'another safetensors file',
      cause,
    })
  }
  if (metadata.format !== FORMAT || metadata.state === undefined) return fail()
  try {
    const state = JSON.parse(metadata.state) as State
    const { epochSums: sums, lastFiniteLoss } = state
    const counts = [state.step, state.moments, sums.samples, sums.correct]
    const sound =
      counts.every((value) => Number.isSafeInteger(value) && value >= 0) &&
      state.moments <= 2 &&
      Number.isFinite(sums.loss) &&
      (lastFiniteLoss === null || Number.isFinite(lastFiniteLoss)) &&
      typeof state.setting?.recipe === 'object' &&
      state.setting.recipe !== null
    return sound ? state : fail()
  } catch (error) {
    return error instanceof LosscapeError ? fail(error.cause) : fail(error)
  }
}

/**
 * Checks that a checkpoint belongs to a run, so that going on is what the run would have done. The
 * total of epochs or steps may change, except under a schedule that is stretched over it (one-cycle,
 * and cosine without `steps`). How often there are checkpoints, rows and tests is free.
 *
 * @param moments vectors of state that the optimiser keeps
 * @param stateSize elements of the model's state σ
 * @throws ERR_ARGUMENT listing every difference
 */
export function requireSameSetting(
  checkpoint: Checkpoint,
  wanted: CheckpointSetting,
  moments: number,
  stateSize: number,
): void {
  if (!Array.isArray(checkpoint.moments) || typeof checkpoint.setting?.recipe !== 'object') {
    throw argumentError('train()', 'resume', 'a checkpoint of a training', checkpoint)
  }
  const before = described(checkpoint.setting)
  const now = described(wanted)
  const differences = [...new Set([...before.keys(), ...now.keys()])]
    .filter((key) => before.get(key) !== now.get(key))
    .map((key) => `${key} ${before.get(key) ?? 'not set'} (now ${now.get(key) ?? 'not set'})`)
  if (checkpoint.moments.length !== moments) {
    differences.push(`${checkpoint.moments.length} moments (now ${moments})`)
  }
  const found = checkpoint.state?.length ?? 0
  if (found !== stateSize) differences.push(`a state of ${found} numbers (now ${stateSize})`)
  if (differences.length === 0) return
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `The checkpoint is of another run: it has ${differences.join(', ')}. ` +
      'Resume with the same options, or start afresh with `params: checkpoint.params`.',
  )
}

function described({ recipe, ...plain }: CheckpointSetting): Map<string, string> {
  const entries = Object.entries(plain).map(([key, value]): [string, string] => [
    key,
    String(value),
  ])
  return new Map([...entries, ...Object.entries(recipe ?? {})])
}
