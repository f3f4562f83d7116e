/** A function with its first two derivatives at x. */
export type Jet = (x: number) => readonly [number, number, number]

const indices = (n: number): number[] => Array.from({ length: n }, (_, i) => i)

/** cos x .. cos Gx, then sin x .. sin Gx. */
export function harmonics(G: number): Jet[] {
  return [...indices(G).map((i) => cosine(i + 1)), ...indices(G).map((i) => sine(i + 1))]
}

function cosine(m: number): Jet {
  return (x) => {
    const [c, s] = [Math.cos(m * x), Math.sin(m * x)]
    return [c, -m * s, -m * m * c]
  }
}

function sine(m: number): Jet {
  return (x) => {
    const [c, s] = [Math.cos(m * x), Math.sin(m * x)]
    return [s, m * c, -m * m * s]
  }
}

/** T_1(t) .. T_degree(t) at t = tanh x. */
export function chebyshev(degree: number): Jet[] {
  return indices(degree).map((i) => (x) => {
    const t = Math.tanh(x)
    let [a, da, dda] = [1, 0, 0]
    let [b, db, ddb] = [t, 1, 0]
    for (let n = 0; n < i; n++) {
      const next = [2 * t * b - a, 2 * b + 2 * t * db - da, 4 * db + 2 * t * ddb - dda]
      ;[a, da, dda] = [b, db, ddb]
      ;[b, db, ddb] = next
    }
    const slope = 1 / Math.cosh(x) ** 2
    return [b, db * slope, (ddb * slope - 2 * t * db) * slope]
  })
}

/** exp(-((x - c_i) / h)²) at centers from low to high, h apart. */
export function gaussians(centers: number, low: number, high: number): Jet[] {
  const h = (high - low) / (centers - 1)
  return indices(centers).map((i) => (x) => {
    const u = (x - (low + i * h)) / h
    const e = Math.exp(-u * u)
    return [e, (-2 * u * e) / h, ((4 * u * u - 2) * e) / (h * h)]
  })
}

/** B-splines of degree `order` on knots h = 2 range / intervals apart, from -range - order h. */
export function splines(order: number, intervals: number, range: number): Jet[] {
  const h = (2 * range) / intervals
  return indices(intervals + order).map((i) => (x) => {
    const s = (x + range) / h + order - i
    return [
      cardinal(order, s),
      (cardinal(order - 1, s) - cardinal(order - 1, s - 1)) / h,
      (cardinal(order - 2, s) - 2 * cardinal(order - 2, s - 1) + cardinal(order - 2, s - 2)) /
        (h * h),
    ]
  })
}

/** The B-spline of degree k on the knots 0, 1 .. k + 1, by the recurrence of Cox and de Boor. */
function cardinal(k: number, s: number): number {
  if (Number.isNaN(s)) return s
  if (!(s >= 0 && s < k + 1)) return 0
  if (k === 0) return 1
  return (s * cardinal(k - 1, s) + (k + 1 - s) * cardinal(k - 1, s - 1)) / k
}
