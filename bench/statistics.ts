/** Median; the mean of the two middle values for an even count. NaN when empty. */
export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/**
 * How many times better ours is: peer / ours where small is good, ours / peer where large is.
 * null without a peer, or when a value is not a positive number.
 */
export function ratio(
  ours: number,
  peer: number | null,
  better: 'lower' | 'higher',
): number | null {
  if (peer === null || !(ours > 0) || !(peer > 0)) return null
  return better === 'lower' ? peer / ours : ours / peer
}
