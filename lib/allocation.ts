import { LosscapeError } from './errors.js'

/**
 * `new Type(length)` for a length that an argument decides: the engine's RangeError says neither
 * what was asked for nor why.
 * @throws ERR_OUT_OF_MEMORY naming what needed how much
 */
export function newArray<T extends object>(
  Type: (new (length: number) => T) & { readonly BYTES_PER_ELEMENT: number },
  length: number,
  what: string,
): T {
  try {
    return new Type(length)
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause
    const gibibytes = (length * Type.BYTES_PER_ELEMENT) / 2 ** 30
    throw new LosscapeError(
      'ERR_OUT_OF_MEMORY',
      `${what}: ${length} numbers take ${gibibytes.toPrecision(3)} GiB, more than can be allocated.`,
      { cause },
    )
  }
}
