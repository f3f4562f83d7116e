import { functional } from '../curvature/measure.js'
import { precisionFloor, type RunReport, spectralRadius, usableMeasure } from './data.js'
import { formatDuration, formatNumber, formatPercent, formatWithError } from './format.js'

/** One row of the comparison: a quantity and its value in every run (`–` where unknown). */
export interface ScalarRow {
  label: string
  /** What it is, in a few words. */
  note: string
  cells: string[]
}

/** A quantity of one run as text, or `undefined` where the run does not have it. */
type Scalar = { label: string; note: string; text: string }

/** The table of scalars, one column a run; quantities that no run has are left out. */
export function scalarRows(runs: readonly RunReport[]): ScalarRow[] {
  const columns = runs.map((run) => [
    ...trainingScalars(run),
    ...spectrumScalars(run),
    ...surfaceScalars(run),
    ...attentionScalars(run),
  ])
  // Order of first appearance, a run with more quantities filling the gaps of the others.
  const longestFirst = [...columns].sort((a, b) => b.length - a.length)
  const rows = new Map<string, ScalarRow>()
  for (const { label, note } of longestFirst.flat()) {
    if (rows.has(label)) continue
    const cells = columns.map((column) => column.find((s) => s.label === label)?.text ?? '–')
    rows.set(label, { label, note, cells })
  }
  return [...rows.values()]
}

function trainingScalars(run: RunReport): Scalar[] {
  return (['train', 'test'] as const).flatMap((split) => {
    const last = run.metrics?.findLast((row) => row.split === split)
    if (!last) return []
    const scalars = [
      { label: `Loss (${split})`, note: 'last recorded', text: formatNumber(last.loss) },
    ]
    if (last.accuracy !== undefined && last.accuracy !== null) {
      scalars.push({
        label: `Accuracy (${split})`,
        note: 'last recorded',
        text: formatPercent(last.accuracy),
      })
    }
    return scalars
  })
}

function spectrumScalars(run: RunReport): Scalar[] {
  const spectrum = run.spectrum
  if (!spectrum) return []
  const { eigenvalues, residuals, n } = spectrum
  const scalars: Scalar[] = [
    { label: 'Parameters n', note: '', text: formatNumber(n) },
    {
      label: 'Samples',
      note: 'that the loss is a mean over',
      text: formatNumber(spectrum.samples),
    },
  ]
  const floor = precisionFloor(spectrum)
  const add = (label: string, note: string, text: string) => scalars.push({ label, note, text })
  for (const [label, end] of [
    ['Largest eigenvalue λ_max', 'top'],
    ['Smallest eigenvalue λ_min', 'bottom'],
  ] as const) {
    if (eigenvalues[end].length === 0) continue
    // A residual below the rounding of the products says nothing about them.
    const error = Math.max(residuals[end][0] ?? Number.NaN, floor)
    const note = '± residual norm, at least the precision floor'
    add(label, note, formatWithError(eigenvalues[end][0], error))
  }
  const { value, stderr } = spectrum.trace
  add('Trace', '± standard error', formatWithError(value, stderr))
  add('Mean eigenvalue', 'trace / n', formatWithError(value / n, stderr / n))
  const measure = usableMeasure(spectrum)
  if (measure) {
    const squares = functional(measure, (t) => t * t, n)
    const norm = Math.sqrt(squares.value)
    const normError = norm > 0 ? squares.standardError / (2 * norm) : squares.standardError
    add('Frobenius norm', '± standard error', formatWithError(norm, normError))
    const energy = eigenvalues.top.reduce((sum, x) => sum + x * x, 0) / squares.value
    if (Number.isFinite(energy)) {
      const count = eigenvalues.top.length
      const relative = squares.standardError / squares.value
      const text = `${formatWithError(100 * energy, 100 * energy * relative)} %`
      add('Energy of the top eigenvalues', `first ${count}: Σλ² / ‖H‖²`, text)
    }
    const radius = spectralRadius(spectrum)
    const share = (f: (t: number) => boolean) => {
      const { value: part, standardError } = functional(measure, (t) => (f(t) ? 100 : 0), 1)
      return `${formatWithError(part, standardError)} %`
    }
    add(
      'Nearly flat',
      '|λ| ≤ 10⁻³ λ_max',
      share((t) => Math.abs(t) <= 1e-3 * radius),
    )
    add(
      'Negative',
      'λ below − precision floor',
      share((t) => t < -floor),
    )
    const steps = Math.max(...measure.nodes.map((row) => row.length))
    add('Probes × steps', 'Lanczos quadrature', `${measure.nodes.length} × ${steps}`)
    add('Precision floor', 'smaller |λ| is rounding', formatNumber(floor, 2))
  }
  add('Time', 'of the spectrum', formatDuration(spectrum.time_ms))
  add('Device', '', spectrum.device)
  return scalars
}

function surfaceScalars({ surface }: RunReport): Scalar[] {
  if (!surface) return []
  const { roughness, explained, x, y } = surface
  const note = `${x.length} × ${y.length} points in the plane of the checkpoints`
  const shares = explained.slice(0, 2).map((share) => formatPercent(share))
  return [
    { label: 'Roughness', note, text: formatNumber(roughness.index, 3) },
    { label: 'Variance in the plane', note: 'of the checkpoints', text: shares.join(' + ') },
  ]
}

function attentionScalars({ attention }: RunReport): Scalar[] {
  if (!attention) return []
  const { cost, spectra, tokens } = attention
  const last = spectra[spectra.length - 1]
  const rank = last ? [...new Set([last.rank.min, last.rank.max])].join(' … ') : '–'
  const mebibytes = (bytes: number): string => `${formatNumber(bytes / 2 ** 20, 3)} MiB`
  const ofBatch = `of ${cost.batch} images`
  return [
    { label: 'Parameters n', note: '', text: formatNumber(cost.parameters) },
    {
      label: 'Parameters of learnable attention',
      note: 'functions and projectors',
      text: formatNumber(cost.attentionParameters),
    },
    { label: 'Rank of attention', note: `last block, ${tokens} tokens`, text: rank },
    {
      label: 'Operations of the activation',
      note: "an image, by the paper's law",
      text: formatNumber(cost.activationOperations),
    },
    { label: 'Memory forward', note: ofBatch, text: mebibytes(cost.forwardBytes) },
    { label: 'Memory with gradients', note: ofBatch, text: mebibytes(cost.trainingBytes) },
    {
      label: 'Images a second',
      note: 'forward; with gradients',
      text: [cost.forwardImagesPerSecond, cost.trainingImagesPerSecond]
        .map((rate) => formatNumber(rate, 3))
        .join('; '),
    },
  ]
}
