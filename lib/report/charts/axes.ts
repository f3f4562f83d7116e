import type { ChartSpec } from '../theme.js'

/** Vega expression: an axis value that is 0 or ±10ᵏ as `0`, `10⁻³`, `−10²`. */
export const POWER_LABEL = powerLabelExpression()

function powerLabelExpression(): string {
  const digits = "['⁰','¹','²','³','⁴','⁵','⁶','⁷','⁸','⁹']"
  const k = 'round(log(abs(datum.value)) / LN10)'
  const upper = `(abs(${k}) >= 10 ? ${digits}[floor(abs(${k}) / 10)] : '') + ${digits}[abs(${k}) % 10]`
  const power = `(${k} == 0 ? '1' : ${k} == 1 ? '10' : '10' + (${k} < 0 ? '⁻' : '') + ${upper})`
  return `datum.value == 0 ? '0' : (datum.value < 0 ? '−' : '') + ${power}`
}

/** Powers of ten within [low, high], thinned to at most `count`. */
export function powerTicks(low: number, high: number, count: number): number[] {
  const first = Math.ceil(Math.log10(low) - 1e-9)
  const last = Math.floor(Math.log10(high) + 1e-9)
  const step = Math.max(1, Math.ceil((last - first + 1) / count))
  const ticks: number[] = []
  for (let k = last; k >= first; k -= step) ticks.push(Number(`1e${k}`))
  return ticks.reverse()
}

/** Ticks of one's own; Vega thins them to the theme's number unless told theirs. */
export function ticksAt(values: readonly number[]): ChartSpec {
  return { values, tickCount: values.length }
}

/** Logarithmic y channel over [low, high] with ticks at powers of ten. */
export function logY(title: string, low: number, high: number): ChartSpec {
  return {
    type: 'quantitative',
    title,
    scale: { type: 'log', domain: [low, high], nice: false },
    axis: { ...ticksAt(powerTicks(low, high, 6)), labelExpr: POWER_LABEL },
  }
}

/** Symmetric-log channel, x or y (linear within ±c), with ticks at 0 and powers of ten. */
export function symmetricLogX(
  title: string,
  domain: readonly [number, number],
  c: number,
): ChartSpec {
  const [low, high] = domain
  // Ticks closer to 0 than 10 c would run into each other.
  const positive = high > 10 * c ? powerTicks(10 * c, high, 5) : []
  const negative = low < -10 * c ? powerTicks(10 * c, -low, 5).map((t) => -t) : []
  const values = [...negative, 0, ...positive].filter((t) => t >= low && t <= high)
  return {
    type: 'quantitative',
    title,
    scale: { type: 'symlog', constant: c, domain, nice: false },
    axis:
      values.length > 1
        ? { ...ticksAt(values), labelExpr: POWER_LABEL }
        : { tickCount: 6, format: '.4~g' },
  }
}

/** The value as JSON can hold it: numbers that are not finite become null (a gap in a line). */
export function finiteOrNull(value: number | null | undefined): number | null {
  return value !== null && value !== undefined && Number.isFinite(value) ? value : null
}
