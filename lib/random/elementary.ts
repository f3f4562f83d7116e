/**
 * Elementary functions with a fixed order of operations, made of + - * / and sqrt only.
 * Math.log, Math.sin and Math.cos may differ by an ulp between engines, and between
 * JavaScript and C++; these do not, which is what makes random streams and procedural data
 * equal bit for bit everywhere. `native/runtime/random.h` holds the same sequences.
 */

const LN2_HIGH = 0.6931471803691238 // 33 leading bits, so that e * LN2_HIGH is exact
const LN2_LOW = 1.9082149292705877e-10
const SQRT_HALF = 0.7071067811865476

/** Natural logarithm for x in [2^-60, 1], within 2 ulp. */
export function logUnit(x: number): number {
  let m = x
  let e = 0
  for (let shift = 32, scale = 4294967296; shift >= 1; shift >>= 1, scale = Math.sqrt(scale)) {
    if (m * scale < SQRT_HALF * 2) {
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
    let a = 2509.0809287301226727
    a = a * r + 33430.575583588128105
    a = a * r + 67265.770927008700853
    a = a * r + 45921.953931549871457
    a = a * r + 13731.693765509461125
    a = a * r + 1971.5909503065514427
    a = a * r + 133.14166789178437745
    a = a * r + 3.387132872796366608
    let b = 5226.495278852854561
    b = b * r + 28729.085735721942674
    b = b * r + 39307.89580009271061
    b = b * r + 21213.794301586595867
    b = b * r + 5394.1960214247511077
    b = b * r + 687.1870074920579083
    b = b * r + 42.313330701600911252
    b = b * r + 1
    return (q * a) / b
  }
  const tail = q < 0 ? u : 1 - u
  const r = Math.sqrt(-logUnit(tail)) - 1.6
  let c = 7.7454501427834140764e-4
  c = c * r + 0.0227238449892691845833
  c = c * r + 0.24178072517745061177
  c = c * r + 1.27045825245236838258
  c = c * r + 3.64784832476320460504
  c = c * r + 5.7694972214606914055
  c = c * r + 4.6303378461565452959
  c = c * r + 1.42343711074968357734
  let d = 1.05075007164441684324e-9
  d = d * r + 5.475938084995344946e-4
  d = d * r + 0.0151986665636164571966
  d = d * r + 0.14810397642748007459
  d = d * r + 0.68976733498510000455
  d = d * r + 1.6763848301838038494
  d = d * r + 2.05319162663775882187
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
