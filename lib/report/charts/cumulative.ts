import { precisionFloor, type RunReport, spectralRadius, usableMeasure } from '../data.js'
import { formatNumber } from '../format.js'
import { colors, type Figure, PLOT_WIDTH, titled } from '../theme.js'
import { symmetricLogX } from './axes.js'
import { floorBand } from './eigenvalue-strip.js'
import { spectrumSubtitle } from './subtitle.js'

interface Step {
  t: number
  fraction: number
}

/** Cumulative distribution of the eigenvalues: every probe and their mean, without a kernel. */
export function cumulativeDensity(run: RunReport): Figure | undefined {
  const spectrum = run.spectrum
  const measure = spectrum && usableMeasure(spectrum)
  if (!spectrum || !measure) return undefined
  const radius = spectralRadius(spectrum)
  const c = 1e-6 * radius || 1e-6
  const all = measure.nodes.flat()
  const margin = 0.3 * radius
  const low = Math.min(...all, -10 * c)
  const high = Math.max(...all, 10 * c) + margin
  const domain: [number, number] = [low < 0 ? 1.3 * low : low - margin, high]
  const x = symmetricLogX('Eigenvalue λ (symmetric-log)', domain, c)
  const perProbe = measure.nodes.map((nodes, p) => steps([nodes], [measure.weights[p]], domain))
  const line = (color: string, strokeWidth: number, opacity: number) => ({
    type: 'line',
    interpolate: 'step-after',
    color,
    strokeWidth,
    opacity,
  })
  const encoding = {
    x: { ...x, field: 't' },
    y: {
      field: 'fraction',
      type: 'quantitative',
      title: 'Fraction of eigenvalues ≤ λ',
      scale: { domain: [0, 1] },
      axis: { format: '.0%' },
    },
  }
  return {
    id: 'cumulative',
    title: 'Cumulative distribution',
    caption:
      'Fraction of eigenvalues up to λ, straight from nodes and weights (no smoothing). ' +
      'Blue: mean over probes; grey lines: single probes; grey band: below the precision floor ' +
      `${formatNumber(precisionFloor(spectrum), 2)}.`,
    spec: {
      title: titled('Cumulative distribution', spectrumSubtitle(run)),
      width: PLOT_WIDTH,
      height: 244,
      layer: [
        ...floorBand(spectrum, x, domain),
        {
          data: { values: perProbe.flatMap((rows, probe) => rows.map((r) => ({ ...r, probe }))) },
          mark: line(colors.faint, 0.75, 0.7),
          encoding: { ...encoding, detail: { field: 'probe', type: 'nominal' } },
        },
        {
          data: { values: steps(measure.nodes, measure.weights, domain) },
          mark: line(colors.primary, 2, 1),
          encoding,
        },
      ],
    },
  }
}

/** Corners of the step function over the domain, with the mean over the given probes. */
function steps(nodes: number[][], weights: number[][], domain: [number, number]): Step[] {
  const jumps = nodes
    .flatMap((row, p) => row.map((t, l) => ({ t, weight: weights[p][l] / nodes.length })))
    .sort((a, b) => a.t - b.t)
  let fraction = 0
  const corners = jumps.map(({ t, weight }) => {
    fraction += weight
    return { t, fraction }
  })
  return [{ t: domain[0], fraction: 0 }, ...corners, { t: domain[1], fraction }]
}
