import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Device } from '../device/device.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import { writeFileAtomic } from '../files/atomic.js'
import { makeFolder } from '../files/folder.js'
import type { ReportData } from '../report/data.js'
import type {
  Conclusion,
  Experiment,
  Paper,
  ReproduceRequest,
  Results,
  SeedResult,
} from './paper.js'
import { verdictTable } from './table.js'

export interface ReproduceOptions {
  /** Of the package, recorded in the results. */
  readonly version: string
  readonly signal?: AbortSignal
  /** Share of the whole, in [0, 1], and what is under way. */
  readonly onProgress?: (share: number, note: string) => void
  /** Told once, before the first part runs: parts that were found finished, of all. */
  readonly onResume?: (found: number, total: number) => void
}

/** What is written as `results.json`. */
export interface Reproduction extends Pick<Conclusion, 'claims'> {
  readonly paper: string
  readonly reference: string
  readonly settings: unknown
  readonly seeds: readonly number[]
  readonly results: Results<Record<string, unknown>>
  readonly version: string
  readonly device: string
  readonly threads: number
  /** Time that the experiments took, summed over the runs that made them. */
  readonly time_ms: number
}

/**
 * Runs the experiments of a paper over seeds 0 .. seeds - 1 into a folder. Every finished part, an
 * experiment with one seed, is kept as `parts/EXPERIMENT-seedS.json` and taken up by a later call
 * with the same settings of that experiment; the others are computed. Writes `results.json`, the report `index.html`
 * and its figures.
 *
 * @returns the reproduction and the path of the page
 * @throws ERR_ARGUMENT, ERR_IO; ERR_ABORTED with every finished part kept
 */
export async function reproduce<S, R extends object>(
  device: Device,
  paper: Paper<S, R>,
  request: ReproduceRequest,
  folder: string,
  options: ReproduceOptions,
): Promise<{ reproduction: Reproduction; conclusion: Conclusion; page: string }> {
  const { signal, onProgress } = options
  if (!Number.isSafeInteger(request.seeds) || request.seeds < 1) {
    throw new LosscapeError('ERR_ARGUMENT', `seeds must be at least 1, got ${request.seeds}.`)
  }
  const settings = paper.settings(request)
  const seeds = Array.from({ length: request.seeds }, (_, i) => i)
  const parts = Object.entries<Experiment<S, unknown> | undefined>(
    paper.experiments(settings),
  ).flatMap(([id, experiment]) =>
    experiment ? seeds.map((seed) => new Part(folder, paper, settings, id, experiment, seed)) : [],
  )
  await makeFolder(join(folder, 'parts'))
  for (const part of parts) await part.load()
  options.onResume?.(parts.filter((part) => part.saved).length, parts.length)

  const total = parts.reduce((sum, part) => sum + part.experiment.weight, 0)
  let done = 0
  for (const part of parts) {
    throwIfAborted(signal)
    const { weight, title } = part.experiment
    const note = `${title}, seed ${part.seed}`
    await part.compute(device, signal, (share, what) =>
      onProgress?.((done + weight * share) / total, what ? `${note}: ${what}` : note),
    )
    done += weight
    onProgress?.(done / total, note)
  }
  const results = collect<R>(parts)
  const conclusion = paper.conclude(results, settings)
  const reproduction: Reproduction = {
    paper: paper.name,
    reference: paper.reference,
    settings,
    seeds,
    claims: conclusion.claims,
    version: options.version,
    device: device.name,
    threads: device.threads,
    time_ms: parts.reduce((sum, part) => sum + (part.saved?.time_ms ?? 0), 0),
    results: results as Reproduction['results'],
  }
  await writeFileAtomic(join(folder, 'results.json'), `${JSON.stringify(reproduction)}\n`, {
    signal,
  })
  const { writeReport } = await import('../report/write.js')
  const [page] = await writeReport(folder, reportOf(paper, reproduction, conclusion), {
    signal,
    onProgress: (drawn, all) => onProgress?.(1, `figure ${drawn} of ${all}`),
  })
  return { reproduction, conclusion, page }
}

function collect<R extends object>(parts: readonly Part<unknown>[]): Results<R> {
  const results: Record<string, SeedResult<unknown>[]> = {}
  for (const { id, seed, saved } of parts) {
    results[id] = [...(results[id] ?? []), { seed, result: saved?.result }]
  }
  return results as Results<R>
}

interface Saved {
  readonly key: string
  readonly time_ms: number
  readonly result: unknown
}

/** One experiment with one seed, and its file. */
class Part<S> {
  saved: Saved | null = null
  private readonly key: string
  private readonly path: string

  constructor(
    folder: string,
    { name }: Pick<Paper, 'name'>,
    private readonly settings: S,
    readonly id: string,
    readonly experiment: Experiment<S, unknown>,
    readonly seed: number,
  ) {
    const text = JSON.stringify([name, id, seed, experiment.dependsOn(settings)])
    this.key = createHash('sha256').update(text).digest('hex')
    this.path = join(folder, 'parts', `${id}-seed${seed}.json`)
  }

  /** What an earlier run with these settings left; a file of others, or a damaged one, is redone. */
  async load(): Promise<void> {
    try {
      const saved = JSON.parse(await readFile(this.path, 'utf8')) as Saved
      if (saved.key === this.key && saved.result !== undefined) this.saved = saved
    } catch {
      this.saved = null
    }
  }

  async compute(
    device: Device,
    signal: AbortSignal | undefined,
    onProgress: (share: number, note: string) => void,
  ): Promise<void> {
    if (this.saved) return
    const begin = performance.now()
    const { settings, seed } = this
    const result = await this.experiment.run({ device, settings, seed, signal, onProgress })
    this.saved = { key: this.key, time_ms: performance.now() - begin, result }
    await writeFileAtomic(this.path, `${JSON.stringify(this.saved)}\n`)
  }
}

function reportOf(
  paper: Pick<Paper, 'title' | 'reference'>,
  { claims, seeds, version, device, threads, time_ms }: Reproduction,
  { sections }: Conclusion,
): ReportData {
  const verdicts = {
    title: 'Claims and verdicts',
    text: [
      `Over ${seeds.length} seeds. A case is one setting with one seed. Seen: the threshold holds ` +
        'in every case; mixed: in at least half; not seen: in fewer.',
    ],
    tables: [verdictTable(claims)],
  }
  return {
    title: paper.title,
    runs: [],
    sections: [verdicts, ...sections],
    provenance: {
      paper: paper.reference,
      losscape: version,
      device,
      threads,
      seeds: seeds.join(', '),
      'time of the experiments (s)': Math.round(time_ms / 1000),
    },
  }
}
