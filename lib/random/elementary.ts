/**
 * Elementary functions with a fixed order of operations, made of + - * / and sqrt only.
 * Math.log, Math.sin and Math.cos may differ by an ulp between engines, and between
 * JavaScript and C++; these do not, which is what makes random streams and procedural data
 * equal bit for bit everywhere. `native/runtime/random.h` holds the same sequences.
 */

const LN2_HIGH = 0.6931471803691238 // 33 leading bits, so that e * LN2_HIGH is exact
const LN2_LOW = 1.9082149292705877e-10

/** Natural logarithm for x in [2^-60, 1], within 2 ulp. */
export function logUnit(x: number): number {
  let m = x
  let e = 0
  for (let shift = 32, scale = 4294967296; shift >= 1; shift >>= 1, scale = Math.sqrt(scale)) {
    if (m * scale < Math.SQRT2) {
      m = m * scale
      e = e - shift
    }
  }
  // log m = 2 atanh(s); |s| <= 0.1716, so the first term left out is below 2^-58.
  const s = (m - 1) / (m + 1)
  const z = s * s
  let p = 1 / 23
  p = p * z + 1 / 21
  p = p * z + 1 / 19
  p = p * z + 1 / 17
  p = p * z + 1 / 15
  p = p * z + 1 / 13
  p = p * z + 1 / 11
  p = p * z + 1 / 9
  p = p * z + 1 / 7
  p = p * z + 1 / 5
  p = p * z + 1 / 3
  const low = e * LN2_LOW + 2 * s * (z * p)
  return e * LN2_HIGH + (2 * s + low)
}

/**
 * The standard normal quantile for u in [2^-33, 1 - 2^-33], relative error about 1e-15:
 * z with P(Z < z) = u.
 *
 * Source: Wichura, "Algorithm AS 241: the percentage points of the normal distribution",
 * Applied Statistics 37 (1988), PPND16. Its third region (u < 1.4e-11) cannot be reached
 * from 32-bit uniforms and is left out.
 */
export function inverseNormal(u: number): number {
  const q = u - 0.5
  if (q >= -0.425 && q <= 0.425) {
    const r = 0.180625 - q * q
    let a = 2509.0809287301227
    a = a * r + 33430.57558358813
    a = a * r + 67265.7709270087
    a = a * r + 45921.95393154987
    a = a * r + 13731.69376550946
    a = a * r + 1971.5909503065513
    a = a * r + 133.14166789178438
    a = a * r + 3.3871328727963665
    let b = 5226.495278852854
    b = b * r + 28729.085735721943
    b = b * r + 39307.89580009271
    b = b * r + 21213.794301586597
    b = b * r + 5394.196021424751
    b = b * r + 687.1870074920579
    b = b * r + 42.31333070160091
    b = b * r + 1
    return (q * a) / b
  }
  const tail = q < 0 ? u : 1 - u
  const r = Math.sqrt(-logUnit(tail)) - 1.6
  let c = 0.0007745450142783414
  c = c * r + 0.022723844989269184
  c = c * r + 0.2417807251774506
  c = c * r + 1.2704582524523684
  c = c * r + 3.6478483247632045
  c = c * r + 5.769497221460691
  c = c * r + 4.630337846156546
  c = c * r + 1.4234371107496835
  let d = 1.0507500716444169e-9
  d = d * r + 0.0005475938084995345
  d = d * r + 0.015198666563616457
  d = d * r + 0.14810397642748008
  d = d * r + 0.6897673349851
  d = d * r + 1.6763848301838038
  d = d * r + 2.053191626637759
  d = d * r + 1
  const z = c / d
  return q < 0 ? -z : z
}

const HALF_PI = 1.5707963267948966

/** [cos 2 pi t, sin 2 pi t] for any finite t (an angle in turns), absolute error below 1e-15. */
export function unitCircle(turns: number): readonly [cosine: number, sine: number] {
  const quarter = (turns - Math.floor(turns)) * 4
  const nearest = Math.floor(quarter + 0.5)
  const x = (quarter - nearest) * HALF_PI
  const z = x * x
  // Taylor series; |x| <= pi / 4, so the first terms left out are below 2^-56.
  let s = 1 / 355687428096000
  s = s * z - 1 / 1307674368000
  s = s * z + 1 / 6227020800
  s = s * z - 1 / 39916800
  s = s * z + 1 / 362880
  s = s * z - 1 / 5040
  s = s * z + 1 / 120
  s = s * z - 1 / 6
  const sine = x + x * (z * s)
  let c = 1 / 20922789888000
  c = c * z - 1 / 87178291200
  c = c * z + 1 / 479001600
  c = c * z - 1 / 3628800
  c = c * z + 1 / 40320
  c = c * z - 1 / 720
  c = c * z + 1 / 24
  c = c * z - 1 / 2
  const cosine = 1 + z * c
  switch (nearest % 4) {
    case 0:
      return [cosine, sine]
    case 1:
      return [-sine, cosine]
    case 2:
      return [-cosine, -sine]
    default:
      return [sine, -cosine]
  }
}
