import { join } from 'node:path'
import { withProgress } from '../callbacks.js'
import { encodeNpy } from '../data/npy.js'
import { throwIfAborted } from '../errors.js'
import { type FileContent, writeFileAtomic } from '../files/atomic.js'
import { makeFolder } from '../files/folder.js'
import { attentionArrays, spectrumArrays, surfaceArrays } from './arrays.js'
import { comparisonOf, figuresOf } from './charts/index.js'
import type { ReportData, RunReport } from './data.js'
import { type DrawnFigure, renderHtml } from './html.js'
import { svgToPng } from './png.js'
import { renderSvg } from './svg.js'
import { type ChartSpec, type Figure, theme } from './theme.js'

export interface ReportOptions {
  signal?: AbortSignal
  /** Called after each figure. */
  onProgress?: (done: number, total: number) => void
}

/**
 * Writes a report into `folder` (made when missing):
 *
 * - `index.html`, self-contained;
 * - `figures/RUN-CHART.svg`, `.png` (2x) and `.vl.json` (the Vega-Lite specification), those that
 *   belong to no single run as `figures/CHART.*`;
 * - `arrays/RUN-NAME.npy` as in {@link spectrumArrays}, {@link surfaceArrays} and
 *   {@link attentionArrays}.
 *
 * Every file is replaced atomically and the page comes last, so a page never points to figures
 * that are not there. Returns the paths written, the page first. Charts for which a run has no
 * data are left out.
 *
 * Figures are drawn on the calling thread, about 0.1 s each: a service calls this in a worker.
 *
 * @throws LosscapeError `ERR_IO` when the folder cannot be written, `ERR_ABORTED`.
 */
export async function writeReport(
  folder: string,
  data: ReportData,
  options: ReportOptions = {},
): Promise<string[]> {
  return withProgress(options, (guarded) => writeFiles(folder, data, guarded))
}

async function writeFiles(
  folder: string,
  data: ReportData,
  { signal, onProgress }: ReportOptions,
): Promise<string[]> {
  for (const path of [folder, join(folder, 'figures'), join(folder, 'arrays')]) {
    await makeFolder(path)
  }
  const written: string[] = []
  const write = async (relative: string, content: FileContent) => {
    await writeFileAtomic(join(folder, relative), content, { signal })
    written.push(join(folder, relative))
  }
  const slugs = uniqueSlugs(data.runs)
  const jobs = [
    ...comparisonOf(data.runs).map((figure) => ({ figure, key: uniqueKey(figure.id, slugs) })),
    ...data.runs.flatMap((run, r) =>
      figuresOf(run).map((figure) => ({ figure, key: `${slugs[r]}-${figure.id}` })),
    ),
    ...(data.sections ?? []).flatMap(({ title, figures = [] }) =>
      figures.map((figure) => ({ figure, section: title, key: uniqueKey(figure.id, slugs) })),
    ),
  ]
  const drawn: DrawnFigure[] = []
  for (const { figure, key, section } of jobs as Job[]) {
    throwIfAborted(signal)
    const svg = await renderSvg(figure.spec, { idPrefix: `${key}-` })
    const stem = `figures/${key}`
    await write(`${stem}.svg`, svg)
    await write(`${stem}.png`, await svgToPng(svg))
    await write(`${stem}.vl.json`, specJson({ $schema: SCHEMA, ...figure.spec }))
    const links = [
      ['SVG', `${stem}.svg`],
      ['PNG', `${stem}.png`],
    ] as const
    drawn.push({ ...figure, key, section, svg, spec: specJson(figure.spec), links })
    onProgress?.(drawn.length, jobs.length)
  }
  for (const [r, run] of data.runs.entries()) {
    const arrays = {
      ...(run.spectrum && spectrumArrays(run.spectrum)),
      ...(run.surface && surfaceArrays(run.surface)),
      ...(run.attention && attentionArrays(run.attention)),
    }
    for (const [name, array] of Object.entries(arrays)) {
      await write(`arrays/${slugs[r]}-${name}.npy`, encodeNpy(array))
    }
  }
  await write('index.html', renderHtml(data, drawn))
  return [...written.slice(-1), ...written.slice(0, -1)]
}

interface Job {
  readonly figure: Figure
  readonly key: string
  readonly section?: string
}

/** The figure's id, told apart from the files of a run of that name. */
function uniqueKey(id: string, slugs: readonly string[]): string {
  return slugs.some((slug) => id.startsWith(`${slug}-`)) ? `all-${id}` : id
}

const SCHEMA = 'https://vega.github.io/schema/vega-lite/v6.json'

/** The specification with its theme; seven digits are more than a picture shows. */
function specJson(spec: ChartSpec): string {
  const round = (_: string, value: unknown) =>
    typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(7)) : value
  return JSON.stringify({ ...spec, config: theme }, round, 1)
}

/** Names as file-name stems: lower-case letters, digits and dashes, made unique by a number. */
function uniqueSlugs(runs: readonly RunReport[]): string[] {
  const taken = new Set<string>()
  return runs.map((run) => {
    const plain = run.name
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, '-')
      .replace(/^-|-$/g, '')
    const stem = plain.slice(0, 60) || 'run'
    let slug = stem
    for (let k = 2; taken.has(slug); k++) slug = `${stem}-${k}`
    taken.add(slug)
    return slug
  })
}
