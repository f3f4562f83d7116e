import { LosscapeError } from '../errors.js'
import { requireFields } from './karat-bases.js'

/**
 * The function of an edge, phi(x; theta), for bases whose parameters stand inside the function.
 * With u = (x - tau) / s and parameters theta in this order:
 *
 * | kind            | phi                                                          | theta           |
 * | --------------- | ------------------------------------------------------------ | --------------- |
 * | `'rational'`    | (a_0 + .. + a_5 x^5) / (1 + |b_1 x + .. + b_4 x^4|)          | a_0..a_5, b_1..b_4 |
 * | `'mexican-hat'` | w 2 / (sqrt 3 pi^(1/4)) (u^2 - 1) exp(-u^2 / 2)              | w, tau, s       |
 * | `'morlet'`      | w cos(omega u) exp(-u^2 / 2), omega 5 by default             | w, tau, s       |
 * | `'dog'`         | -w u exp(-u^2 / 2)                                           | w, tau, s       |
 * | `'meyer'`       | w sin(pi |u|) m(|u|), m falling from 1 at 1/2 to 0 at 1      | w, tau, s       |
 * | `'shannon'`     | w sin(u) / u ham(m), ham(m) = 0.54 - 0.46 cos(2 pi m / (M - 1)) | w, tau, s    |
 *
 * m(v) = cos(pi/2 nu(2v - 1)) with nu(t) = t^4 (35 - 84 t + 70 t^2 - 20 t^3). The Hamming window of
 * Shannon's wavelet runs over the key index m, not over the value; for one key it is 1. Where
 * |D| (rational) and |u| (Meyer) have a kink, at 0, its derivative is taken as 0. An infinite u
 * gives a wavelet 0, its limit, with derivatives 0 (gradients of NaN where that is because s is 0);
 * an infinite x gives a rational unit NaN.
 */
export type EdgeBasis =
  /** A safe Padé unit; the orders 5 and 4 exist. */
  | { readonly kind: 'rational'; readonly numerator: number; readonly denominator: number }
  | { readonly kind: 'morlet'; readonly omega?: number }
  | { readonly kind: 'mexican-hat' | 'dog' | 'meyer' | 'shannon' }

const KINDS = ['rational', 'mexican-hat', 'morlet', 'dog', 'meyer', 'shannon']
const OMEGA = 5
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  rational: ['numerator', 'denominator'],
  morlet: ['omega'],
}

/** Parameters of one edge. @throws ERR_ARGUMENT for what is no {@link EdgeBasis} */
export function edgeParameters(basis: EdgeBasis): number {
  const kind = basis?.kind as string
  if (!KINDS.includes(kind)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `An edge basis has one of the kinds ${KINDS.join(', ')}; got ${String(kind)}. Bases that are sums of features go to karatLatent().`,
    )
  }
  if (basis.kind === 'rational' && !(basis.numerator === 5 && basis.denominator === 4)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `The rational basis has numerator 5 and denominator 4, got ${basis.numerator} and ${basis.denominator}.`,
    )
  }
  edgeFrequency(basis)
  requireFields(basis, FIELDS[kind] ?? [])
  return kind === 'rational' ? 10 : 3
}

/** omega of the Morlet wavelet; of no meaning to others. */
export function edgeFrequency(basis: EdgeBasis): number {
  if (basis.kind !== 'morlet') return OMEGA
  const { omega = OMEGA } = basis
  if (typeof omega !== 'number' || !Number.isFinite(omega)) {
    throw new LosscapeError('ERR_ARGUMENT', `omega must be a finite number, got ${String(omega)}.`)
  }
  return omega
}

/** A number and its derivative along one direction. */
export class Dual {
  constructor(
    readonly v: number,
    readonly d = 0,
  ) {}
  plus(b: Dual): Dual {
    return new Dual(this.v + b.v, this.d + b.d)
  }
  minus(b: Dual): Dual {
    return new Dual(this.v - b.v, this.d - b.d)
  }
  times(b: Dual): Dual {
    return new Dual(this.v * b.v, this.d * b.v + this.v * b.d)
  }
  scaled(c: number): Dual {
    return new Dual(this.v * c, this.d * c)
  }
  shifted(c: number): Dual {
    return new Dual(this.v + c, this.d)
  }
  /** f(this), f' being the derivative there. */
  through(f: number, slope: number): Dual {
    return new Dual(f, slope * this.d)
  }
  inverse(): Dual {
    return this.through(1 / this.v, -1 / (this.v * this.v))
  }
  exp(): Dual {
    return this.through(Math.exp(this.v), Math.exp(this.v))
  }
  sin(): Dual {
    return this.through(Math.sin(this.v), Math.cos(this.v))
  }
  cos(): Dual {
    return this.through(Math.cos(this.v), -Math.sin(this.v))
  }
}

export interface EdgeSlope {
  /** u is infinite. */
  readonly flat?: true
  readonly value: Dual
  readonly dx: Dual
  readonly dtheta: readonly Dual[]
}

/** What an edge depends on beside x and theta. */
export interface EdgeKey {
  readonly kind: string
  readonly omega: number
  /** Of Shannon's wavelet at this key, else 1. */
  readonly window: number
}

export function hammingWindow(m: number, keys: number): number {
  return keys === 1 ? 1 : 0.54 - 0.46 * Math.cos((2 * Math.PI * m) / (keys - 1))
}

/** phi and its derivatives along x and theta, each with its own along the direction of x, theta. */
export function edgeSlope(x: Dual, theta: readonly Dual[], key: EdgeKey): EdgeSlope {
  return key.kind === 'rational' ? rational(x, theta) : wavelet(x, theta, key)
}

const ZERO = new Dual(0)
const ONE = new Dual(1)
const polynomial = (x: Dual, c: readonly Dual[]): Dual =>
  c.slice(0, -1).reduceRight((sum, a) => sum.times(x).plus(a), c[c.length - 1])
const polynomialSlope = (x: Dual, c: readonly Dual[]): Dual =>
  polynomial(
    x,
    c.slice(1).map((a, i) => a.scaled(i + 1)),
  )

function rational(x: Dual, theta: readonly Dual[]): EdgeSlope {
  const a = theta.slice(0, 6)
  const b = [ZERO, ...theta.slice(6)]
  const denominator = polynomial(x, b)
  const sign = Math.sign(denominator.v)
  const q = denominator.scaled(sign).shifted(1).inverse()
  const value = polynomial(x, a).times(q)
  const pull = value.times(q).scaled(sign)
  const powers = [ONE]
  for (let i = 1; i < 6; i++) powers.push(powers[i - 1].times(x))
  return {
    value,
    dx: polynomialSlope(x, a)
      .times(q)
      .minus(pull.times(polynomialSlope(x, b))),
    dtheta: [
      ...powers.map((p) => p.times(q)),
      ...powers.slice(1, 5).map((p) => p.times(pull).scaled(-1)),
    ],
  }
}

function wavelet(x: Dual, [w, tau, s]: readonly Dual[], key: EdgeKey): EdgeSlope {
  const inverse = s.inverse()
  const u = x.minus(tau).times(inverse)
  if (Math.abs(u.v) === Number.POSITIVE_INFINITY) {
    const dx = w.times(ZERO).times(inverse)
    const dtheta = [ZERO, dx.scaled(-1), dx.scaled(-1)]
    return { flat: true, value: w.times(ZERO), dx, dtheta }
  }
  const mother = MOTHERS[key.kind](u, key.omega)
  const psi = mother.psi.scaled(key.window)
  const dx = w.times(mother.slope).times(inverse).scaled(key.window)
  return { value: w.times(psi), dx, dtheta: [psi, dx.scaled(-1), u.times(dx).scaled(-1)] }
}

interface Mother {
  readonly psi: Dual
  /** d psi / d u */
  readonly slope: Dual
}

/** exp(-u^2 / 2), and u where it is not 0: u^2 and u^3 of it are finite. */
function gauss(u: Dual): [e: Dual, u: Dual] {
  const near = Math.abs(u.v) > 40 ? new Dual(40) : u
  return [near.times(near).scaled(-0.5).exp(), near]
}

const MOTHERS: Readonly<Record<string, (u: Dual, omega: number) => Mother>> = {
  'mexican-hat': (far) => {
    const [bell, u] = gauss(far)
    const e = bell.scaled(2 / (Math.sqrt(3) * Math.PI ** 0.25))
    const square = u.times(u)
    return {
      psi: square.shifted(-1).times(e),
      slope: square.scaled(-1).shifted(3).times(u).times(e),
    }
  },
  morlet: (far, omega) => {
    const [e, u] = gauss(far)
    const angle = u.scaled(omega)
    const slope = angle.sin().scaled(omega).plus(u.times(angle.cos()))
    return { psi: angle.cos().times(e), slope: slope.times(e).scaled(-1) }
  },
  dog: (far) => {
    const [e, u] = gauss(far)
    return { psi: u.times(e).scaled(-1), slope: u.times(u).shifted(-1).times(e) }
  },
  meyer: (u) => {
    const sign = Math.sign(u.v)
    const v = u.scaled(sign)
    if (v.v >= 1) return { psi: ZERO, slope: ZERO }
    const t = v.v <= 0.5 ? ZERO : v.scaled(2).shifted(-1)
    const cube = t.times(t).times(t)
    const nu = cube.times(t).times(
      polynomial(
        t,
        [35, -84, 70, -20].map((c) => new Dual(c)),
      ),
    )
    const rest = t.scaled(-1).shifted(1)
    const rise = cube.times(rest).times(rest).times(rest).scaled(140)
    const half = nu.scaled(Math.PI / 2)
    const angle = v.scaled(Math.PI)
    const slope = angle.cos().times(half.cos()).minus(angle.sin().times(rise).times(half.sin()))
    return { psi: angle.sin().times(half.cos()), slope: slope.scaled(sign * Math.PI) }
  },
  shannon: (u) => {
    if (Math.abs(u.v) < 1) {
      // To 1e-17; the quotients below lose digits near 0.
      const series = [ONE]
      for (let k = 0; k < 9; k++) {
        series.push(series[k].scaled(-1 / ((2 * k + 2) * (2 * k + 3))))
      }
      const square = u.times(u)
      return {
        psi: polynomial(square, series),
        slope: polynomialSlope(square, series).times(u).scaled(2),
      }
    }
    const inverse = u.inverse()
    const psi = u.sin().times(inverse)
    return { psi, slope: u.cos().minus(psi).times(inverse) }
  },
}
