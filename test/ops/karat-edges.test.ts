import { describe, expect, it } from 'vitest'
import {
  type EdgeBasis,
  edgeParameters,
  type KaratEdgesOptions,
  karatEdges,
} from '../../lib/ops/index.js'
import { evaluate, trace, vmapProgram } from '../../lib/program/index.js'
import { jvpProgram } from '../../lib/program/jvp.js'
import type { Program, Shape } from '../../lib/program/types.js'
import { vjpProgram } from '../../lib/program/vjp.js'
import { uniforms } from '../../lib/random/index.js'

const BASES: readonly EdgeBasis[] = [
  { kind: 'rational', numerator: 5, denominator: 4 },
  { kind: 'mexican-hat' },
  { kind: 'morlet' },
  { kind: 'dog' },
  { kind: 'meyer' },
  { kind: 'shannon' },
]
const f32 = (...shape: number[]) => ({ dtype: 'f32', shape }) as const
const numbers = (seed: number, n: number): Float64Array =>
  uniforms(seed, 0, 0, n).map((u) => 1.6 * u + 0.3)
const count = (shape: Shape): number => shape.reduce((n, d) => n * d, 1)

/** phi of one edge: one query, one key, width 1, k = 1 and scale 1, so that the score is q. */
function phi(basis: EdgeBasis, x: number, theta: readonly number[], keys = 1, key = 0): number {
  const P = theta.length
  const program = trace(
    (q, k, t) => karatEdges(q, k, t, { basis, scale: 1 }),
    [f32(1, 1, 1, 1), f32(1, 1, keys, 1), f32(1, 1, P, keys, 1)],
  )
  const t = new Float64Array(P * keys)
  // Of the other edges the weight is 0.
  for (let c = 0; c < P; c++) for (let m = 0; m < keys; m++) t[c * keys + m] = c === 2 ? 1 : 0
  for (const [c, value] of theta.entries()) t[c * keys + key] = value
  return evaluate(program, [Float64Array.of(x), new Float64Array(keys).fill(1), t])[0][0]
}

function family(basis: EdgeBasis, options: Partial<KaratEdgesOptions> = {}, E = 1): Program {
  const P = edgeParameters(basis)
  const tokens = (n: number) => (options.layout === 'bnhd' ? f32(2, n, 3, 4) : f32(2, 3, n, 4))
  return trace(
    (q, k, t) => karatEdges(q, k, t, { basis, ...options }),
    [tokens(5), tokens(6), f32(E, 3, P, 6, 2)],
  )
}

const inputsOf = (program: Program): Float64Array[] =>
  program.inputs.map((value, i) => numbers(i + 1, count(value.shape)))

function expectClose(a: ArrayLike<number>, b: ArrayLike<number>, tolerance = 1e-12): void {
  expect(a.length).toBe(b.length)
  for (let i = 0; i < a.length; i++) expect(Math.abs(a[i] - b[i])).toBeLessThan(tolerance)
}

describe('the functions of the edges', () => {
  it('has the rational unit with orders 5 and 4', () => {
    const theta = [1, 2, 3, 4, 5, 6, 0.5, -1, 0.25, 2]
    const x = -0.7
    const p = 1 + 2 * x + 3 * x ** 2 + 4 * x ** 3 + 5 * x ** 4 + 6 * x ** 5
    const d = 0.5 * x - x ** 2 + 0.25 * x ** 3 + 2 * x ** 4
    expect(phi(BASES[0], x, theta)).toBeCloseTo(p / (1 + Math.abs(d)), 14)
  })

  it('has the wavelets at points where they are known', () => {
    const norm = 2 / (Math.sqrt(3) * Math.PI ** 0.25)
    expect(phi({ kind: 'mexican-hat' }, 3, [2, 3, 0.5])).toBeCloseTo(-2 * norm, 14)
    expect(phi({ kind: 'mexican-hat' }, 3.5, [2, 3, 0.5])).toBeCloseTo(0, 14)
    expect(phi({ kind: 'morlet' }, 1, [1, 0, 1])).toBeCloseTo(Math.cos(5) * Math.exp(-0.5), 14)
    expect(phi({ kind: 'morlet', omega: 0 }, 1, [1, 0, 1])).toBeCloseTo(Math.exp(-0.5), 14)
    expect(phi({ kind: 'dog' }, -1, [3, 1, 2])).toBeCloseTo(3 * Math.exp(-0.5), 14)
    expect(phi({ kind: 'meyer' }, 0.25, [1, 0, 1])).toBeCloseTo(Math.SQRT1_2, 14)
    // m(3/4) = cos(pi/2 nu(1/2)) = cos(pi/4).
    expect(phi({ kind: 'meyer' }, -0.75, [1, 0, 1])).toBeCloseTo(0.5, 14)
    expect(phi({ kind: 'meyer' }, 1.5, [1, 0, 1])).toBe(0)
    expect(phi({ kind: 'shannon' }, Math.PI / 2, [1, 0, 1])).toBeCloseTo(2 / Math.PI, 14)
    expect(phi({ kind: 'shannon' }, 0, [1, 0, 1])).toBe(1)
  })

  it('runs the Hamming window along the keys', () => {
    const at = (key: number) => phi({ kind: 'shannon' }, 0, [1, 0, 1], 5, key)
    expectClose([at(0), at(1), at(2), at(4)], [0.08, 0.54, 1, 0.08])
  })
})

describe.each(BASES)('karatEdges, $kind', (basis) => {
  const program = family(basis)
  const x = inputsOf(program)

  it('sums over the keys that are not masked', () => {
    const P = edgeParameters(basis)
    const masked = trace(
      (q, k, t, keyMask) => karatEdges(q, k, t, { basis, keyMask }),
      [...program.inputs, { dtype: 'u8', shape: [2, 6] }],
    )
    const mask = Float64Array.of(1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1)
    const k = x[1].slice()
    // Keys 1 and 4 of the first sample, in all heads.
    for (const h of [0, 1, 2])
      for (const m of [1, 4]) k.fill(Number.NaN, (h * 6 + m) * 4, (h * 6 + m) * 4 + 4)
    const z = evaluate(masked, [x[0], k, x[2], mask])[0]
    const whole = evaluate(program, x)[0]
    const half = whole.length / 2
    expectClose(z.subarray(half), whole.subarray(half))
    // The others' part alone: weights (rational: numerators) of the two keys are 0.
    const theta = x[2].slice()
    const linear = basis.kind === 'rational' ? 6 : 1
    for (let i = 0; i < theta.length; i++) {
      const c = Math.floor(i / 12) % P
      const m = Math.floor(i / 2) % 6
      if (c < linear && (m === 1 || m === 4)) theta[i] = 0
    }
    expectClose(z.subarray(0, half), evaluate(program, [x[0], x[1], theta])[0].subarray(0, half))
  })

  it('does not depend on the layout', () => {
    const swap = (a: Float64Array, n: number): Float64Array =>
      a.map((_, i) => {
        const [d, h, t, b] = [
          i % 4,
          Math.floor(i / 4) % 3,
          Math.floor(i / 12) % n,
          Math.floor(i / 12 / n),
        ]
        return a[((b * 3 + h) * n + t) * 4 + d]
      })
    const other = evaluate(family(basis, { layout: 'bnhd' }), [swap(x[0], 5), swap(x[1], 6), x[2]])
    expectClose(other[0], evaluate(program, x)[0], 1e-15)
  })

  it('gives each sample its own parameters when there are as many sets', () => {
    const apart = family(basis, {}, 2)
    const sets = inputsOf(apart)[2]
    const half = sets.length / 2
    const both = evaluate(apart, [x[0], x[1], sets])[0]
    const first = evaluate(program, [x[0], x[1], sets.slice(0, half)])[0]
    const second = evaluate(program, [x[0], x[1], sets.slice(half)])[0]
    const z = both.length / 2
    expectClose(both, [...first.subarray(0, z), ...second.subarray(z)], 1e-15)
  })

  it('keeps one operation under vmap over parameters, samples and tangents', () => {
    const names = (p: Program) => p.operations.map((o) => o.name).filter((n) => n.includes('karat'))
    expect(names(vmapProgram(program, [false, false, true], 3))).toEqual(['karat_edges'])
    expect(
      names(vmapProgram(jvpProgram(program), [true, true, true, true, true, true], 3)),
    ).toEqual(['karat_edges', 'karat_edges_jvp'])
  })

  it('has a symmetric second derivative', () => {
    const gradient = vjpProgram(program)
    const hessian = jvpProgram(gradient)
    const g = numbers(9, 2 * 3 * 5 * 2)
    const direction = (seed: number) => x.map((a, i) => numbers(seed + i, a.length))
    const product = (t: Float64Array[]) =>
      evaluate(hessian, [...x, g, ...t, new Float64Array(g.length)]).slice(-3)
    const dot = (a: Float64Array[], b: Float64Array[]) =>
      a.reduce((s, u, i) => s + u.reduce((r, v, j) => r + v * b[i][j], 0), 0)
    const [u, v] = [direction(20), direction(30)]
    const uHv = dot(u, product(v))
    expect(Math.abs(uHv - dot(v, product(u)))).toBeLessThan(1e-10 * Math.abs(uHv))
  })

  it('ends at the third derivative along the scores, by name', () => {
    const third = (inner: Program): string => {
      try {
        jvpProgram(inner)
      } catch (error) {
        return `${(error as { code: string }).code} ${(error as Error).message}`
      }
      return 'none'
    }
    expect(third(jvpProgram(vjpProgram(program)))).toMatch(/ERR_PROGRAM 'karat_edges_vjp_jvp'/)
    expect(third(jvpProgram(jvpProgram(program)))).toMatch(/ERR_PROGRAM 'karat_edges_jvp_jvp'/)
  })
})

describe('Hessian products of edges as linear maps', () => {
  // What a Krylov method transposes: t -> H t and g -> H_g t are linear, with these adjoints.
  it.each(['dog', 'rational'] as const)('transposes in t and in the cotangent: %s', (kind) => {
    const basis = BASES.find((b) => b.kind === kind) as EdgeBasis
    const base = family(basis)
    const x = inputsOf(base)
    const forms = [jvpProgram(vjpProgram(base)), jvpProgram(jvpProgram(base))]
    for (const form of forms) {
      const free = form.inputs.slice(3)
      const point = x
      // Only what follows q, k and theta is differentiated.
      const linear = vjpProgram(
        form,
        form.inputs.map((_, i) => i >= 3),
      )
      const a = free.map((v, i) => numbers(40 + i, count(v.shape)))
      const at = evaluate(form, [...point, ...a])
      const c = at.map((y, i) => numbers(60 + i, y.length))
      const pulled = evaluate(linear, [...point, ...a, ...c]).slice(at.length)
      const step = 1e-6
      const b = free.map((v, i) => numbers(80 + i, count(v.shape)))
      const moved = (s: number) =>
        evaluate(form, [...point, ...a.map((v, i) => v.map((e, j) => e + s * b[i][j]))])
      const [plus, minus] = [moved(step), moved(-step)]
      let expected = 0
      for (const [i, y] of plus.entries()) {
        for (let j = 0; j < y.length; j++) expected += (c[i][j] * (y[j] - minus[i][j])) / (2 * step)
      }
      const actual = b.reduce((s, v, i) => s + v.reduce((r, e, j) => r + e * pulled[i][j], 0), 0)
      expect(Math.abs(actual - expected)).toBeLessThan(1e-6 * Math.max(1, Math.abs(expected)))
    }
  })
})

describe('karatEdges refuses', () => {
  const call = (
    options: unknown,
    shapes: readonly Shape[] = [
      [1, 2, 3, 4],
      [1, 2, 5, 4],
      [1, 2, 3, 5, 2],
    ],
    dtypes: readonly ('f32' | 'f64' | 'i32')[] = ['f32', 'f32', 'f32'],
  ): string => {
    try {
      trace(
        (q, k, t) => karatEdges(q, k, t, options as KaratEdgesOptions),
        shapes.map((shape, i) => ({ dtype: dtypes[i], shape })),
      )
    } catch (error) {
      return `${(error as { code?: string }).code} ${(error as Error).message}`
    }
    return 'nothing'
  }
  const dog = { basis: { kind: 'dog' } }
  const rational = (numerator: number) => ({
    basis: { kind: 'rational', numerator, denominator: 4 },
  })

  it('accepts what is right', () => {
    expect(call(dog)).toBe('nothing')
  })

  it.each([
    [undefined, /ERR_ARGUMENT .*expected options/],
    [{}, /ERR_ARGUMENT .*kinds rational, mexican-hat/],
    [{ basis: 'dog' }, /ERR_ARGUMENT .*kinds/],
    [{ basis: { kind: 'fourier', harmonics: 3 } }, /ERR_ARGUMENT .*fourier.*karatLatent/],
    [rational(6), /ERR_ARGUMENT .*numerator 5 and denominator 4, got 6/],
    [{ basis: { kind: 'morlet', omega: Number.NaN } }, /ERR_ARGUMENT .*omega/],
    [{ ...dog, scale: Infinity }, /ERR_ARGUMENT .*scale to be a finite/],
    [{ ...dog, layout: 'nbhd' }, /ERR_ARGUMENT .*layout/],
    [{ ...dog, keyMask: [1] }, /ERR_ARGUMENT .*keyMask/],
    [{ ...dog, causal: true }, /ERR_ARGUMENT .*no option 'causal'/],
    [rational(5), /ERR_SHAPE .*10 parameters/],
  ])('options %o', (options, message) => {
    expect(call(options)).toMatch(message)
  })

  it('operands that do not fit', () => {
    const q = [1, 2, 3, 4]
    const k = [1, 2, 5, 4]
    const t = [1, 2, 3, 5, 2]
    expect(call(dog, [[2, 3, 4], k, t])).toMatch(/ERR_SHAPE .*q \[B, H, N, D\]/)
    expect(call(dog, [q, [1, 2, 5, 3], t])).toMatch(/ERR_SHAPE .*k \[1,2,5,4\]/)
    expect(call(dog, [q, [1, 3, 5, 4], t])).toMatch(/ERR_SHAPE/)
    expect(call(dog, [q, k, [1, 2, 3, 4, 2]])).toMatch(/ERR_SHAPE .*5 keys/)
    expect(call(dog, [q, k, [2, 3, 5, 2]])).toMatch(/ERR_SHAPE/)
    expect(call(dog, [q, k, [2, 2, 3, 5, 2]])).toMatch(/ERR_SHAPE .*divide 1 samples/)
    expect(call(dog, [q, k, t], ['i32', 'f32', 'f32'])).toMatch(/ERR_DTYPE/)
    expect(call(dog, [q, k, t], ['f32', 'f64', 'f32'])).toMatch(/ERR_DTYPE/)
    const mask =
      (dtype: 'f32' | 'i32', ...shape: number[]) =>
      () =>
        trace(
          (a, b, c, keyMask) => karatEdges(a, b, c, { basis: { kind: 'dog' }, keyMask }),
          [f32(...q), f32(...k), f32(...t), { dtype, shape }],
        )
    expect(mask('f32', 1, 5)).toThrow(expect.objectContaining({ code: 'ERR_DTYPE' }))
    expect(mask('i32', 1, 4)).toThrow(expect.objectContaining({ code: 'ERR_SHAPE' }))
  })
})
