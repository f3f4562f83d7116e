import type { RunReport } from '../data.js'
import { formatNumber } from '../format.js'

/** Longest name shown, so that what follows it stays in view. */
const NAME_LENGTH = 36

/** `name · n = 269,322 · 10 probes × 80 steps`. */
export function spectrumSubtitle(run: RunReport): string {
  const spectrum = run.spectrum
  if (!spectrum) return run.name
  const steps = Math.max(0, ...spectrum.nodes.map((row) => row.length))
  const plural = (count: number, word: string) => `${count} ${word}${count === 1 ? '' : 's'}`
  const probes = plural(spectrum.nodes.length, 'probe')
  const letters = [...run.name]
  const name =
    letters.length > NAME_LENGTH ? `${letters.slice(0, NAME_LENGTH - 1).join('')}…` : run.name
  return `${name} · n = ${formatNumber(spectrum.n)} · ${probes} × ${plural(steps, 'step')}`
}
