import { access, readdir, readFile, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { requireArguments } from '../arguments.js'
import type { Normalization } from '../data/dataset.js'
import { LosscapeError } from '../errors.js'
import { writeFileAtomic } from '../files/atomic.js'
import { formatError, ioError } from '../files/errors.js'
import { makeFolder } from '../files/folder.js'
import { appendJsonLines, readJsonLines, truncateJsonLines } from '../files/jsonl.js'
import type { FloatVector } from '../nn/layout.js'
import type { MlpOptions } from '../nn/mlp.js'
import type { Model } from '../nn/model.js'
import { parseModel } from '../nn/parse.js'
import { requireOptions } from '../options.js'
import { type Checkpoint, loadCheckpoint, saveCheckpoint } from './checkpoint.js'
import type { MetricsRow } from './metrics.js'
import { loadModel, loadState, saveModel } from './weights.js'

/** Content of `config.json`; further fields are kept. */
export interface RunConfig {
  /** How to build the model again: `model` is its string, the rest its options. */
  readonly model: {
    readonly model: string
    readonly input?: readonly number[]
    readonly activation?: string
    readonly [option: string]: unknown
  }
  /** What it was trained on; mean and std are in units of pixel / 255 for pixels. */
  readonly data: {
    readonly spec?: string
    readonly samples?: number
    readonly normalization: Normalization
    readonly [option: string]: unknown
  }
  /** The options of the training. */
  readonly training: Readonly<Record<string, unknown>>
  readonly seed: number
  readonly versions: Readonly<Record<string, string>>
}

export interface CreateRunOptions {
  readonly model: Model
  readonly data: RunConfig['data']
  readonly training: RunConfig['training']
  /** Default 0. */
  readonly seed?: number
  /** Replaces what an earlier run left there. Default false. */
  readonly overwrite?: boolean
}

const FILES = {
  config: 'config.json',
  model: 'model.safetensors',
  metrics: 'metrics.jsonl',
  checkpoint: 'checkpoint.safetensors',
  kept: 'checkpoints',
} as const

const KEPT = /^step-(\d+)\.safetensors$/

/**
 * The files of one training run: `config.json`, `model.safetensors`, `metrics.jsonl`, while it
 * can be resumed `checkpoint.safetensors`, and where asked for parameters on the way in
 * `checkpoints/`. Analyses add files of their own.
 */
export class RunFolder {
  constructor(
    readonly path: string,
    readonly config: RunConfig,
    readonly model: Model,
  ) {}

  /** Path of a file in the folder. */
  file(name: string): string {
    return join(this.path, name)
  }

  /** @param state σ of a model that has one */
  async saveParameters(params: FloatVector, state?: FloatVector): Promise<void> {
    await saveModel(this.file(FILES.model), this.model, params, state)
  }

  /** @throws ERR_IO, ERR_FORMAT */
  async loadParameters(): Promise<FloatVector> {
    return loadModel(this.file(FILES.model), this.model)
  }

  /** The state σ; empty for a model without. Throws ERR_IO, ERR_FORMAT, ERR_NOT_FINITE. */
  async loadState(): Promise<FloatVector> {
    return loadState(this.file(FILES.model), this.model)
  }

  async appendMetrics(...rows: readonly MetricsRow[]): Promise<void> {
    await appendJsonLines(
      this.file(FILES.metrics),
      ...rows.map((row): Record<string, unknown> => ({ ...row })),
    )
  }

  /** Rows so far, without a torn last line; [] when there are none. NaN losses come back as null. */
  async readMetrics(): Promise<MetricsRow[]> {
    const path = this.file(FILES.metrics)
    if (!(await exists(path))) return []
    const { records } = await readJsonLines(path)
    return records as unknown as MetricsRow[]
  }

  async saveCheckpoint(checkpoint: Checkpoint): Promise<void> {
    await saveCheckpoint(this.file(FILES.checkpoint), this.model, checkpoint)
  }

  /** Keeps the parameters after a step for analyses of the training, `checkpoints/step-N.safetensors`. */
  async keepParameters(step: number, params: FloatVector, state?: FloatVector): Promise<void> {
    await makeFolder(this.file(FILES.kept))
    await saveModel(this.keptFile(step), this.model, params, state)
  }

  /** Steps after which parameters were kept, ascending; [] when none were. */
  async keptSteps(): Promise<number[]> {
    const folder = this.file(FILES.kept)
    if (!(await exists(folder))) return []
    const names = await readdir(folder)
    return names
      .flatMap((name) => KEPT.exec(name)?.[1] ?? [])
      .map(Number)
      .sort((a, b) => a - b)
  }

  /** @throws ERR_IO for a step that was not kept, ERR_FORMAT */
  async loadKept(step: number): Promise<FloatVector> {
    return loadModel(this.keptFile(step), this.model)
  }

  /** The state σ after a step; empty for a model without. */
  async loadKeptState(step: number): Promise<FloatVector> {
    return loadState(this.keptFile(step), this.model)
  }

  private keptFile(step: number): string {
    return join(this.file(FILES.kept), `step-${String(step).padStart(8, '0')}.safetensors`)
  }

  /** Takes a run back that failed before anything of it was saved. */
  async removeUnlessStarted(): Promise<void> {
    for (const name of [FILES.model, FILES.checkpoint]) {
      if (await exists(this.file(name))) return
    }
    if ((await this.readMetrics()).length > 0) return
    for (const name of [FILES.metrics, FILES.config]) await rm(this.file(name), { force: true })
    await rm(this.file(FILES.kept), { force: true, recursive: true })
  }

  /**
   * The checkpoint to go on from, or null. Metrics of later steps are cut off, so that what the
   * resumed run appends continues the file as if it had never stopped.
   */
  async resume(): Promise<Checkpoint | null> {
    const path = this.file(FILES.checkpoint)
    if (!(await exists(path))) return null
    const checkpoint = await loadCheckpoint(path, this.model)
    await truncateJsonLines(this.file(FILES.metrics), checkpoint.step)
    return checkpoint
  }
}

/**
 * Makes a folder for a run and writes its `config.json`. A folder that holds nothing else of a run
 * counts as fresh.
 *
 * @throws ERR_ARGUMENT when the folder holds a run already and `overwrite` is not set; ERR_IO
 *
 * @example
 * const run = await createRun('runs/a', {
 *   model, data: { spec: 'mnist:DIR', normalization: set.normalization }, training: { epochs: 3 },
 * })
 * await run.saveParameters(result.params, result.state)
 */
export async function createRun(path: string, options: CreateRunOptions): Promise<RunFolder> {
  requireArguments('createRun()', { path })
  requireOptions('createRun()', options, ['model', 'data', 'training', 'seed', 'overwrite'])
  const { model, data, training, seed = 0, overwrite = false } = options
  requireArguments('createRun()', { model, data, training })
  const config: RunConfig = {
    model: { ...model.config, model: model.name },
    data,
    training,
    seed,
    versions: { losscape: packageVersion(), node: process.versions.node },
  }
  const text = toJson(config)
  const run = new RunFolder(path, config, model)
  const configFile = run.file(FILES.config)
  await makeFolder(path)
  if (await exists(configFile)) {
    const left = await Promise.all(
      [FILES.checkpoint, FILES.metrics, FILES.model].map((name) => exists(run.file(name))),
    )
    // A configuration alone is a run that never made a step.
    if (!overwrite && left.includes(true)) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `${path} holds a run already: resume it, choose another folder, or pass overwrite.`,
      )
    }
    for (const name of [FILES.checkpoint, FILES.metrics, FILES.model]) {
      await rm(run.file(name), { force: true })
    }
    await rm(run.file(FILES.kept), { force: true, recursive: true })
  }
  await writeFileAtomic(configFile, text)
  return run
}

/**
 * Opens a run folder and builds its model again.
 *
 * @param options.model for models that no string describes ({@link defineModel})
 * @throws ERR_IO; ERR_FORMAT when `config.json` is not what it should be
 */
export async function openRun(
  path: string,
  options: { readonly model?: Model } = {},
): Promise<RunFolder> {
  requireArguments('openRun()', { path })
  requireOptions('openRun()', options, ['model'])
  if (options.model !== undefined) requireArguments('openRun()', { model: options.model })
  const file = join(path, FILES.config)
  const config = await readConfig(file)
  return new RunFolder(path, config, options.model ?? rebuild(file, config))
}

async function readConfig(file: string): Promise<RunConfig> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    throw ioError(file, 'read', error)
  }
  let content: unknown
  try {
    content = JSON.parse(text)
  } catch (cause) {
    throw formatError(file, { expected: 'JSON', got: (cause as Error).message, cause })
  }
  const { runConfigSchema } = await import('./run-config.js')
  const parsed = runConfigSchema.safeParse(content)
  if (parsed.success) return parsed.data as RunConfig
  const issues = parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`)
  throw formatError(file, { expected: 'the configuration of a run', got: issues.join('; ') })
}

function rebuild(file: string, { model }: RunConfig): Model {
  const { model: text, input, ...options } = model
  try {
    return parseModel(text, { input, options: options as Partial<MlpOptions> })
  } catch (cause) {
    const got = cause instanceof Error ? cause.message : String(cause)
    throw formatError(file, {
      expected: 'a model that can be built',
      got,
      hint: 'Pass the model itself to openRun() when no string describes it.',
      cause,
    })
  }
}

function toJson(config: RunConfig): string {
  try {
    return `${JSON.stringify(config, null, 2)}\n`
  } catch (cause) {
    const got = cause instanceof Error ? cause.message : String(cause)
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `createRun() expected a configuration that JSON can hold: ${got}.`,
      { cause },
    )
  }
}

/** Of this package; lib/train and dist/train are equally deep. */
function packageVersion(): string {
  const manifest = createRequire(import.meta.url)('../../package.json') as { version: string }
  return manifest.version
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path)
    return true
  } catch {
    return false
  }
}
