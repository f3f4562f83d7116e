import { elements } from '../program/shape.js'
import type { Attributes, TensorType } from '../program/types.js'
import { Dual, edgeSlope, hammingWindow } from './karat-edges-functions.js'
import { EDGE_FORMS, type EdgeSizes, edgeHeadCount, edgeSizes } from './karat-edges-shapes.js'

/** An operand with its tangents, each [R, ..]. */
interface Parts {
  readonly plain: Float64Array
  readonly tangents: readonly Float64Array[]
}

/** Element `at` of an operand, with its derivative along tangent `along` in row R, if it has one. */
function read({ plain, tangents }: Parts, at: number, R: number, along: number): Dual {
  const t = tangents[along]
  return new Dual(plain[at], t ? t[R * plain.length + at] : 0)
}

/** The float64 reference of all operations of the family, edge by edge. */
export function evaluateEdges(
  name: string,
  inputs: readonly Float64Array[],
  types: readonly TensorType[],
  attributes: Attributes,
  results: readonly TensorType[],
): Float64Array[] {
  const sizes = edgeSizes(name, types, attributes)
  const { order, backward } = EDGE_FORMS[name]
  const heads = edgeHeadCount(attributes)
  const first = heads + Number(backward)
  const count = backward ? 4 : 3
  const partsOf = (plain: Float64Array, i: number): Parts => ({
    plain,
    tangents: Array.from({ length: order }, (_, part) => inputs[first + part * count + i]),
  })
  const [q, k, theta] = inputs.slice(0, 3).map(partsOf)
  const g = backward ? partsOf(inputs[heads], 3) : undefined
  const mask = attributes.masked ? inputs[3] : undefined
  const out = results.map((type) => new Float64Array(elements(type.shape)))
  const R = order === 0 ? 1 : results[0].shape[0]
  const scale = attributes.scale as number
  const { B, H, N, M, D, P, r, E } = sizes
  const at = positions(sizes, attributes)
  // Of two tangents the second is the direction of the dual numbers.
  const along = order === 2 ? 1 : 0
  const top = (x: Dual): number => (order === 0 ? x.v : x.d)

  /** scale q.k along the tangents `a` of q and `b` of k (-1: themselves). */
  const product = (iq: number, ik: number, row: number, a: number, b: number): number => {
    const x = a < 0 ? q.plain : q.tangents[a].subarray(row * q.plain.length)
    const y = b < 0 ? k.plain : k.tangents[b].subarray(row * k.plain.length)
    let sum = 0
    for (let d = 0; d < D; d++) sum += x[iq + d] * y[ik + d]
    return scale * sum
  }

  for (let row = 0; row < R; row++) {
    for (let i = 0; i < B * H * N * M; i++) {
      const m = i % M
      const n = Math.floor(i / M) % N
      const h = Math.floor(i / (M * N)) % H
      const b = Math.floor(i / (M * N * H))
      if (mask && mask[b * M + m] === 0) continue
      const iq = at.query(b, h, n)
      const ik = at.key(b, h, m)
      const slope = (a: number): number => product(iq, ik, row, a, -1) + product(iq, ik, row, -1, a)
      const x = new Dual(product(iq, ik, row, -1, -1), order === 0 ? 0 : slope(along))
      const key = {
        kind: attributes.basis as string,
        omega: attributes.omega as number,
        window: attributes.basis === 'shannon' ? hammingWindow(m, M) : 1,
      }
      for (let p = 0; p < r; p++) {
        const e = Math.floor((b * E) / B)
        const it = Array.from({ length: P }, (_, c) => (((e * H + h) * P + c) * M + m) * r + p)
        const iz = ((b * H + h) * N + n) * r + p
        const own = it.map((j) => read(theta, j, row, along))
        const phi = edgeSlope(x, own, key)
        if (g) {
          const weight = read(g, iz, row, 0)
          const pull = weight.times(phi.dx).scaled(scale)
          const [dq, dk, dtheta] = out
          for (let d = 0; d < D; d++) {
            dq[row * q.plain.length + iq + d] += top(pull.times(read(k, ik + d, row, 0)))
            dk[row * k.plain.length + ik + d] += top(pull.times(read(q, iq + d, row, 0)))
          }
          for (const [c, j] of it.entries()) {
            dtheta[row * theta.plain.length + j] += top(weight.times(phi.dtheta[c]))
          }
        } else if (order === 2) {
          const cross = product(iq, ik, row, 0, 1) + product(iq, ik, row, 1, 0)
          let moved = phi.dx.times(new Dual(slope(0), cross))
          for (const [c, j] of it.entries()) {
            moved = moved.plus(phi.dtheta[c].scaled(read(theta, j, row, 0).d))
          }
          // Where phi is flat it is 0, and so is its derivative by infinite steps of x.
          out[0][row * B * H * N * r + iz] += phi.flat ? phi.value.v : moved.d
        } else {
          out[0][row * B * H * N * r + iz] += top(phi.value)
        }
      }
    }
  }
  return out
}

/** Where the numbers of a token begin. */
function positions({ H, N, M, D }: EdgeSizes, { layout }: Attributes) {
  const of = (tokens: number) => (b: number, h: number, n: number) =>
    layout === 'bnhd' ? ((b * tokens + n) * H + h) * D : ((b * H + h) * tokens + n) * D
  return { query: of(N), key: of(M) }
}
