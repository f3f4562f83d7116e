import { readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type DataSet, labelNoise, load, sampleShape } from '../data/index.js'
import type { Device } from '../device/device.js'
import { LosscapeError } from '../errors.js'
import { writeFileAtomic } from '../files/atomic.js'
import type { FloatVector } from '../nn/layout.js'
import type { Model } from '../nn/model.js'
import { parseModel } from '../nn/parse.js'
import type { MetricsRow } from '../train/metrics.js'
import { resolvePlan } from '../train/options.js'
import { createRun, openRun, type RunConfig, type RunFolder } from '../train/run-folder.js'
import { loadStart, loadStartState } from '../train/start.js'
import { train } from '../train/train.js'
import { saveModel } from '../train/weights.js'
import { fromFlags, UsageError } from './exit.js'
import { shellWord } from './options.js'
import { recordedSize } from './recipe-options.js'
import { requireSameFlags } from './resume-flags.js'
import { loadRunData, type RunData, sized } from './run-data.js'
import type { Session } from './session.js'
import { modelOptions, recipe, type TrainFlags, type TrainRecipe } from './train-options.js'

/** A training with its data loaded, new or resumed. */
export interface PreparedTraining {
  readonly model: Model
  readonly set: DataSet
  readonly test: DataSet | null
  readonly recipe: TrainRecipe
  readonly seed: number
  readonly data: RunConfig['data'] & RunData
  readonly threads: number | undefined
  /** Steps between parameters that are kept. */
  readonly keep: number | undefined
  readonly workers: number | undefined
  /** Where the start vector comes from, when not from the seed. */
  readonly initFrom: InitFrom | undefined
  /** Flags of which the recipe shows only the effect. */
  readonly given: GivenFlags
  /** The run to go on with. */
  readonly run: RunFolder | null
}

type GivenFlags = Pick<TrainFlags, 'freeze' | 'lrFactor'> & { readonly recipe?: string }

/** `--init-from` and `--init-skip` */
interface InitFrom {
  readonly path: string
  readonly skip?: string
}

/** What `losscape train --json` prints, and `result.json` holds. */
export interface TrainOutcome {
  run: string
  status: 'completed' | 'diverged'
  n: number
  steps: number
  epochs: number
  lastFiniteLoss: number | null
  train: { loss: number | null; accuracy: number | null } | null
  test: { loss: number | null; accuracy: number | null } | null
  /** The test split under the averaged weights, with --ema. */
  ema?: { loss: number | null; accuracy: number | null } | null
  time_ms: number
  device: string
}

/** Steps between checkpoints: an epoch, or 500; a checkpoint is one to three times the parameters. */
export function checkpointSteps(samples: number, batch: number): number {
  return Math.max(500, Math.ceil(samples / batch))
}

/** Loads what the flags ask for, or what the run to resume recorded. */
export async function prepareTraining(
  flags: TrainFlags,
  explicit: ReadonlySet<string>,
  session: Session,
): Promise<PreparedTraining> {
  const { signal } = session
  if (flags.resume && (await exists(join(flags.out, 'config.json')))) {
    const run = await openRun(flags.out)
    requireSameFlags(run, flags, explicit)
    const {
      threads,
      test: tested,
      keepCheckpoints,
      initFrom,
      given,
      ...recorded
    } = run.config.training
    const set = await loadRunData(run, { split: 'train', signal })
    if (flags.threads !== undefined && flags.threads !== threads) {
      session.note(`Started with ${threads} threads: ${flags.threads} may change the last digits.`)
    }
    return {
      model: run.model,
      set,
      test: tested === false ? null : await loadTest(run, session),
      recipe: recorded as unknown as TrainRecipe,
      seed: run.config.seed,
      data: run.config.data as RunConfig['data'] & RunData,
      threads: flags.threads ?? (threads as number | undefined),
      keep: keepCheckpoints as number | undefined,
      workers: flags.workers,
      initFrom: initFrom as InitFrom | undefined,
      given: given as GivenFlags,
      run,
    }
  }
  if (flags.model === undefined && flags.hidden === undefined) {
    if (flags.resume) {
      throw new LosscapeError('ERR_ARGUMENT', `${flags.out} holds no run to resume.`)
    }
    throw new UsageError(
      'Tell the network with --model, for example --model mlp:256-64-10 for the glyphs.',
    )
  }
  const { limit, seed, labelNoise: noise, data: spec, normalization } = flags
  const size = recordedSize(flags)
  const stored = await fromFlags(() => load(spec, { split: 'train', limit, normalization, signal }))
  const clean = sized(stored, size)
  const set = noise > 0 ? labelNoise(clean, noise, seed) : clean
  const loaded = flags.test ? await testSplit(spec, clean, session) : null
  const test = loaded && sized(loaded, size)
  const model = await fromFlags(() => modelFor(flags, set))
  const options = await fromFlags(() => recipe(flags, explicit, set))
  await fromFlags(() => resolvePlan(model, set, { ...options, seed, test: test ?? undefined }))
  return {
    model,
    set,
    test,
    recipe: options,
    seed,
    data: {
      spec,
      samples: set.size,
      shape: set.shape,
      classes: set.classes,
      normalization: set.normalization,
      ...(limit !== undefined && { limit }),
      ...(noise > 0 && { labelNoise: noise }),
      ...size,
    },
    threads: flags.threads,
    keep: flags.keepCheckpoints,
    workers: flags.workers,
    initFrom: initFrom(flags),
    given: givenFlags(flags),
    run: null,
  }
}

function givenFlags({ recipe: name, freeze, lrFactor }: TrainFlags): GivenFlags {
  return {
    ...(name !== 'none' && { recipe: name }),
    ...(freeze && { freeze }),
    ...(lrFactor && { lrFactor }),
  }
}

function initFrom({ initFrom: path, initSkip: skip }: TrainFlags): InitFrom | undefined {
  if (path !== undefined) return { path, ...(skip !== undefined && { skip }) }
  if (skip === undefined) return undefined
  throw new UsageError('--init-skip goes with --init-from.')
}

/** Builds the model; says which widths would fit the data when these do not. */
function modelFor(flags: TrainFlags, set: DataSet): Model {
  const shape = sampleShape(set)
  const inputs = shape.reduce((product, d) => product * d, 1)
  const outputs = set.classes ?? set.targets.length / set.size
  const text = flags.model ?? `mlp:${[inputs, ...(flags.hidden ?? []), outputs].join('-')}`
  const widths = /^mlp:([\d-]+)$/.exec(text)?.[1].split('-')
  const last = Number(widths?.at(-1))
  const twoByOne = set.classes === 2 && last === 1
  if (widths && widths.length > 1) {
    const tooFew = set.classes === null ? last !== outputs : last < outputs && !twoByOne
    if (Number(widths[0]) !== inputs || tooFew) {
      const fitting = `mlp:${[inputs, ...widths.slice(1, -1), outputs].join('-')}`
      throw new LosscapeError(
        'ERR_SHAPE',
        `'${text}' does not fit '${set.name}': its samples [${shape}] have ${inputs} ` +
          `elements and ${outputs} ${set.classes === null ? 'target values' : 'classes'}. ` +
          `Use --model ${fitting}.`,
      )
    }
  }
  const options = modelOptions(flags, text)
  return parseModel(text, { input: imageShape(text, shape), classes: outputs, options })
}

/** Transformers see images with channels; grey ones may come without. */
function imageShape(model: string, shape: readonly number[]): readonly number[] {
  return shape.length === 2 && !model.startsWith('mlp:') ? [1, ...shape] : shape
}

async function testSplit(
  spec: string,
  train: DataSet,
  { signal, note }: Session,
): Promise<DataSet | null> {
  try {
    return await load(spec, { split: 'test', normalization: train.normalization, signal })
  } catch (error) {
    // The training split came from the same description: what is wrong is only the other split.
    if (!(error instanceof LosscapeError) || error.code !== 'ERR_ARGUMENT') throw error
    note(`No test split: ${error.message}`)
    return null
  }
}

async function loadTest(run: RunFolder, { signal, note }: Session): Promise<DataSet | null> {
  try {
    return await loadRunData(run, { split: 'test', signal })
  } catch (error) {
    if (!(error instanceof LosscapeError) || error.code !== 'ERR_ARGUMENT') throw error
    note(`No test split: ${error.message}`)
    return null
  }
}

/** Where the run's parts go: {@link trainPrepared}. */
export interface RunTarget {
  out: string
  overwrite?: boolean
}

/** Trains into the run folder. Rejects with ERR_ABORTED after a checkpoint was written. */
export async function trainPrepared(
  device: Device,
  prepared: PreparedTraining,
  { out, overwrite = false }: RunTarget,
  session: Session,
): Promise<TrainOutcome> {
  const { model, set, test, recipe, seed, keep, workers, initFrom } = prepared
  const begin = performance.now()
  const finished = prepared.run && (await readOutcome(prepared.run))
  if (finished) {
    session.note(`${out} is complete: nothing to resume.`)
    return finished
  }
  // What does not fit is told before there is a folder.
  resolvePlan(model, set, { ...recipe, seed, test: test ?? undefined })
  const { signal } = session
  const checkpoint = prepared.run ? await prepared.run.resume() : null
  const start = checkpoint?.params ?? (await startVector(model, seed, initFrom, signal))
  const state = await startState(model, initFrom, signal)
  const run = prepared.run ?? (await newRun(out, overwrite, device, prepared))
  if (prepared.run && !checkpoint) await rm(run.file('metrics.jsonl'), { force: true })
  session.resume = `losscape train --resume --out ${shellWord(out)}`
  if (checkpoint) session.note(`Resuming ${out} at step ${checkpoint.step}.`)

  const bar = session.progress('train')
  const batch = Math.min((recipe.batch ?? 128) * (recipe.accumulate ?? 1), set.size)
  if (keep && !checkpoint) {
    const stored = (vector: FloatVector): FloatVector =>
      recipe.precision === 'f64' ? vector : Float32Array.from(vector)
    await run.keepParameters(0, stored(start), stored(state))
  }
  let tested = ''
  const training = train(device, model, set, {
    ...recipe,
    seed,
    test: test ?? undefined,
    params: start,
    state,
    workers,
    resume: checkpoint ?? undefined,
    checkpointEvery: keep ?? checkpointSteps(set.size, batch),
    async onCheckpoint(reached) {
      const { step, params } = reached
      // A stop before the first step leaves nothing to keep, and large models take long to write.
      if (session.signal.aborted && step === (checkpoint?.step ?? 0)) return
      if (keep && step % keep === 0) await run.keepParameters(step, params, reached.state)
      await run.saveCheckpoint(reached)
    },
    async onMetrics(row) {
      await run.appendMetrics(row)
      if (row.split === 'test') tested = `, test ${shortly(row)}`
    },
    onProgress: ({ step, steps, epoch, loss }) =>
      bar.update(step, steps, `epoch ${epoch.toFixed(1)}, loss ${loss.toPrecision(3)}${tested}`),
    signal: session.signal,
  })
  const result = await training.catch(async (error: unknown) => {
    // Nothing to resume, and the folder must not stand in the way of the next attempt.
    if (!prepared.run && !session.signal.aborted) await run.removeUnlessStarted()
    throw error
  })
  await run.saveParameters(result.params, result.state)
  if (result.ema) await saveModel(run.file(EMA), model, result.ema, result.state)
  const rows = await run.readMetrics()
  const outcome: TrainOutcome = {
    run: out,
    status: result.status,
    n: model.size,
    steps: result.steps,
    epochs: rows.at(-1)?.epoch ?? 0,
    lastFiniteLoss: result.lastFiniteLoss,
    train: lastOf(rows, 'train'),
    test: lastOf(rows, 'test'),
    ...(result.ema && { ema: lastOf(rows, 'test-ema') }),
    time_ms: performance.now() - begin,
    device: device.name,
  }
  await writeFileAtomic(run.file(RESULT), `${JSON.stringify(outcome, null, 2)}\n`)
  await rm(run.file('checkpoint.safetensors'), { force: true })
  bar.finish(summary(outcome))
  return outcome
}

const RESULT = 'result.json'
const EMA = 'ema.safetensors'

async function startVector(
  model: Model,
  seed: number,
  from: InitFrom | undefined,
  signal: AbortSignal,
): Promise<FloatVector> {
  if (!from) return model.initAsync(seed, { signal })
  return loadStart(from.path, model, { seed, signal, ...(from.skip && { skip: from.skip }) })
}

async function startState(
  model: Model,
  from: InitFrom | undefined,
  signal: AbortSignal,
): Promise<FloatVector> {
  if (!from) return model.initState()
  return loadStartState(from.path, model, { signal, ...(from.skip && { skip: from.skip }) })
}

async function newRun(
  out: string,
  overwrite: boolean,
  device: Device,
  { model, data, recipe, seed, test, keep, initFrom, given }: PreparedTraining,
): Promise<RunFolder> {
  const training = {
    ...recipe,
    test: test !== null,
    threads: device.threads,
    ...(keep !== undefined && { keepCheckpoints: keep }),
    ...(initFrom && { initFrom }),
    ...(Object.keys(given).length > 0 && { given }),
  }
  const run = await createRun(out, { model, data, training, seed, overwrite })
  // From now on the folder is taken, also for a run that another process starts.
  await run.appendMetrics()
  // What an earlier run left would be taken for results of this one.
  for (const name of await readdir(out)) {
    const ofAnalysis = /^(spectrum.*|surface|attention)\.json$/.test(name)
    if (name === RESULT || name === EMA || ofAnalysis) await rm(join(out, name))
  }
  return run
}

async function readOutcome(run: RunFolder): Promise<TrainOutcome | null> {
  try {
    return JSON.parse(await readFile(run.file(RESULT), 'utf8')) as TrainOutcome
  } catch {
    return null
  }
}

function lastOf(rows: readonly MetricsRow[], split: MetricsRow['split']): TrainOutcome['train'] {
  const row = rows.findLast((candidate) => candidate.split === split)
  return row ? { loss: row.loss, accuracy: row.accuracy } : null
}

function describe({ loss, accuracy }: { loss: number | null; accuracy: number | null }): string {
  const parts = [`loss ${loss?.toPrecision(4) ?? 'not finite'}`]
  if (accuracy !== null) parts.push(`accuracy ${(100 * accuracy).toFixed(2)} %`)
  return parts.join(', ')
}

/** The one number that fits beside a progress bar. */
function shortly({ loss, accuracy }: MetricsRow): string {
  return accuracy === null ? loss.toPrecision(3) : `${(100 * accuracy).toFixed(1)} %`
}

/** One line about a training. */
export function summary(outcome: TrainOutcome): string {
  const parts = [
    outcome.status === 'diverged'
      ? `diverged at step ${outcome.steps} (last finite loss ${outcome.lastFiniteLoss})`
      : `${outcome.steps} steps`,
  ]
  if (outcome.train) parts.push(`train ${describe(outcome.train)}`)
  if (outcome.test) parts.push(`test ${describe(outcome.test)}`)
  if (outcome.ema) parts.push(`averaged weights ${describe(outcome.ema)}`)
  return parts.join('; ')
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
