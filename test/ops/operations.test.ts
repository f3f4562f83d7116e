import { describe, expect, it } from 'vitest'
import { evaluate, formatProgram, lower, simplify, trace, verify } from '../../lib/program/index.js'
import { jvpProgram } from '../../lib/program/jvp.js'
import type { Program } from '../../lib/program/types.js'
import { vjpProgram } from '../../lib/program/vjp.js'
import { vmapProgram } from '../../lib/program/vmap.js'
import { uniforms } from '../../lib/random/index.js'
import { OPERATION_CASES } from './cases.js'
import { draw, floats, tangentsFor } from './support.js'

const STEP = 1e-6

function axpy(
  x: readonly Float64Array[],
  step: number,
  d: readonly Float64Array[],
): Float64Array[] {
  return x.map((a, i) => a.map((v, k) => v + step * (d[i]?.[k] ?? 0)))
}

/** Central differences of all outputs of `program` at x along d. */
function difference(program: Program, x: Float64Array[], d: Float64Array[]): Float64Array[] {
  const plus = evaluate(program, axpy(x, STEP, d))
  const minus = evaluate(program, axpy(x, -STEP, d))
  return plus.map((p, i) => p.map((v, k) => (v - minus[i][k]) / (2 * STEP)))
}

function dot(a: readonly Float64Array[], b: readonly Float64Array[]): number {
  let total = 0
  for (const [i, x] of a.entries()) for (const [k, v] of x.entries()) total += v * b[i][k]
  return total
}

function expectClose(actual: Float64Array, expected: Float64Array, tolerance: number): void {
  const scale = Math.max(1, ...expected.map(Math.abs))
  const error = Math.max(0, ...actual.map((v, i) => Math.abs(v - expected[i])))
  expect(actual.length).toBe(expected.length)
  expect(error / scale).toBeLessThan(tolerance)
}

describe.each(OPERATION_CASES)('$name', (test) => {
  const program = trace(test.f, test.inputs)
  const x = draw(test, 1)

  it('is a legal program whose passes change nothing', () => {
    verify(program)
    const plain = evaluate(program, x)
    for (const pass of [simplify, lower]) {
      const passed = pass(program)
      verify(passed)
      for (const [i, y] of evaluate(passed, x).entries()) expectClose(y, plain[i], 1e-13)
    }
    expect(formatProgram(program)).toContain('return')
  })

  it('maps over a leading axis like a loop', () => {
    const rows = [draw(test, 1), draw(test, 2), draw(test, 3)]
    const subsets = test.inputs.map((_, i) => test.inputs.map((_, k) => k === i))
    for (const batched of [...subsets, test.inputs.map(() => true)]) {
      const mapped = vmapProgram(program, batched, rows.length)
      verify(mapped)
      const joined = test.inputs.map((_, i) =>
        batched[i] ? Float64Array.from(rows.flatMap((r) => Array.from(r[i]))) : rows[0][i],
      )
      const together = evaluate(mapped, joined)
      const single = rows.map((r) =>
        evaluate(
          program,
          r.map((a, i) => (batched[i] ? a : rows[0][i])),
        ),
      )
      for (const [i, y] of together.entries()) {
        expectClose(y, Float64Array.from(single.flatMap((s) => Array.from(s[i]))), 1e-12)
      }
    }
  })

  if (test.smooth === false) return

  const tangents = tangentsFor(program, 5)
  const forward = jvpProgram(program)
  const reverse = vjpProgram(program)
  const outputs = program.outputs.length
  const cotangents = evaluate(program, x).map((y, i) => uniforms(9, i, 0, y.length))

  it('has the tangent that finite differences give', () => {
    verify(forward)
    const exact = evaluate(forward, [...x, ...floats(program, tangents)]).slice(outputs)
    for (const [i, d] of difference(program, x, tangents).entries()) expectClose(exact[i], d, 1e-7)
  })

  it('has the cotangent adjoint to its tangent', () => {
    verify(reverse)
    const t = floats(program, tangents)
    const pushed = evaluate(forward, [...x, ...t]).slice(outputs)
    const pulled = evaluate(reverse, [...x, ...cotangents]).slice(outputs)
    expect(dot(pulled, t)).toBeCloseTo(dot(cotangents, pushed), 9)
  })

  it.each(['jvp of vjp', 'vjp of jvp', 'vjp of vjp', 'jvp of jvp'])(
    'differentiates twice: %s',
    (order) => {
      const first = order.endsWith('of vjp') ? reverse : forward
      const inner = order.endsWith('of vjp') ? cotangents : floats(program, tangents)
      const point = [...x, ...inner]
      const directions = tangentsFor(first, 11)
      const expected = difference(first, point, directions)
      const t = floats(first, directions)
      if (order.startsWith('jvp')) {
        const second = jvpProgram(first)
        verify(second)
        const exact = evaluate(second, [...point, ...t]).slice(first.outputs.length)
        for (const [i, d] of expected.entries()) expectClose(exact[i], d, 2e-6)
        const lowered = evaluate(lower(second), [...point, ...t]).slice(first.outputs.length)
        for (const [i, d] of exact.entries()) expectClose(lowered[i], d, 1e-12)
      } else {
        const second = vjpProgram(first)
        verify(second)
        const weights = evaluate(first, point).map((y, i) => uniforms(13, i, 0, y.length))
        const pulled = evaluate(second, [...point, ...weights]).slice(first.outputs.length)
        expect(Math.abs(dot(pulled, t) - dot(weights, expected))).toBeLessThan(
          1e-5 * Math.max(1, Math.abs(dot(weights, expected))),
        )
      }
    },
  )
})
