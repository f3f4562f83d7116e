import type { AttentionSpectrumResult, LogBand } from '../analyses.js'
import type { RunReport } from '../data.js'
import { type ChartSpec, type Figure, PLOT_WIDTH, palette, titled } from '../theme.js'

const SCORES = 'before activation'
const WEIGHTS = 'after activation'
/** Logarithms below it are rounding of float64, and of no use on the axis. */
const FLOOR = Math.log(1e-16)

/** Singular values of attention of the first and the last block. */
export function attentionSpectrumCharts(run: RunReport): Figure[] {
  const spectra = run.attention?.spectra ?? []
  const shown = spectra.length > 1 ? [spectra[0], spectra[spectra.length - 1]] : spectra
  return shown.flatMap(
    (spectrum) =>
      attentionSpectrumFigure(spectrum, {
        id: `attention-spectrum-${spectrum.block}`,
        subtitle: `${run.name} · block ${spectrum.block}`,
      }) ?? [],
  )
}

export interface AttentionSpectrumText {
  readonly id: string
  readonly subtitle: string
}

/** ln σ_i by index: mean as a line, smallest to largest over heads and images as a band. */
export function attentionSpectrumFigure(
  spectrum: AttentionSpectrumResult,
  { id, subtitle }: AttentionSpectrumText,
): Figure | undefined {
  const values = [...band(SCORES, spectrum.scores), ...band(WEIGHTS, spectrum.weights)]
  if (values.length === 0) return undefined
  const { min, max } = spectrum.rank
  const color: ChartSpec = {
    field: 'name',
    type: 'nominal',
    scale: { domain: [SCORES, WEIGHTS], range: [palette[0], palette[1]] },
    legend: { symbolType: 'stroke', symbolSize: 260, symbolOpacity: 1 },
  }
  const x: ChartSpec = {
    field: 'index',
    type: 'quantitative',
    title: 'Index of the singular value',
    scale: { zero: false, nice: false, padding: 6 },
    axis: { tickMinStep: 1, format: 'd', tickCount: 8 },
  }
  const y: ChartSpec = { type: 'quantitative', title: 'ln σ', scale: { zero: false, nice: true } }
  return {
    id,
    title: `Singular values of attention, block ${spectrum.block}`,
    caption:
      'Natural logarithms of singular values of the attention matrices: mean (line), smallest and ' +
      'largest (band) over heads and images. Values below 10⁻¹⁶ are left out. Rank of the weights: ' +
      `${min === max ? min : `${min} … ${max}`}.`,
    spec: {
      title: titled('Singular values of attention', subtitle),
      width: PLOT_WIDTH,
      height: 236,
      data: { values },
      layer: [
        {
          mark: { type: 'area', opacity: 0.18 },
          encoding: { x, y: { ...y, field: 'low' }, y2: { field: 'high' }, color },
        },
        { mark: { type: 'line' }, encoding: { x, y: { ...y, field: 'mean' }, color } },
      ],
    },
  }
}

function band(name: string, { min, mean, max }: LogBand) {
  return mean.flatMap((value, i) => {
    const high = max[i]
    if (value === null || high === null || value < FLOOR) return []
    return [{ name, index: i + 1, mean: value, low: Math.max(min[i] ?? FLOOR, FLOOR), high }]
  })
}
