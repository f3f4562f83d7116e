import { elements } from '../program/shape.js'
import type { Attributes, TensorType } from '../program/types.js'
import { featuresOf } from './karat-bases.js'
import { headCount, type KaratSizes, karatSizes } from './karat-latent-shapes.js'

/** One score: where its operands stand, and the features there. */
interface Score {
  /** Offsets of the query's, the key's and the latent row's first element. */
  readonly q: number
  readonly k: number
  readonly z: number
  /** Offset of feature j's coefficients of this key. */
  c(j: number): number
  readonly f: Float64Array
  readonly slope: Float64Array
  readonly curvature: Float64Array
}

/** The family in float64, score by score: the oracle of all kernels. */
export class KaratReference {
  readonly sizes: KaratSizes
  readonly own: readonly Float64Array[]
  private readonly scale: number
  /** Elements of q, k, coefficients, Z. */
  private readonly lengths: readonly number[]

  constructor(
    private readonly inputs: readonly Float64Array[],
    types: readonly TensorType[],
    private readonly attributes: Attributes,
  ) {
    this.sizes = karatSizes('karat_latent', types, attributes)
    this.own = inputs.slice(headCount(attributes))
    this.scale = attributes.scale as number
    const { batch, heads, queries, latent } = this.sizes
    this.lengths = [...inputs.slice(0, 3).map((x) => x.length), batch * heads * queries * latent]
  }

  forward(): Float64Array {
    const c = this.inputs[2]
    const z = new Float64Array(this.lengths[3])
    this.forEachScore((s) => {
      this.forEachCoefficient(s, (j, p, at) => {
        z[s.z + p] += s.f[j] * c[at]
      })
    })
    return z
  }

  vjp(): Float64Array[] {
    const [q, k, c] = this.inputs
    const [dz] = this.own
    const [dq, dk, dc] = [q, k, c].map((x) => new Float64Array(x.length))
    this.forEachScore((s) => {
      let dx = 0
      this.forEachCoefficient(s, (j, p, at) => {
        dx += s.slope[j] * c[at] * dz[s.z + p]
        dc[at] += s.f[j] * dz[s.z + p]
      })
      this.addRow(dq, s.q, dx, k, s.k)
      this.addRow(dk, s.k, dx, q, s.q)
    })
    return [dq, dk, dc]
  }

  jvp(count: number): Float64Array {
    const [, , c] = this.inputs
    const all = new Float64Array(count * this.lengths[3])
    for (let r = 0; r < count; r++) {
      const [qDot, kDot, cDot] = this.tangent(this.own, r)
      const z = all.subarray(r * this.lengths[3], (r + 1) * this.lengths[3])
      this.forEachScore((s) => {
        const dx = this.scoreTangent(s, qDot, kDot)
        this.forEachCoefficient(s, (j, p, at) => {
          z[s.z + p] += s.slope[j] * dx * c[at] + s.f[j] * cDot[at]
        })
      })
    }
    return all
  }

  vjpJvp(count: number): Float64Array[] {
    const [q, k, c] = this.inputs
    const dz = this.own[0]
    const results = [q, k, c].map((x) => new Float64Array(count * x.length))
    for (let r = 0; r < count; r++) {
      const [qDot, kDot, cDot, dzDot] = this.tangent(this.own.slice(1), r)
      const [dq, dk, dc] = this.tangent(results, r)
      this.forEachScore((s) => {
        const xDot = this.scoreTangent(s, qDot, kDot)
        let dx = 0
        let dxDot = 0
        this.forEachCoefficient(s, (j, p, at) => {
          const e = c[at] * dz[s.z + p]
          dx += s.slope[j] * e
          dxDot += s.slope[j] * (c[at] * dzDot[s.z + p] + cDot[at] * dz[s.z + p])
          dxDot += xDot * s.curvature[j] * e
          dc[at] += s.f[j] * dzDot[s.z + p] + s.slope[j] * xDot * dz[s.z + p]
        })
        this.addRow(dq, s.q, dxDot, k, s.k)
        this.addRow(dq, s.q, dx, kDot, s.k)
        this.addRow(dk, s.k, dxDot, q, s.q)
        this.addRow(dk, s.k, dx, qDot, s.q)
      })
    }
    return results
  }

  jvpJvp(count: number): Float64Array {
    const [, , c] = this.inputs
    const all = new Float64Array(count * this.lengths[3])
    for (let r = 0; r < count; r++) {
      const [q1, k1, c1] = this.tangent(this.own, r)
      const [q2, k2, c2] = this.tangent(this.own.slice(3), r)
      const z = all.subarray(r * this.lengths[3], (r + 1) * this.lengths[3])
      this.forEachScore((s) => {
        const x1 = this.scoreTangent(s, q1, k1)
        const x2 = this.scoreTangent(s, q2, k2)
        const x12 = this.dot(q1, s.q, k2, s.k) + this.dot(q2, s.q, k1, s.k)
        this.forEachCoefficient(s, (j, p, at) => {
          z[s.z + p] +=
            (s.curvature[j] * x1 * x2 + s.slope[j] * x12) * c[at] +
            s.slope[j] * (x1 * c2[at] + x2 * c1[at])
        })
      })
    }
    return all
  }

  /** Tangent r of arrays with a leading R, in the order q, k, coefficients, Z. */
  private tangent(arrays: readonly Float64Array[], r: number): Float64Array[] {
    return this.lengths
      .slice(0, arrays.length)
      .map((n, i) => arrays[i].subarray(r * n, (r + 1) * n))
  }

  private scoreTangent(s: Score, qDot: Float64Array, kDot: Float64Array): number {
    return this.dot(qDot, s.q, this.inputs[1], s.k) + this.dot(this.inputs[0], s.q, kDot, s.k)
  }

  private dot(a: Float64Array, at: number, b: Float64Array, bt: number): number {
    let sum = 0
    for (let d = 0; d < this.sizes.width; d++) sum += a[at + d] * b[bt + d]
    return this.scale * sum
  }

  private addRow(to: Float64Array, at: number, dx: number, from: Float64Array, bt: number): void {
    for (let d = 0; d < this.sizes.width; d++) to[at + d] += this.scale * dx * from[bt + d]
  }

  private forEachCoefficient(s: Score, visit: (j: number, p: number, at: number) => void): void {
    const { features, latent } = this.sizes
    for (let j = 0; j < features; j++) {
      for (let p = 0; p < latent; p++) visit(j, p, s.c(j) + p)
    }
  }

  private forEachScore(visit: (score: Score) => void): void {
    const { batch, sets, heads, queries, keys, width, features, latent, tokensFirst } = this.sizes
    const [q, k] = this.inputs
    const mask = this.attributes.masked === 1 ? this.inputs[3] : undefined
    const generator = featuresOf(this.attributes)
    const [f, slope, curvature] = [0, 1, 2].map(() => new Float64Array(features))
    const row = (b: number, h: number, n: number, tokens: number): number =>
      (tokensFirst ? (b * tokens + n) * heads + h : (b * heads + h) * tokens + n) * width
    for (let at = 0; at < elements([batch, heads, queries, keys]); at++) {
      const m = at % keys
      const n = Math.floor(at / keys) % queries
      const h = Math.floor(at / keys / queries) % heads
      const b = Math.floor(at / keys / queries / heads)
      if (mask && mask[b * keys + m] === 0) continue
      const e = Math.floor((b * sets) / batch)
      const [qAt, kAt] = [row(b, h, n, queries), row(b, h, m, keys)]
      generator.at(this.dot(q, qAt, k, kAt), f, slope, curvature)
      visit({
        q: qAt,
        k: kAt,
        z: ((b * heads + h) * queries + n) * latent,
        c: (j) => (((e * heads + h) * features + j) * keys + m) * latent,
        f,
        slope,
        curvature,
      })
    }
  }
}
