import { precisionFloor, type SpectrumResult } from '../data.js'
import { type ChartSpec, colors, PLOT_WIDTH } from '../theme.js'

/** A computed eigenvalue with the distance within which a true one lies. */
export interface Eigenvalue {
  end: 'top' | 'bottom'
  /** 1 for the outermost. */
  rank: number
  value: number
  low: number
  high: number
  residual: number
}

/** Ends of a horizontal axis. */
export type Domain = readonly [number, number]

/** The smallest domain that holds the given one and every computed eigenvalue. */
export function holdingEigenvalues(spectrum: SpectrumResult, [low, high]: Domain): Domain {
  const values = computedEigenvalues(spectrum).map((e) => e.value)
  return [Math.min(low, ...values), Math.max(high, ...values)]
}

/** Finite eigenvalues of both ends with residual bars (0 where the residual is unknown). */
export function computedEigenvalues(spectrum: SpectrumResult): Eigenvalue[] {
  return (['top', 'bottom'] as const).flatMap((end) =>
    spectrum.eigenvalues[end].flatMap((value, i) => {
      if (!Number.isFinite(value)) return []
      const stated = spectrum.residuals[end][i]
      const residual = Number.isFinite(stated) ? stated : 0
      return [{ end, rank: i + 1, value, low: value - residual, high: value + residual, residual }]
    }),
  )
}

/**
 * The strip under a density: a tick for each computed eigenvalue with its residual bar, on the
 * same x channel as the density above (`x`, without its field), whose domain holds them all.
 */
export function eigenvalueStrip(
  spectrum: SpectrumResult,
  x: ChartSpec,
  [low, high]: Domain,
): ChartSpec {
  const y = { value: 9 }
  return {
    width: PLOT_WIDTH,
    height: 18,
    data: {
      values: computedEigenvalues(spectrum).map((e) => ({
        ...e,
        low: Math.max(e.low, low),
        high: Math.min(e.high, high),
      })),
    },
    layer: [
      {
        mark: { type: 'rule', color: colors.accent, strokeWidth: 3, opacity: 0.25 },
        encoding: { x: { ...x, field: 'low' }, x2: { field: 'high' }, y },
      },
      {
        mark: { type: 'tick', color: colors.accent, thickness: 1.5, height: 14 },
        encoding: { x: { ...x, field: 'value' }, y },
      },
    ],
  }
}

/** Grey band over eigenvalues that are below the precision floor; none where 0 is out of sight. */
export function floorBand(
  spectrum: SpectrumResult,
  x: ChartSpec,
  [low, high]: Domain,
): ChartSpec[] {
  const floor = precisionFloor(spectrum)
  if (floor === 0 || low >= 0 || high <= 0) return []
  const band = {
    data: { values: [{ low: Math.max(-floor, low), high: Math.min(floor, high) }] },
    layer: [
      {
        mark: { type: 'rect', color: colors.band },
        encoding: { x: { ...x, field: 'low' }, x2: { field: 'high' } },
      },
      {
        mark: { type: 'text', color: colors.muted, fontSize: 9 },
        encoding: { x: { ...x, datum: 0 }, y: { value: 8 }, text: { value: 'floor' } },
      },
    ],
  }
  return [band]
}
