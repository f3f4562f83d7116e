const SIGN = 0x8000

/** IEEE float16 bits as float32; exact. */
export function decodeHalf(bits: Uint16Array): Float32Array {
  return Float32Array.from(bits, halfToNumber)
}

function halfToNumber(h: number): number {
  const exponent = (h >> 10) & 0x1f
  const fraction = h & 0x3ff
  const magnitude =
    exponent === 0
      ? fraction * 2 ** -24
      : exponent === 31
        ? fraction === 0
          ? Number.POSITIVE_INFINITY
          : Number.NaN
        : (1 + fraction / 1024) * 2 ** (exponent - 15)
  return h & SIGN ? -magnitude : magnitude
}

/** bfloat16 bits as float32; exact. */
export function decodeBfloat(bits: Uint16Array): Float32Array {
  return new Float32Array(Uint32Array.from(bits, (b) => b * 65536).buffer)
}
