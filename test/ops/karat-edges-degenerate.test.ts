import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Device, open } from '../../lib/device/device.js'
import { compile } from '../../lib/device/executable.js'
import { type EdgeBasis, edgeParameters, karatEdges } from '../../lib/ops/index.js'
import { evaluate, trace } from '../../lib/program/index.js'
import { jvpProgram } from '../../lib/program/jvp.js'
import type { Program } from '../../lib/program/types.js'
import { vjpProgram } from '../../lib/program/vjp.js'
import { uniforms } from '../../lib/random/index.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

const BASES: readonly EdgeBasis[] = [
  { kind: 'rational', numerator: 5, denominator: 4 },
  { kind: 'mexican-hat' },
  { kind: 'morlet' },
  { kind: 'dog' },
  { kind: 'meyer' },
  { kind: 'shannon' },
]
// 2 samples, 1 head, 3 queries (no whole vector), 4 keys, D = 2, r = 2.
const Q = 2 * 3 * 2
const K = 2 * 4 * 2
const f32 = (...shape: number[]) => ({ dtype: 'f32', shape }) as const

/** The head and everything that differentiates it, to second order. */
function programs(basis: EdgeBasis): Record<string, Program> {
  const P = edgeParameters(basis)
  const head = trace(
    (q, k, theta, keyMask) => karatEdges(q, k, theta, { basis, scale: 1, keyMask }),
    [f32(2, 1, 3, 2), f32(2, 1, 4, 2), f32(1, 1, P, 4, 2), { dtype: 'u8', shape: [2, 4] }],
  )
  const [forward, reverse] = [jvpProgram(head), vjpProgram(head)]
  return { head, forward, reverse, hessian: jvpProgram(reverse), second: jvpProgram(forward) }
}

interface Point {
  readonly q: Float64Array
  readonly k: Float64Array
  readonly theta: Float64Array
  readonly mask: Float64Array
}

function point(basis: EdgeBasis, change: (at: Point) => void): Float64Array[] {
  const draw = (seed: number, n: number) => uniforms(seed, 0, 0, n).map((u) => 0.4 + u)
  const [q, k, theta] = [draw(1, Q), draw(2, K), draw(3, edgeParameters(basis) * 8)]
  const mask = new Float64Array(8).fill(1)
  change({ q, k, theta, mask })
  return [q, k, theta, mask]
}

/** The reference and the device, both or neither a number, and then the same one. */
async function expectAgreement(
  program: Program,
  inputs: Float64Array[],
  precision: 'f32' | 'f64',
): Promise<Float64Array[]> {
  const stored = inputs.map((x) => (precision === 'f64' ? x : Float64Array.from(x, Math.fround)))
  const expected = evaluate(program, stored)
  const executable = compile(device, program, { precision })
  try {
    const actual = await executable.run(stored)
    for (const [i, y] of expected.entries()) {
      const kinds = (values: ArrayLike<number>) => Array.from(values, Number.isNaN)
      expect(kinds(actual[i])).toEqual(kinds(y))
      const known = Array.from(y).filter(Number.isFinite)
      const tolerance = (precision === 'f64' ? 1e-11 : 1e-4) * Math.max(1, ...known.map(Math.abs))
      for (const [j, v] of y.entries()) {
        if (!Number.isNaN(v)) expect(Math.abs(actual[i][j] - v)).toBeLessThan(tolerance)
      }
    }
  } finally {
    executable.dispose()
  }
  return expected
}

const CASES: readonly [string, (at: Point) => void, ('f32' | 'f64')[]?][] = [
  ['an infinite query', ({ q }) => q.set([Number.POSITIVE_INFINITY, 1], 0)],
  ['a query of minus infinity', ({ q }) => q.set([1, Number.NEGATIVE_INFINITY], 2)],
  ['an infinite key', ({ k }) => k.set([Number.POSITIVE_INFINITY, 1], 2)],
  ['a huge query', ({ q }) => q.set([1e20, 1], 0), ['f64']],
  ['a query of NaN', ({ q }) => q.fill(Number.NaN, 2, 4)],
  ['scales of 0, or rational parameters', ({ theta }) => theta.fill(0, 16, 19)],
  ['NaN under the mask', ({ k, mask }) => [k.fill(Number.NaN, 2, 4), mask.fill(0, 1, 2)]],
  [
    'a sample all masked with queries that are no numbers',
    ({ q, mask }) => [q.set([Number.NaN, 1, Number.POSITIVE_INFINITY]), mask.fill(0, 0, 4)],
  ],
]

describe.each(BASES)('karatEdges where numbers end, $kind', (basis) => {
  const all = programs(basis)

  it.each(CASES)('agrees with the reference at %s', async (_, change, precisions) => {
    const head = point(basis, change)
    for (const [name, program] of Object.entries(all)) {
      const rest = program.inputs.slice(4).map(({ shape }, i) =>
        uniforms(
          9,
          i,
          0,
          shape.reduce((n, d) => n * d, 1),
        ),
      )
      for (const precision of precisions ?? (['f32', 'f64'] as const)) {
        await expectAgreement(program, [...head, ...rest], precision).catch((error: Error) => {
          error.message = `${name} in ${precision}: ${error.message}`
          throw error
        })
      }
    }
  })

  it('adds 0 for infinite scores of wavelets, and NaN for those of rational units', async () => {
    const infinite = point(basis, ({ q }) => q.set([Number.POSITIVE_INFINITY, 1], 0))
    const g = new Float64Array(2 * 3 * 2).fill(1)
    const [z, , , dtheta] = await expectAgreement(all.reverse, [...infinite, g], 'f64')
    if (basis.kind === 'rational') expect([...z.subarray(0, 2)]).toEqual([Number.NaN, Number.NaN])
    else {
      expect([...z.subarray(0, 2)].map(Math.abs)).toEqual([0, 0])
      expect(dtheta.every(Number.isFinite)).toBe(true)
    }
    expect(z.subarray(2).every(Number.isFinite)).toBe(true)
  })

  it('gives a masked key no gradient, whatever a query holds', async () => {
    const masked = point(basis, ({ q, mask }) => [q.fill(Number.NaN, 0, 6), mask.fill(0, 0, 4)])
    const g = new Float64Array(2 * 3 * 2).fill(1)
    const [z, dq, dk] = await expectAgreement(all.reverse, [...masked, g], 'f64')
    for (const own of [z.subarray(0, 6), dq.subarray(0, 6), dk.subarray(0, 8)]) {
      expect(own.every((v) => v === 0)).toBe(true)
    }
    expect([...z, ...dq, ...dk].every(Number.isFinite)).toBe(true)
  })
})
