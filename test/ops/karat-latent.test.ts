import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Device, open } from '../../lib/device/device.js'
import { compile } from '../../lib/device/executable.js'
import { type KaratLatentOptions, karatFeatureCount, karatLatent } from '../../lib/ops/index.js'
import { matmul } from '../../lib/ops/matmul.js'
import { evaluate, trace, vmapProgram } from '../../lib/program/index.js'
import { jvpProgram } from '../../lib/program/jvp.js'
import type { Tensor } from '../../lib/program/tensor.js'
import type { Program, Shape, TensorType } from '../../lib/program/types.js'
import { vjpProgram } from '../../lib/program/vjp.js'
import { normals } from '../../lib/random/index.js'

const f32 = (...shape: number[]): TensorType => ({ dtype: 'f32', shape })
const size = (shape: Shape): number => shape.reduce((n, d) => n * d, 1)
const draw = (seed: number, shape: Shape): Float64Array => normals(seed, 0, 0, size(shape))
const zeros = (n: number): Float64Array => new Float64Array(n)

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu', threads: 2 })
})
afterAll(() => device.dispose())

/** On the device in f64. */
async function run(program: Program, inputs: readonly Float64Array[]): Promise<Float64Array[]> {
  const executable = compile(device, program, { precision: 'f64' })
  try {
    return (await executable.run(inputs)) as Float64Array[]
  } finally {
    executable.dispose()
  }
}

interface Sizes {
  B: number
  E: number
  H: number
  N: number
  M: number
  D: number
  G: number
  r: number
}
const SIZES: Sizes = { B: 2, E: 1, H: 2, N: 19, M: 23, D: 5, G: 3, r: 4 }

function shapes(s: Sizes, base: KaratLatentOptions['base'] = 'zero'): Shape[] {
  const J = karatFeatureCount({ kind: 'fourier', harmonics: s.G }, base)
  return [
    [s.B, s.H, s.N, s.D],
    [s.B, s.H, s.M, s.D],
    [s.E, s.H, J, s.M, s.r],
  ]
}

function program(s: Sizes, options: Partial<KaratLatentOptions> = {}): Program {
  const types = shapes(s, options.base).map((shape) => f32(...shape))
  const basis = { kind: 'fourier', harmonics: s.G } as const
  return trace((q, k, c) => karatLatent(q, k, c, { basis, ...options }), types)
}

const inputs = (s: Sizes, base?: KaratLatentOptions['base']): Float64Array[] =>
  shapes(s, base).map((shape, i) => draw(i + 1, shape))

function worst(a: Float64Array, b: Float64Array): number {
  expect(a.length).toBe(b.length)
  const scale = Math.max(1e-30, ...b.map(Math.abs))
  return Math.max(...a.map((v, i) => Math.abs(v - b[i]))) / scale
}

/** x with `axis` of `shape` in the order of `order`. */
function permuted(x: Float64Array, shape: Shape, axis: number, order: number[]): Float64Array {
  const inner = size(shape.slice(axis + 1))
  const count = shape[axis]
  return x.map((_, i) => {
    const at = Math.floor(i / inner)
    const outer = Math.floor(at / count)
    return x[(outer * count + order[at % count]) * inner + (i % inner)]
  })
}

describe('karatLatent: what the specification demands', () => {
  it('gives nothing for no coefficients (1)', async () => {
    const [q, k, c] = inputs(SIZES)
    const dz = draw(9, [SIZES.B, SIZES.H, SIZES.N, SIZES.r])
    const [z, dq, dk] = await run(vjpProgram(program(SIZES)), [q, k, zeros(c.length), dz])
    for (const y of [z, dq, dk]) expect(y.every((v) => v === 0)).toBe(true)
  })

  it('sums the cosines where all scores are zero (2)', async () => {
    const [q, k, c] = inputs(SIZES)
    const [z] = await run(program(SIZES), [zeros(q.length), k, c])
    const { B, H, N, M, G, r } = SIZES
    const expected = Float64Array.from(z, (_, i) => {
      const [h, p] = [Math.floor(i / r / N) % H, i % r]
      let sum = 0
      for (let j = 0; j < G; j++)
        for (let m = 0; m < M; m++) sum += c[((h * 2 * G + j) * M + m) * r + p]
      return sum
    })
    expect(z.length).toBe(B * H * N * r)
    expect(worst(z, expected)).toBeLessThan(1e-13)
  })

  it('has the period 2 pi in the scores (3)', async () => {
    const s = { ...SIZES, D: 1 }
    const [q, , c] = inputs(s)
    // With D = 1 and k = 1 a score is q itself.
    const k = new Float64Array(size(shapes(s)[1])).fill(1)
    const shifted = q.map((v, i) => v + 2 * Math.PI * ((i % 7) - 3))
    const [z] = await run(program(s, { scale: 1 }), [q, k, c])
    const [moved] = await run(program(s, { scale: 1 }), [shifted, k, c])
    expect(worst(moved, z)).toBeLessThan(1e-13)
  })

  it('is odd in q for sines and even for cosines (4)', async () => {
    const [q, k, c] = inputs(SIZES)
    const half = SIZES.G * SIZES.M * SIZES.r
    const sines = c.map((v, i) => (Math.floor(i / half) % 2 === 1 ? v : 0))
    const cosines = c.map((v, i) => (Math.floor(i / half) % 2 === 0 ? v : 0))
    for (const [coefficients, sign] of [
      [sines, -1],
      [cosines, 1],
    ] as const) {
      const [plus] = await run(program(SIZES), [q, k, coefficients])
      const [minus] = await run(program(SIZES), [q.map((v) => -v), k, coefficients])
      expect(
        worst(
          minus,
          plus.map((v) => sign * v),
        ),
      ).toBeLessThan(1e-13)
    }
  })

  it('does not see harmonics and latent columns of zeros (5)', async () => {
    const wide = { ...SIZES, G: SIZES.G + 2, r: SIZES.r + 3 }
    const [q, k, c] = inputs(SIZES)
    const [, , wideShape] = shapes(wide)
    const { H, M, G, r } = SIZES
    const padded = zeros(size(wideShape))
    for (let h = 0; h < H; h++)
      for (let j = 0; j < 2 * G; j++)
        for (let i = 0; i < M * r; i++) {
          const to = j < G ? j : j + 2
          const row = (h * 2 * wide.G + to) * M + Math.floor(i / r)
          padded[row * wide.r + (i % r)] = c[(h * 2 * G + j) * M * r + i]
        }
    const [narrow] = await run(program(SIZES), [q, k, c])
    const [z] = await run(program(wide), [q, k, padded])
    const kept = Float64Array.from(narrow, (_, i) => z[Math.floor(i / r) * wide.r + (i % r)])
    expect(worst(kept, narrow)).toBeLessThan(1e-13)
    expect(z.every((v, i) => i % wide.r < r || v === 0)).toBe(true)
  })

  it('is linear attention with the identity alone (6)', async () => {
    const { B, H, N, M, D, G, r } = SIZES
    const [q, k, c] = inputs(SIZES, 'identity')
    const only = c.map((v, i) => (Math.floor(i / (M * r)) % (2 * G + 1) === 2 * G ? v : 0))
    const [z] = await run(program(SIZES, { base: 'identity' }), [q, k, only])
    const expected = zeros(B * H * N * r)
    for (let bh = 0; bh < B * H; bh++)
      for (let n = 0; n < N; n++)
        for (let m = 0; m < M; m++) {
          let x = 0
          for (let d = 0; d < D; d++) x += q[(bh * N + n) * D + d] * k[(bh * M + m) * D + d]
          const at = (((bh % H) * (2 * G + 1) + 2 * G) * M + m) * r
          for (let p = 0; p < r; p++) {
            expected[(bh * N + n) * r + p] += (x / Math.sqrt(D)) * only[at + p]
          }
        }
    expect(worst(z, expected)).toBeLessThan(1e-13)
  })

  it('follows permutations of queries and of keys with their coefficients (8)', async () => {
    const [qs, ks, cs] = shapes(SIZES)
    const [q, k, c] = inputs(SIZES)
    const [z] = await run(program(SIZES), [q, k, c])
    const rows = Array.from({ length: SIZES.N }, (_, i) => (7 * i + 3) % SIZES.N)
    const keys = Array.from({ length: SIZES.M }, (_, i) => (5 * i + 2) % SIZES.M)
    const [byRow] = await run(program(SIZES), [permuted(q, qs, 2, rows), k, c])
    const zs = [SIZES.B, SIZES.H, SIZES.N, SIZES.r]
    expect(worst(byRow, permuted(z, zs, 2, rows))).toBeLessThan(1e-13)
    const moved = permuted(k, ks, 2, keys)
    const [byKey] = await run(program(SIZES), [q, moved, permuted(c, cs, 3, keys)])
    expect(worst(byKey, z)).toBeLessThan(1e-13)
    // Unlike softmax: a key's function belongs to its place.
    const [without] = await run(program(SIZES), [q, moved, c])
    expect(worst(without, z)).toBeGreaterThan(0.1)
  })

  it('keeps within its bounds, values and slopes (12)', async () => {
    const s = { ...SIZES, D: 1, M: 4, N: 200, r: 1 }
    const { H, M, G, N } = s
    const [q, , c] = inputs(s)
    const k = new Float64Array(size(shapes(s)[1])).fill(1)
    const wide = q.map((v) => 10 * v)
    const ones = new Float64Array(s.B * H * N).fill(1)
    const [z, dq] = await run(vjpProgram(program(s, { scale: 1 })), [wide, k, c, ones])
    for (const [i, v] of z.entries()) {
      const h = Math.floor(i / N) % H
      let value = 0
      let slope = 0
      for (let g = 0; g < G; g++)
        for (let m = 0; m < M; m++) {
          const a = c[(h * 2 * G + g) * M + m]
          const b = c[(h * 2 * G + G + g) * M + m]
          value += Math.hypot(a, b)
          slope += (g + 1) * Math.hypot(a, b)
        }
      expect(Math.abs(v)).toBeLessThanOrEqual(value)
      expect(Math.abs(dq[i])).toBeLessThanOrEqual(slope)
    }
  })

  it('has variance N G sigma^2 for any scores (13)', async () => {
    const s = { B: 1, E: 1, H: 1, N: 1, M: 50, D: 2, G: 3, r: 20_000 }
    const [q, k, c] = inputs(s)
    const [z] = await run(program(s), [q, k, c.map((v) => 0.5 * v)])
    const variance = z.reduce((sum, v) => sum + v * v, 0) / z.length
    // The standard error of a variance of normals is sqrt(2 / count) of it: 1 %.
    expect(variance / (0.25 * s.M * s.G)).toBeGreaterThan(0.95)
    expect(variance / (0.25 * s.M * s.G)).toBeLessThan(1.05)
  })

  it('has symmetric Hessian products that differences of gradients confirm (16)', async () => {
    const s = { ...SIZES, N: 5, M: 6, D: 3, r: 2 }
    const forward = program(s, { base: 'gelu' })
    const x = inputs(s, 'gelu')
    const w = draw(7, forward.outputs[0].shape)
    const gradient = vjpProgram(forward)
    const product = jvpProgram(gradient, [true, true, true, false])
    const at = (y: Float64Array[]) => run(gradient, [...y, w]).then((out) => out.slice(1))
    const times = async (v: Float64Array[]) => (await run(product, [...x, w, ...v])).slice(5)
    const u = x.map((a, i) => draw(20 + i, [a.length]))
    const v = x.map((a, i) => draw(30 + i, [a.length]))
    const dot = (a: Float64Array[], b: Float64Array[]) =>
      a.reduce((sum, y, i) => sum + y.reduce((t, e, j) => t + e * b[i][j], 0), 0)
    const hv = await times(v)
    const uhv = dot(u, hv)
    expect(Math.abs(uhv - dot(v, await times(u)))).toBeLessThan(1e-10 * Math.abs(uhv))
    const step = 1e-5
    const move = (h: number) => x.map((a, i) => a.map((e, j) => e + h * v[i][j]))
    const [plus, minus] = [await at(move(step)), await at(move(-step))]
    for (const [i, h] of hv.entries()) {
      const difference = plus[i].map((e, j) => (e - minus[i][j]) / (2 * step))
      expect(worst(difference, h)).toBeLessThan(1e-7)
    }
  })

  it('is what one does by hand for one token (17)', async () => {
    // Half the square of w (a cos x + b sin x) v with x = q k.
    const [q, k, a, b, wv] = [0.7, -1.3, 0.4, 0.9, 1.7]
    const s = { B: 1, E: 1, H: 1, N: 1, M: 1, D: 1, G: 1, r: 1 }
    const forward = trace(
      (...[x, y, c, factor]: Tensor[]) =>
        matmul(karatLatent(x, y, c, { basis: { kind: 'fourier', harmonics: 1 } }), factor),
      [...shapes(s).map((shape) => f32(...shape)), f32(1, 1, 1, 1)],
    )
    const of = (v: number): Float64Array => Float64Array.of(v)
    const point = [of(q), of(k), Float64Array.of(a, b), of(wv)]
    const x = q * k
    const z = a * Math.cos(x) + b * Math.sin(x)
    const slope = b * Math.cos(x) - a * Math.sin(x)
    const [o] = await run(forward, point)
    expect(o[0]).toBeCloseTo(wv * z, 13)
    const gradient = await run(vjpProgram(forward), [...point, o])
    const expected = [o[0] * wv * slope * k, o[0] * wv * slope * q]
    expect(gradient[1][0]).toBeCloseTo(expected[0], 13)
    expect(gradient[2][0]).toBeCloseTo(expected[1], 13)
    expect(gradient[3][0]).toBeCloseTo(o[0] * wv * Math.cos(x), 13)
    expect(gradient[3][1]).toBeCloseTo(o[0] * wv * Math.sin(x), 13)
    // d/dq of o^2 / 2 is o wv slope k; once more: (wv slope k)^2 - o wv z k^2.
    const hessian = jvpProgram(vjpProgram(forward))
    const oDot = wv * slope * k
    const tangents = [of(1), of(0), zeros(2), of(0), of(oDot)]
    const second = (await run(hessian, [...point, o, ...tangents]))[6]
    expect(second[0]).toBeCloseTo(oDot * wv * slope * k - o[0] * wv * z * k * k, 12)
  })

  it('keeps its accuracy in f32 for many harmonics (18)', async () => {
    const s = { ...SIZES, B: 1, G: 40, r: 2 }
    const p = program(s)
    const x = inputs(s).map((a) => Float64Array.from(Float32Array.from(a)))
    const [expected] = evaluate(p, x)
    const executable = compile(device, p, { precision: 'f32' })
    const [z] = (await executable.run(x)) as Float32Array[]
    executable.dispose()
    expect(worst(Float64Array.from(z), expected)).toBeLessThan(1e-5)
  })
})

describe('karatLatent: programs', () => {
  it('plans no memory that grows with features or with pairs of tokens', () => {
    const s = { B: 8, E: 1, H: 2, N: 160, M: 160, D: 8, G: 6, r: 3 }
    const forward = program(s)
    const gradient = vjpProgram(forward)
    // One matrix of scores for every sample and head; features would be twelve times as much.
    const scores = 4 * s.B * s.H * s.N * s.M
    for (const p of [forward, gradient, jvpProgram(gradient)]) {
      const executable = compile(device, p)
      expect(executable.inspect().arenaBytes).toBeLessThan(scores)
      executable.dispose()
    }
  })

  it('maps without loops: one operation stays one', () => {
    const count = (p: Program): number =>
      p.operations.filter((op) => op.name.startsWith('karat_latent')).length
    const forward = program(SIZES)
    const tangent = jvpProgram(forward)
    const gradient = vjpProgram(forward)
    for (const [p, flags] of [
      [forward, [true, true, true]],
      [forward, [false, false, true]],
      [gradient, [true, true, false, true]],
      [tangent, [false, false, false, true, true, true]],
      [jvpProgram(gradient), [...Array(4).fill(false), ...Array(4).fill(true)]],
    ] as const) {
      const mapped = vmapProgram(p, flags as boolean[], 3)
      expect(count(mapped)).toBe(count(p))
    }
  })

  it('shares the scores of all tangents: vmap over tangents makes a leading R', () => {
    const flags = [...Array(3).fill(false), ...Array(3).fill(true)]
    const mapped = vmapProgram(jvpProgram(program(SIZES)), flags, 4)
    const op = mapped.operations.find(({ name }) => name === 'karat_latent_jvp')
    expect(op?.outputs[0].shape[0]).toBe(4)
    expect(op?.inputs[0].shape).toEqual(shapes(SIZES)[0])
  })

  it('refuses third derivatives by name', () => {
    const hessian = jvpProgram(vjpProgram(program(SIZES)))
    expect(() => jvpProgram(hessian)).toThrowError(/karat_latent_vjp_jvp.*second order/)
    expect(() => vjpProgram(hessian)).toThrowError(/karat_latent_vjp_jvp.*second order/)
  })
})

describe('karatLatent: bad input', () => {
  const basis = { kind: 'fourier', harmonics: 3 } as const
  const call = (types: TensorType[], options: object = {}): Program =>
    trace(
      (q, k, c, keyMask?: Tensor) =>
        karatLatent(q, k, c, { basis, ...(keyMask && { keyMask }), ...options }),
      types,
    )
  const [q, k, c] = shapes(SIZES).map((shape) => f32(...shape))

  it.each([
    ['no harmonics', { basis: { kind: 'fourier', harmonics: 0 } }],
    ['half a harmonic', { basis: { kind: 'fourier', harmonics: 1.5 } }],
    ['an unknown basis', { basis: { kind: 'legendre', degree: 2 } }],
    ['no basis', { basis: undefined }],
    ['an unknown base', { base: 'tanh' }],
    ['an inherited name as base', { base: 'toString' }],
    ['a scale that is not finite', { scale: Number.NaN }],
    ['an unknown layout', { layout: 'nbhd' }],
  ])('%s: ERR_ARGUMENT', (_name, options) => {
    expect(() => call([q, k, c], options)).toThrowError(
      expect.objectContaining({ name: 'LosscapeError', code: 'ERR_ARGUMENT' }),
    )
  })

  it.each([
    ['another number of keys than the coefficients', [q, f32(2, 2, 24, 5), c]],
    ['another number of features', [q, k, f32(1, 2, 5, 23, 4)]],
    ['no latent column', [q, k, f32(1, 2, 6, 23, 0)]],
    ['sets that do not divide the batch', [q, k, f32(3, 2, 6, 23, 4)]],
    ['no set', [q, k, f32(0, 2, 6, 23, 4)]],
    ['other heads', [q, f32(2, 3, 23, 5), c]],
    ['another width', [q, f32(2, 2, 23, 6), c]],
    ['q of rank 3', [f32(2, 19, 5), k, c]],
    ['coefficients of rank 4', [q, k, f32(2, 6, 23, 4)]],
    ['a mask of the wrong shape', [q, k, c, { dtype: 'u8', shape: [23] }]],
  ] as [string, TensorType[]][])('%s: ERR_SHAPE', (_name, types) => {
    expect(() => call(types)).toThrowError(
      expect.objectContaining({ name: 'LosscapeError', code: 'ERR_SHAPE' }),
    )
  })

  it.each([
    ['integer scores', [{ dtype: 'i32', shape: q.shape }, k, c]],
    ['two dtypes', [q, { dtype: 'f64', shape: k.shape }, c]],
    ['a mask of floats', [q, k, c, f32(2, 23)]],
  ] as [string, TensorType[]][])('%s: ERR_DTYPE', (_name, types) => {
    expect(() => call(types)).toThrowError(
      expect.objectContaining({ name: 'LosscapeError', code: 'ERR_DTYPE' }),
    )
  })
})
