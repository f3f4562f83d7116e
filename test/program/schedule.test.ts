import { describe, expect, it } from 'vitest'
import * as ops from '../../lib/ops/index.js'
import { evaluate, grad, lower, type Program, type Tensor, trace } from '../../lib/program/index.js'
import { linearizeProgram } from '../../lib/program/linearize.js'
import { scheduleLate } from '../../lib/program/passes/schedule.js'
import { gradProgram } from '../../lib/program/vjp.js'

const names = (program: Program): string[] => program.operations.map((op) => op.name)

function numbersFor(program: Program): Float64Array[] {
  return program.inputs.map(({ shape }) =>
    Float64Array.from({ length: shape.reduce((n, d) => n * d, 1) }, (_, i) => Math.sin(i + 1)),
  )
}

describe('scheduling', () => {
  // The outer product is made first, but read last.
  const program = trace(
    (u, x) => {
      const large = ops.matmul(u, u, { transB: true })
      const rest = ops.matmul(ops.matmul(x, x), x)
      return ops.matmul(large, ops.matmul(rest, u))
    },
    [
      [40, 1],
      [40, 40],
    ],
  )

  it('makes a large result of small operands just before it is read', () => {
    const late = scheduleLate(program)
    const large = program.operations[0]
    expect(late.operations.indexOf(large)).toBe(late.operations.length - 2)
    expect(late.operations.length).toBe(program.operations.length)
    const inputs = numbersFor(program)
    expect(evaluate(late, inputs)).toEqual(evaluate(program, inputs))
  })

  it('leaves a reduction where its operand can be dropped', () => {
    const reduced = trace(
      (x) => {
        const total = ops.sum(ops.matmul(x, x))
        const rest = ops.matmul(ops.matmul(x, x, { transB: true }), x)
        return ops.mul(ops.sum(rest), total)
      },
      [[40, 40]],
    )
    expect(names(scheduleLate(reduced)).slice(0, 2)).toEqual(['matmul', 'reduce'])
  })

  it('leaves results of the program alone', () => {
    const outer = trace(
      (u, x) => [ops.matmul(u, u, { transB: true }), ops.matmul(ops.matmul(x, x), u)],
      [
        [40, 1],
        [40, 40],
      ],
    )
    expect(scheduleLate(outer)).toEqual(outer)
  })
})

describe('exact GELU', () => {
  it('hands a linear program one slope and one curvature, not the parts of their formulas', () => {
    const loss = trace(
      (x, w, v) => ops.sum(ops.matmul(ops.gelu(ops.matmul(x, w)), v)),
      [
        [5, 4],
        [4, 6],
        [6, 3],
      ],
    )
    const { linear } = linearizeProgram(gradProgram(loss, [false, true, true]), [false, true, true])
    const fused = lower(linear).operations.filter((op) => op.name === 'fused')
    const stored = fused.flatMap((op) => op.outputs).filter(({ shape }) => shape.join() === '5,6')
    // What both directions read (slope, activation), the tangent and the cotangent's tangent.
    expect(stored.length).toBeLessThanOrEqual(5)
  })

  it('has derivatives of every order', () => {
    let f = (x: Tensor): Tensor => ops.sum(ops.gelu(x))
    for (let order = 0; order < 4; order++) {
      const lower = f
      f = (x) => ops.sum(grad(lower)(x) as Tensor)
    }
    const program = trace(f, [[4]])
    const h = 1e-4
    const at = (x: number): number => gelu3(x)
    for (const x of [-1.3, 0, 0.4, 2.1]) {
      const [value] = evaluate(program, [Float64Array.from([x, x, x, x])])
      expect(value[0] / 4).toBeCloseTo((at(x + h) - at(x - h)) / (2 * h), 6)
    }
  })
})

/** Third derivative of GELU, x (x² - 4) φ(x). */
function gelu3(x: number): number {
  return (x * (x * x - 4) * Math.exp(-0.5 * x * x)) / Math.sqrt(2 * Math.PI)
}
