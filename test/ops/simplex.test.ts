import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { simplexProject } from '../../lib/ops/index.js'
import { evaluate, trace } from '../../lib/program/index.js'
import { jvpProgram } from '../../lib/program/jvp.js'
import type { Shape } from '../../lib/program/types.js'
import { vjpProgram } from '../../lib/program/vjp.js'

const program = (...shape: number[]) => trace(simplexProject, [{ dtype: 'f32', shape }])

function project(...x: number[]): number[] {
  return Array.from(evaluate(program(x.length), [Float64Array.from(x)])[0])
}

const row = fc.array(fc.double({ min: -4, max: 4, noNaN: true }), { minLength: 1, maxLength: 12 })
const sumOf = (x: readonly number[]): number => x.reduce((s, v) => s + v, 0)

function expectRow(actual: readonly number[], expected: readonly number[], error = 1e-12): void {
  expect(actual.length).toBe(expected.length)
  for (const [i, v] of expected.entries()) expect(Math.abs(actual[i] - v)).toBeLessThan(error)
}

describe('simplexProject', () => {
  it('gives points of the simplex', () => {
    fc.assert(
      fc.property(row, (x) => {
        const y = project(...x)
        expect(Math.min(...y)).toBeGreaterThanOrEqual(0)
        expect(sumOf(y)).toBeCloseTo(1, 12)
      }),
    )
  })

  it('leaves points of the simplex where they are', () => {
    fc.assert(
      fc.property(row, (x) => {
        const weights = x.map((v) => Math.abs(v) + 0.01)
        const point = weights.map((w) => w / sumOf(weights))
        expectRow(project(...point), point)
      }),
    )
  })

  it('does not see a constant added to a row', () => {
    fc.assert(
      fc.property(row, fc.double({ min: -9, max: 9, noNaN: true }), (x, shift) => {
        expectRow(project(...x.map((v) => v + shift)), project(...x))
      }),
    )
  })

  it('is the nearest point: the residual makes no acute angle with the simplex', () => {
    fc.assert(
      fc.property(row, (x) => {
        const y = project(...x)
        // <x - y, e_i - y> <= 0 for all vertices e_i, hence for every point of the simplex.
        const own = sumOf(y.map((v, i) => v * (x[i] - v)))
        for (const [i, v] of x.entries()) expect(v - y[i] - own).toBeLessThan(1e-12)
      }),
    )
  })

  it('is the one-hot of the maximum for a row far from the simplex', () => {
    expect(project(0.3, 0.1, 0.29).map((v) => Math.round(v * 100) / 100)).toEqual([0.4, 0.2, 0.39])
    expect(project(30, 10, 29)).toEqual([1, 0, 0])
    expect(project(3e8, 1e8, 2.9e8)).toEqual([1, 0, 0])
  })

  it('treats ties alike, and one number as everything', () => {
    expectRow(project(2, 2, 0, 2), [1 / 3, 1 / 3, 0, 1 / 3])
    expectRow(project(0, 0, 0, 0), [0.25, 0.25, 0.25, 0.25])
    expect(project(-17)).toEqual([1])
  })

  it('propagates NaN by rows; -Infinity takes no part', () => {
    const x = Float64Array.of(1, Number.NaN, 0, 0.5, -Infinity, 0.5, Infinity, 0, 0)
    expect(Array.from(evaluate(program(3, 3), [x])[0])).toEqual([
      Number.NaN,
      Number.NaN,
      Number.NaN,
      0.5,
      0,
      0.5,
      Number.NaN,
      Number.NaN,
      Number.NaN,
    ])
  })

  it('has a symmetric Jacobian that is a projection', () => {
    const x = Float64Array.of(0.4, 0.2, -0.9, 0.5)
    const u = Float64Array.of(1, -2, 3, 0.5)
    const pushed = evaluate(jvpProgram(program(4)), [x, u])[1]
    const pulled = evaluate(vjpProgram(program(4)), [x, u])[1]
    const mean = (1 - 2 + 0.5) / 3
    expectRow(Array.from(pushed), [1 - mean, -2 - mean, 0, 0.5 - mean])
    expect(pulled).toEqual(pushed)
    expectRow(Array.from(evaluate(jvpProgram(program(4)), [x, pushed])[1]), Array.from(pushed))
  })

  it('refuses what is not rows of numbers', () => {
    const code = (dtype: 'f32' | 'i32', shape: Shape): string => {
      try {
        trace(simplexProject, [{ dtype, shape }])
      } catch (error) {
        return (error as { code: string }).code
      }
      return 'none'
    }
    expect(code('f32', [])).toBe('ERR_SHAPE')
    expect(code('f32', [3, 0])).toBe('ERR_SHAPE')
    expect(code('i32', [3])).toBe('ERR_DTYPE')
    expect(code('f32', [0, 3])).toBe('none')
    expect(() => trace(() => simplexProject([1, 2] as never), [])).toThrow(
      expect.objectContaining({ code: 'ERR_PROGRAM' }),
    )
  })
})
