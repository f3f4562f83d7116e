import type { ReportTable } from '../report/data.js'
import { formatNumber } from '../report/format.js'
import type { SeedResult } from './paper.js'
import { type Claim, thresholdText } from './verdicts.js'

/** Claims with what was measured, the threshold, how often it held, and the verdict. */
export function verdictTable(claims: readonly Claim[]): ReportTable {
  return {
    header: ['Claim', 'Measured', 'Threshold', 'Values', 'Holds in', 'Verdict'],
    rows: claims.map((claim) => [
      claim.claim,
      claim.measure,
      thresholdText(claim.threshold),
      rangeText(claim.cases.map(({ value }) => value)),
      `${claim.cases.filter((one) => one.holds).length} of ${claim.cases.length}`,
      claim.verdict,
    ]),
  }
}

/** `0.12 … 0.98`, smallest and largest. */
export function rangeText(values: readonly number[]): string {
  const finite = values.filter(Number.isFinite)
  if (finite.length === 0) return '–'
  const [low, high] = [Math.min(...finite), Math.max(...finite)].map((x) => formatNumber(x, 3))
  return low === high ? low : `${low} … ${high}`
}

/** A row for each variant of a network, by its label; cells are ranges over the seeds. */
export function variantTable<V extends string, R>(
  found: readonly (readonly [name: V, seeds: readonly SeedResult<R>[]])[],
  variants: Readonly<Record<V, { readonly label: string }>>,
  columns: readonly (readonly [title: string, value: (result: R) => number])[],
): ReportTable {
  return {
    header: ['Over the seeds', ...columns.map(([title]) => title)],
    rows: found.map(([name, seeds]) => [
      variants[name].label,
      ...columns.map(([, value]) => rangeText(seeds.map(({ result }) => value(result)))),
    ]),
  }
}
