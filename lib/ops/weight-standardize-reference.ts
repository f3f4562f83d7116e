import type { Attributes } from '../program/types.js'

/** How the divisor of a filter is made; see {@link RowScale}. */
export type StandardizeForm = 'in' | 'out' | 'max'

/** What the weights of one filter say: U, r = 1 / sigma and d sigma = kappa U dU, nu = r kappa. */
export interface RowScale {
  readonly u: Float64Array
  readonly sigma: number
  readonly r: number
  readonly nu: number
  /** The tangent of nu along B = sum U U' is nuSlope B. */
  readonly nuSlope: number
}

export const sumOf = (x: ArrayLike<number>): number => {
  let total = 0
  for (let i = 0; i < x.length; i++) total += x[i]
  return total
}

export const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let total = 0
  for (let i = 0; i < a.length; i++) total += a[i] * b[i]
  return total
}

/** x - mean x; the deviation from the first element is averaged, so equal elements give zeros. */
export function centered(x: Float64Array): Float64Array {
  const mean = x[0] + sumOf(x.map((v) => v - x[0])) / x.length
  return x.map((v) => v - mean)
}

/** The float64 reference of the scale of a filter, with the attributes of the operation. */
export function scaleOf(w: Float64Array, attributes: Attributes): RowScale {
  const { epsilon, delta } = attributes as { epsilon: number; delta: number }
  const u = attributes.center === 1 ? centered(w) : w
  const squares = dot(u, u)
  const q = squares / (w.length - delta)
  const make = (sigma: number, kappa: number, slope: (nu: number) => number): RowScale => {
    // Equal weights and epsilon 0: U = 0, and 0 times any r is meant to be 0.
    const r = sigma === 0 ? 0 : 1 / sigma
    const nu = r * kappa
    return { u, sigma, r, nu, nuSlope: nu === 0 ? 0 : slope(nu) }
  }
  if (attributes.scale !== 1) return make(1, 0, () => 0)
  switch (attributes.form as StandardizeForm) {
    case 'in': {
      const sigma = Math.sqrt(q + epsilon)
      return make(sigma, sigma === 0 ? 0 : 1 / (sigma * (w.length - delta)), (nu) => -2 * nu * nu)
    }
    case 'out': {
      const root = Math.sqrt(q)
      const sigma = root + epsilon
      const kappa = root === 0 ? 0 : 1 / ((w.length - delta) * root)
      return make(sigma, kappa, (nu) => -nu * kappa * (1 / sigma + 1 / root))
    }
    case 'max': {
      const sigma = Math.sqrt(Math.max(squares, epsilon))
      return make(sigma, squares > epsilon ? 1 / sigma : 0, (nu) => -2 * nu * nu)
    }
  }
}

const project = (x: Float64Array, attributes: Attributes): Float64Array =>
  attributes.center === 1 ? centered(x) : x

/** r U */
export function standardizedRow(w: Float64Array, attributes: Attributes): Float64Array {
  const { u, r } = scaleOf(w, attributes)
  return u.map((v) => r * v)
}

/** J v = r (v - mean v - nu A U) */
export function jacobianRow(
  w: Float64Array,
  v: Float64Array,
  attributes: Attributes,
): Float64Array {
  const { u, r, nu } = scaleOf(w, attributes)
  const a = dot(v, u)
  return project(v, attributes).map((x, i) => r * (x - nu * a * u[i]))
}

/** The tangent of J p along t, plus J v. */
export function bendRow(
  w: Float64Array,
  p: Float64Array,
  t: Float64Array,
  v: Float64Array | null,
  attributes: Attributes,
): Float64Array {
  const { u, r, nu, nuSlope } = scaleOf(w, attributes)
  const pc = project(p, attributes)
  const tc = project(t, attributes)
  const vc = v && project(v, attributes)
  const a = dot(p, u)
  const b = dot(tc, u)
  const aDot = dot(p, tc) + (v ? dot(v, u) : 0)
  const radial = nu * nu * a * b - nuSlope * b * a - nu * aDot
  return u.map((x, i) => r * ((vc ? vc[i] : 0) - nu * b * pc[i] - nu * a * tc[i] + radial * x))
}
