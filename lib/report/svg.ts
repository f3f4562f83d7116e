import { LosscapeError } from '../errors.js'
import { type ChartSpec, theme } from './theme.js'

/**
 * Renders a Vega-Lite specification to a standalone SVG document, without a browser.
 *
 * `idPrefix` makes the ids inside (clip paths) unique, which several SVGs in one HTML page need.
 * Data must be inline: URLs are refused. Cost: 20 to 100 ms a chart, plus loading Vega once.
 *
 * @throws LosscapeError `ERR_FORMAT` when Vega cannot compile or draw the specification.
 */
export async function renderSvg(
  spec: ChartSpec,
  options: { idPrefix?: string } = {},
): Promise<string> {
  const [vega, vegaLite] = await Promise.all([import('vega'), import('vega-lite')])
  // Vega's own guess, 0.8 em a letter, widens the picture for text that is not there.
  Object.assign((vega as unknown as { textMetrics: object }).textMetrics, { width: textWidth })
  try {
    const { spec: compiled } = vegaLite.compile(
      { config: theme, ...spec } as unknown as Parameters<typeof vegaLite.compile>[0],
      { logger: silentLogger() },
    )
    const refuse = () => Promise.reject(new Error('report figures must hold their data'))
    const loader = { ...vega.loader(), load: refuse, sanitize: refuse, http: refuse, file: refuse }
    const view = new vega.View(vega.parse(compiled), {
      renderer: 'none',
      loader: loader as unknown as ReturnType<typeof vega.loader>,
    })
    view.logLevel(vega.Error)
    try {
      return uniqueIds(await view.toSVG(), options.idPrefix ?? '')
    } finally {
      view.finalize()
    }
  } catch (error) {
    throw new LosscapeError(
      'ERR_FORMAT',
      `The figure could not be drawn: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    )
  }
}

/** Width of a label in pixels: digits of Arial are 0.556 em, running text is a little less. */
function textWidth(item: { fontSize?: number; text?: unknown }, text?: unknown): number {
  return 0.56 * (item.fontSize ?? 11) * String(text ?? item.text ?? '').length
}

/** Vega numbers its clip paths from 0 in every picture. */
function uniqueIds(svg: string, prefix: string): string {
  return svg
    .replace(/ id="(clip|gradient)/g, ` id="${prefix}$1`)
    .replace(/url\(#(clip|gradient)/g, `url(#${prefix}$1`)
}

function silentLogger() {
  const logger = {
    level: () => logger,
    error: () => logger,
    warn: () => logger,
    info: () => logger,
    debug: () => logger,
  }
  return logger as never
}
