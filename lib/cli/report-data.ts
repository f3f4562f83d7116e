import { readdir } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { LosscapeError } from '../errors.js'
import { ioError } from '../files/errors.js'
import type { ReportData, RunReport } from '../report/data.js'
import { openRun, type RunConfig, type RunFolder } from '../train/run-folder.js'
import { ANALYSES, readAttention, readSurface } from './analysis-files.js'
import { readSpectrum, type SavedSpectrum } from './spectrum-files.js'

/**
 * Collects the trainings and analyses of run folders for a report. Files of a run that cannot be
 * read are left out and told in `problems`; a folder that is no run fails.
 */
export async function reportData(
  folders: readonly string[],
  title = 'Loss landscapes',
): Promise<ReportData> {
  const runs: RunReport[] = []
  const provenance: ReportData['provenance'] = {}
  const problems: string[] = []
  const names = uniqueNames(folders)
  for (const [i, folder] of folders.entries()) {
    const run = await openRun(folder)
    runs.push(...(await reportsOf(run, names[i], problems)))
    Object.assign(provenance, provenanceOf(run.config, folders.length > 1 ? `${names[i]}: ` : ''))
  }
  const empty = (run: RunReport): boolean =>
    !run.metrics?.length && !run.spectrum && !run.surface && !run.attention
  if (runs.every(empty)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      [`${folders.join(', ')}: no metrics and no spectrum to report yet.`, ...problems].join(' '),
    )
  }
  return { title, runs, provenance, ...(problems.length > 0 && { problems }) }
}

/** The run with its Hessian spectrum and further analyses, then one entry for every further spectrum. */
async function reportsOf(run: RunFolder, name: string, problems: string[]): Promise<RunReport[]> {
  const reading = <T>(read: () => Promise<T>): Promise<T | null> => readable(read, problems)
  const metrics = (await reading(() => run.readMetrics())) ?? []
  const spectra = new Map<string, SavedSpectrum>()
  for (const file of await spectrumFiles(run.path)) {
    const spectrum = await reading(() => readSpectrum(run.file(file)))
    if (spectrum) spectra.set(file, spectrum)
  }
  const main = spectra.get(MAIN)
  spectra.delete(MAIN)
  const summary = summaryOf(run.config)
  const surface = await reading(() => readSurface(run.file(ANALYSES.surface)))
  const attention = await reading(() => readAttention(run.file(ANALYSES.attention)))
  return [
    {
      ...{ name, summary },
      ...(metrics.length > 0 && { metrics }),
      ...(main && { spectrum: main }),
      ...(surface && { surface }),
      ...(attention && { attention }),
    },
    ...[...spectra].map(([file, spectrum]) => {
      const { kind = 'hessian', params } = spectrum.settings ?? {}
      const block = params === undefined ? '' : ` of ${params}`
      return {
        name: `${name}, ${file.slice(9, -5)}`,
        summary: `${kind}${block}; ${summary}`,
        spectrum,
      }
    }),
  ]
}

/** What `read` gives, or null for a damaged file, which `problems` then has. */
async function readable<T>(read: () => Promise<T>, problems: string[]): Promise<T | null> {
  try {
    return await read()
  } catch (error) {
    const damaged =
      error instanceof LosscapeError && (error.code === 'ERR_FORMAT' || error.code === 'ERR_IO')
    if (!damaged) throw error
    problems.push(error.message)
    return null
  }
}

const MAIN = 'spectrum.json'

async function spectrumFiles(folder: string): Promise<string[]> {
  try {
    const names = await readdir(folder)
    return names.filter((name) => /^spectrum(-.*)?(?<!\.partial)\.json$/.test(name)).sort()
  } catch (error) {
    throw ioError(folder, 'read', error)
  }
}

function summaryOf({ model, data, training, seed }: RunConfig): string {
  const optimizer = training.optimizer as { kind?: string; lr?: number } | undefined
  const parts = [
    `${model.model}${model.activation ? ` (${model.activation})` : ''}`,
    `on ${data.spec ?? 'data of its own'}${data.samples ? `, ${data.samples} samples` : ''}`,
  ]
  if (optimizer?.kind) parts.push(`${optimizer.kind} with learning rate ${optimizer.lr}`)
  if (training.epochs !== undefined) parts.push(`${training.epochs} epochs`)
  return `${parts.join(', ')}, seed ${seed}`
}

function provenanceOf(
  { model, data, training, seed, versions }: RunConfig,
  prefix: string,
): ReportData['provenance'] {
  const threads = training.threads as number | undefined
  return {
    [`${prefix}model`]: model.model,
    [`${prefix}data`]: data.spec ?? 'data of its own',
    [`${prefix}seed`]: seed,
    ...(threads !== undefined && { [`${prefix}threads`]: threads }),
    ...Object.fromEntries(Object.entries(versions).map(([key, value]) => [prefix + key, value])),
  }
}

/** Last parts of the paths, or whole paths where these coincide. */
function uniqueNames(folders: readonly string[]): string[] {
  const short = folders.map((folder) => basename(resolve(folder)))
  return short.map((name, i) =>
    short.indexOf(name) === short.lastIndexOf(name) ? name : folders[i],
  )
}
