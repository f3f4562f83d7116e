import type { ReportData, ReportSection, ReportTable } from './data.js'
import { formatNumber } from './format.js'
import { scalarRows } from './scalars.js'
import { styleSheet } from './style.js'
import { plainText } from './theme.js'

/** A figure as the page shows it. */
export interface DrawnFigure {
  /** Unique in the page. */
  key: string
  /** Kind of chart, the same for all runs. */
  id: string
  title: string
  caption: string
  /** SVG document whose ids are unique in the page. */
  svg: string
  /** The Vega-Lite specification as JSON. */
  spec: string
  /** Title of the section that it stands in; default: among the runs' figures. */
  section?: string
  /** Neighbouring files, relative to the page: label and path. */
  links?: readonly (readonly [string, string])[]
}

/**
 * The report as one HTML page that needs no JavaScript and loads nothing: SVG and style are
 * inline. All text is escaped.
 */
export function renderHtml(data: ReportData, figures: readonly DrawnFigure[]): string {
  const title = escapeHtml(data.title)
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>${styleSheet}</style>
</head>
<body>
<main>
<header>
<h1>${title}</h1>
${runList(data)}
${problemList(data)}
</header>
${scalarSection(data)}
${figureSections(
  data,
  figures.filter((figure) => figure.section === undefined),
)}
${(data.sections ?? []).map((section) => ownSection(section, figures)).join('\n')}
${provenanceSection(data)}
</main>
</body>
</html>
`
}

/** Text as HTML content or attribute value, without characters that no page may hold. */
export function escapeHtml(text: string): string {
  return plainText(text)
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
    .replace(/"/g, '&quot;')
    .replace(/'/g, '&#39;')
}

function runList(data: ReportData): string {
  if (data.runs.length === 0) return data.sections ? '' : '<p>This report has no runs.</p>'
  const items = data.runs.map(
    (run) => `<li><b>${escapeHtml(run.name)}</b> – ${escapeHtml(run.summary)}</li>`,
  )
  return `<ul class="runs">${items.join('\n')}</ul>`
}

function problemList({ problems = [] }: ReportData): string {
  if (problems.length === 0) return ''
  const items = problems.map((problem) => `<li>Left out: ${escapeHtml(problem)}</li>`)
  return `<ul class="problems">${items.join('\n')}</ul>`
}

function scalarSection(data: ReportData): string {
  const rows = scalarRows(data.runs)
  if (rows.length === 0) return ''
  const header = data.runs.map((run) => `<th scope="col">${escapeHtml(run.name)}</th>`).join('')
  const body = rows.map(({ label, note, cells }) => {
    const small = note ? `<small>${escapeHtml(note)}</small>` : ''
    const values = cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')
    return `<tr><th scope="row">${escapeHtml(label)}${small}</th>${values}</tr>`
  })
  return `<section>
<h2>Results</h2>
<div class="scroll"><table>
<thead><tr><th scope="col">Quantity</th>${header}</tr></thead>
<tbody>
${body.join('\n')}
</tbody>
</table></div>
</section>`
}

/** One run: all figures in one grid. Several: a section a kind, runs side by side. */
function figureSections(data: ReportData, figures: readonly DrawnFigure[]): string {
  if (figures.length === 0) return ''
  const groups = new Map<string, DrawnFigure[]>()
  for (const figure of figures) {
    const heading = data.runs.length === 1 ? 'Figures' : figure.title
    groups.set(heading, [...(groups.get(heading) ?? []), figure])
  }
  const sections = [...groups].map(
    ([heading, members]) => `<section>
<h2>${escapeHtml(heading)}</h2>
<div class="figures">
${members.map(figureHtml).join('\n')}
</div>
</section>`,
  )
  return sections.join('\n')
}

function ownSection(
  { title, text = [], tables = [] }: ReportSection,
  figures: readonly DrawnFigure[],
): string {
  const own = figures.filter((figure) => figure.section === title)
  const parts = [
    ...text.map((paragraph) => `<p>${escapeHtml(paragraph)}</p>`),
    ...tables.map(tableHtml),
    ...(own.length > 0 ? [`<div class="figures">\n${own.map(figureHtml).join('\n')}\n</div>`] : []),
  ]
  return `<section>\n<h2>${escapeHtml(title)}</h2>\n${parts.join('\n')}\n</section>`
}

function tableHtml({ header, rows }: ReportTable): string {
  const head = header.map((cell) => `<th scope="col">${escapeHtml(cell)}</th>`).join('')
  const body = rows.map(([name, ...cells]) => {
    const values = cells.map((cell) => `<td class="wrap">${escapeHtml(cell)}</td>`).join('')
    return `<tr><th scope="row">${escapeHtml(name ?? '')}</th>${values}</tr>`
  })
  return `<div class="scroll"><table>
<thead><tr>${head}</tr></thead>
<tbody>
${body.join('\n')}
</tbody>
</table></div>`
}

function figureHtml({ key, title, caption, svg, spec, links = [] }: DrawnFigure): string {
  const files = links.map(([label, path]) => {
    const href = escapeHtml(path.split('/').map(encodeURIComponent).join('/'))
    return `<a href="${href}">${escapeHtml(label)}</a>`
  })
  const linkText = files.length > 0 ? ` ${files.join(' · ')}` : ''
  return `<figure id="${escapeHtml(key)}">
<div class="plot" role="img" aria-label="${escapeHtml(title)}">${inlineSvg(svg)}</div>
<figcaption>${escapeHtml(caption)}${linkText}</figcaption>
<details><summary>Vega-Lite specification</summary><pre>${escapeHtml(spec)}</pre></details>
</figure>`
}

/** HTML knows the namespaces of an inline SVG by itself. */
function inlineSvg(svg: string): string {
  return svg.replace(/<\?xml[^>]*\?>/, '').replace(/ xmlns(:\w+)?="[^"]*"/g, '')
}

function provenanceSection(data: ReportData): string {
  const entries = Object.entries(data.provenance)
  if (entries.length === 0) return ''
  const rows = entries.map(([key, value]) => {
    const text = typeof value === 'number' ? formatNumber(value, 6) : value
    return `<tr><th scope="row">${escapeHtml(key)}</th><td class="text">${escapeHtml(text)}</td></tr>`
  })
  return `<section>
<h2>Provenance</h2>
<div class="scroll"><table>
<tbody>
${rows.join('\n')}
</tbody>
</table></div>
</section>`
}
