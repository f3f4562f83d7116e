import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import * as ops from '../../lib/ops/index.js'
import {
  evaluate,
  lower,
  type Program,
  simplify,
  type Tensor,
  trace,
  verify,
} from '../../lib/program/index.js'
import { jvpProgram } from '../../lib/program/jvp.js'
import { vjpProgram } from '../../lib/program/vjp.js'
import { uniforms } from '../../lib/random/index.js'

const names = (program: Program): string[] => program.operations.map((op) => op.name)

describe('simplify', () => {
  it('folds constants and identities', () => {
    const program = trace(
      (x) => {
        const two = ops.add(ops.constant(1, { shape: [3] }), ops.constant(1, { shape: [3] }))
        return ops.add(ops.mul(ops.mul(x, 1), two), ops.constant(0, { shape: [3] }))
      },
      [[3]],
    )
    expect(names(simplify(program))).toEqual(['constant', 'mul'])
  })

  it('shares common subexpressions and drops the dead', () => {
    const program = trace(
      (x) => {
        ops.sin(x)
        return ops.add(ops.exp(x), ops.exp(x))
      },
      [[3]],
    )
    expect(names(simplify(program))).toEqual(['exp', 'add'])
  })

  it('reads transposed matrices in place', () => {
    const program = trace(
      (a, b) => ops.matmul(ops.transpose(a), ops.transpose(b)),
      [
        [4, 3],
        [5, 4],
      ],
    )
    expect(names(simplify(program))).toEqual(['matmul'])
    expect(simplify(program).operations[0].attributes).toEqual({ transA: 1, transB: 1 })
  })

  it('keeps dropout masks of different keys apart', () => {
    const program = trace(
      (x, key) => ops.add(ops.dropout(x, 0.5, key, 0), ops.dropout(x, 0.5, key, 1)),
      [[3], { dtype: 'i32', shape: [4] }],
    )
    expect(names(simplify(program)).filter((n) => n === 'random').length).toBe(2)
  })
})

describe('fusion', () => {
  it('reads broadcasts in place and stores only what is read', () => {
    const program = lower(trace((x, b) => ops.mul(ops.tanh(ops.add(x, b)), 2), [[4, 3], [3]]))
    expect(names(program)).toEqual(['fused'])
    expect(program.operations[0].outputs.length).toBe(1)
  })

  it('does not fuse across a reduction of the same group', () => {
    const program = lower(
      trace((x) => ops.sub(ops.exp(x), ops.sum(ops.exp(x), [1], true)), [[4, 3]]),
    )
    verify(program)
    expect(names(program).filter((n) => n === 'fused').length).toBe(2)
  })
})

/** A random program over square matrices: a list of choices interpreted as a stack machine. */
function randomProgram(choices: readonly number[]): Program {
  return trace(
    (x, y, b) => {
      const values: Tensor[] = [x, y, ops.broadcastTo(b, [3, 3])]
      for (const choice of choices) {
        const a = values[choice % values.length]
        const c = values[Math.floor(choice / 7) % values.length]
        const made = [
          () => ops.add(a, c),
          () => ops.mul(a, ops.sigmoid(c)),
          () => ops.tanh(a),
          () => ops.mul(ops.matmul(a, c), 0.3),
          () => ops.transpose(a),
          () => ops.sub(a, ops.mean(c, [0], true)),
          () => ops.softmax(a),
          () => ops.where(ops.gt(a, c), a, ops.sin(c)),
          () => ops.broadcastTo(ops.sum(a, [1]), [3, 3]),
          () => ops.reshape(ops.concat([ops.reshape(a, [9]), ops.reshape(c, [9])]), [6, 3]),
        ][choice % 10]()
        values.push(made.shape[0] === 6 ? ops.slice(made, [choice % 3, 0], [3, 3]) : made)
      }
      return [values[values.length - 1], ops.sum(values[Math.floor(values.length / 2)])]
    },
    [[3, 3], [3, 3], [3]],
  )
}

describe('random programs', () => {
  const inputs = [uniforms(1, 0, 0, 9), uniforms(1, 1, 0, 9), uniforms(1, 2, 0, 3)]

  it('mean the same after every pass', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(10_000), { minLength: 1, maxLength: 14 }), (choices) => {
        const program = randomProgram(choices)
        const expected = evaluate(program, inputs)
        for (const pass of [simplify, lower]) {
          const passed = pass(program)
          verify(passed)
          for (const [i, y] of evaluate(passed, inputs).entries()) {
            for (const [k, v] of y.entries()) expect(v).toBeCloseTo(expected[i][k], 10)
          }
        }
      }),
      { numRuns: 100 },
    )
  })

  it('order fused groups that depend on each other through operations between them', () => {
    // Two sums of one shape fuse; what each depends on must not come to depend on the other.
    for (const choices of [
      [7811, 7235, 3774],
      [3551, 3335, 2339],
      [0, 0, 9412, 6665, 0, 0, 0, 0, 4548],
    ]) {
      verify(lower(vjpProgram(randomProgram(choices))))
    }
  })

  it('have adjoint tangents and cotangents, also lowered', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(10_000), { minLength: 1, maxLength: 10 }), (choices) => {
        const program = randomProgram(choices)
        const tangents = inputs.map((x, i) => uniforms(2, i, 0, x.length))
        const cotangents = [uniforms(3, 0, 0, 9), uniforms(3, 1, 0, 1)]
        const pushed = evaluate(lower(jvpProgram(program)), [...inputs, ...tangents]).slice(2)
        const pulled = evaluate(lower(vjpProgram(program)), [...inputs, ...cotangents]).slice(2)
        const dot = (a: Float64Array[], b: Float64Array[]) =>
          a.reduce((s, x, i) => s + x.reduce((t, v, k) => t + v * b[i][k], 0), 0)
        const left = dot(cotangents, pushed)
        expect(dot(pulled, tangents)).toBeCloseTo(left, 8)
      }),
      { numRuns: 100 },
    )
  })
})

describe('products added to products', () => {
  const shapesOf = (columns: number): number[][] => [
    [4, 3],
    [3, columns],
    [2, 2, 6],
    [2, 6, columns],
  ]
  const input = (shape: readonly number[], stream: number): Float64Array => {
    const size = shape.reduce((n, d) => n * d, 1)
    return uniforms(5, stream, 0, size, new Float64Array(size))
  }

  /** But for the order in which a sum is taken. */
  const expectEqual = (lowered: Program, program: Program, inputs: Float64Array[]): void => {
    const [expected] = evaluate(program, inputs)
    const [actual] = evaluate(lowered, inputs)
    expect(actual.length).toBe(expected.length)
    for (const [i, value] of actual.entries()) expect(value).toBeCloseTo(expected[i], 12)
  }
  const sum = (folded: string, columns: number) =>
    trace((a, b, c, d) => {
      const rows = ops.reshape(ops.matmul(a, b), [2, 2, columns])
      const batched = ops.matmul(c, d)
      return ops.tanh(folded === 'first' ? ops.add(rows, batched) : ops.add(batched, rows))
    }, shapesOf(columns))

  it.each(['first', 'second'])('take the other as addend through a reshape, %s', (folded) => {
    const program = sum(folded, 40)
    const lowered = lower(program)
    const products = lowered.operations.filter((op) => op.name === 'matmul')
    expect(products.map((op) => op.inputs.length)).toEqual([2, 3])
    expect(names(lowered).filter((name) => name === 'add')).toEqual([])
    expectEqual(lowered, program, shapesOf(40).map(input))
  })

  it.each(['first', 'second'])('become one operation when small, %s', (folded) => {
    const program = sum(folded, 5)
    const lowered = lower(program)
    expect(names(lowered)).toEqual(['reshape', 'matmul_pair', 'fused'])
    expectEqual(lowered, program, shapesOf(5).map(input))
  })

  it('become a pair and products onto it in longer sums, however they are transposed', () => {
    const shapes = [
      [3, 4],
      [5, 3],
      [6, 4],
      [6, 5],
      [4, 2],
      [2, 5],
    ]
    const program = trace(
      (a, b, c, d, e, f) =>
        ops.add(
          ops.add(
            ops.matmul(a, b, { transA: true, transB: true }),
            ops.matmul(c, d, { transA: true }),
          ),
          ops.matmul(e, f),
        ),
      shapes,
    )
    const lowered = lower(program)
    expect(names(lowered)).toEqual(['matmul_pair', 'matmul'])
    expectEqual(lowered, program, shapes.map(input))
  })

  it('stay apart where the first is needed elsewhere', () => {
    const program = trace((a, b, c, d) => {
      const rows = ops.matmul(a, b)
      return [ops.add(ops.reshape(rows, [2, 2, 5]), ops.matmul(c, d)), rows]
    }, shapesOf(5))
    const products = lower(program).operations.filter((op) => op.name === 'matmul')
    expect(products.map((op) => op.inputs.length)).toEqual([2, 2])
  })
})
