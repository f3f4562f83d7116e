const SUPERSCRIPTS: Record<string, string> = {
  '-': '⁻',
  '0': '⁰',
  '1': '¹',
  '2': '²',
  '3': '³',
  '4': '⁴',
  '5': '⁵',
  '6': '⁶',
  '7': '⁷',
  '8': '⁸',
  '9': '⁹',
}

/** `-5` as `⁻⁵`. */
export function superscript(integer: number): string {
  return [...String(integer)].map((digit) => SUPERSCRIPTS[digit]).join('')
}

/**
 * A number for people: `digits` significant digits (default 4), powers of ten outside
 * [1e-3, 1e6), thousands separated by commas, `–` for anything that is not finite.
 */
export function formatNumber(value: number | null | undefined, digits = 4): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–'
  if (value === 0) return '0'
  const sign = value < 0 ? '−' : ''
  const size = Math.abs(value)
  if (Number.isInteger(value) && size < 1e12) return sign + size.toLocaleString('en-US')
  if (size < 1e-3 || size >= 1e6) {
    const [mantissa, exponent] = size.toExponential(digits - 1).split('e')
    return `${sign}${mantissa} × 10${superscript(Number(exponent))}`
  }
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(size)))
  return (
    sign +
    size.toLocaleString('en-US', {
      minimumFractionDigits: decimals,
      maximumFractionDigits: decimals,
    })
  )
}

/**
 * `value ± error`, both in the unit of the value's last meaningful digit: two significant digits
 * of the error decide. Without a finite error the value alone.
 */
export function formatWithError(value: number, error: number | undefined): string {
  if (error === undefined || !Number.isFinite(error) || !Number.isFinite(value)) {
    return formatNumber(value)
  }
  if (error === 0) return `${formatNumber(value, 6)} ± 0`
  const largest = Math.max(Math.abs(value), error)
  const exponent = Math.floor(Math.log10(largest))
  const scientific = exponent < -3 || exponent >= 6
  const shift = scientific ? exponent : 0
  const errorDigit = Math.floor(Math.log10(error)) - 1
  const decimals = Math.min(Math.max(shift - errorDigit, 0), 9)
  const unit = 10 ** shift
  const fixed = (x: number) =>
    x.toLocaleString('en-US', { minimumFractionDigits: decimals, maximumFractionDigits: decimals })
  // An error below the digits shown is stated as such rather than as zero.
  const small = error / unit < 0.5 * 10 ** -decimals
  const spread = small ? formatNumber(error / unit, 2) : fixed(error / unit)
  const body = `${value < 0 ? '−' : ''}${fixed(Math.abs(value) / unit)} ± ${spread}`
  return scientific ? `(${body}) × 10${superscript(exponent)}` : body
}

/** Milliseconds as `12 ms`, `3.4 s` or `2 min 5 s`. */
export function formatDuration(milliseconds: number): string {
  if (!Number.isFinite(milliseconds)) return '–'
  if (milliseconds < 1000) return `${formatNumber(milliseconds, 3)} ms`
  const seconds = milliseconds / 1000
  if (seconds < 120) return `${formatNumber(seconds, 3)} s`
  const whole = Math.round(seconds)
  return `${Math.floor(whole / 60)} min ${whole % 60} s`
}

/** A fraction in [0, 1] as a percentage with two decimals. */
export function formatPercent(fraction: number | null | undefined): string {
  if (fraction === null || fraction === undefined || !Number.isFinite(fraction)) return '–'
  return `${(100 * fraction).toFixed(2)} %`
}
