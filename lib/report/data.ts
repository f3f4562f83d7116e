import type { AttentionResult, SurfaceResult } from './analyses.js'
import type { Figure } from './theme.js'

/** What `writeReport` draws: runs side by side, and where they came from. */
export interface ReportData {
  title: string
  runs: RunReport[]
  /** Further parts of the page, after the runs: an experiment's text, tables and figures. */
  sections?: ReportSection[]
  /** What was left out of the page and why, one sentence each; shown on top. */
  problems?: string[]
  /** Versions, seed, data, model, machine, threads: whatever is needed to repeat the runs. */
  provenance: Record<string, string | number>
}

/** A part of the page with a heading. */
export interface ReportSection {
  title: string
  /** Paragraphs of plain text. */
  text?: string[]
  tables?: ReportTable[]
  /** Ids are unique among all sections; they name the files. */
  figures?: Figure[]
}

/** A table of plain text; the first column names the rows. */
export interface ReportTable {
  header: string[]
  rows: string[][]
}

/** One run: a training, a spectrum, further analyses, or some of them. */
export interface RunReport {
  /** Unique among the runs of a report; also names its files. */
  name: string
  /** One sentence: model, data, training. */
  summary: string
  metrics?: MetricsRow[]
  spectrum?: SpectrumResult
  surface?: SurfaceResult
  attention?: AttentionResult
}

/** One line of `metrics.jsonl`. */
export interface MetricsRow {
  /** Optimiser updates made so far. */
  step: number
  /** Epochs done so far; may be fractional. */
  epoch: number
  split: 'train' | 'test' | 'test-ema'
  /** Mean loss; `null` (NaN in JSON) where it diverged. */
  loss: number | null
  /** Fraction of right answers in [0, 1], for classifiers. */
  accuracy?: number | null
  lr?: number | null
}

/** The JSON of `losscape spectrum --json`. */
export interface SpectrumResult {
  /** Number of parameters. */
  n: number
  /** Samples that the loss was averaged over. */
  samples: number
  /** `top` from the largest downwards, `bottom` from the smallest upwards. */
  eigenvalues: { top: number[]; bottom: number[] }
  /** Norms ‖Hy - θy‖, one for each eigenvalue: some eigenvalue lies within that distance. */
  residuals: { top: number[]; bottom: number[] }
  trace: { value: number; stderr: number }
  density: { grid: number[]; values: number[] }
  /** Quadrature nodes and weights, one row a probe. */
  nodes: number[][]
  weights: number[][]
  time_ms: number
  device: string
  /** Precision of the products, default `'f32'`; sets the precision floor. */
  dtype?: 'f32' | 'f64'
}

/** Relative accuracy of eigenvalues by the precision of the products (f32 sums in f64). */
const RELATIVE_FLOOR = { f32: 1e-6, f64: 1e-14 }

/** Largest |λ| among eigenvalues and nodes; 0 for the zero operator or when nothing is known. */
export function spectralRadius(spectrum: SpectrumResult): number {
  let radius = 0
  for (const row of [spectrum.eigenvalues.top, spectrum.eigenvalues.bottom, ...spectrum.nodes]) {
    for (const value of row) if (Number.isFinite(value)) radius = Math.max(radius, Math.abs(value))
  }
  return radius
}

/** Eigenvalues smaller than this in magnitude are rounding: 1e-6 λ_max for f32 products. */
export function precisionFloor(spectrum: SpectrumResult): number {
  return RELATIVE_FLOOR[spectrum.dtype ?? 'f32'] * spectralRadius(spectrum)
}

/**
 * Nodes and weights without probes that are empty or hold values that are not finite (JSON turns
 * NaN into null), or `undefined` when none is left.
 */
export function usableMeasure(
  spectrum: SpectrumResult,
): { nodes: number[][]; weights: number[][] } | undefined {
  const good = spectrum.nodes.flatMap((row, p) => {
    const weights = spectrum.weights[p] ?? []
    const finite = [...row, ...weights].every((x) => Number.isFinite(x))
    return row.length > 0 && row.length === weights.length && finite ? [p] : []
  })
  if (good.length === 0) return undefined
  return {
    nodes: good.map((p) => spectrum.nodes[p]),
    weights: good.map((p) => spectrum.weights[p]),
  }
}
