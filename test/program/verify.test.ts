import { describe, expect, it } from 'vitest'
import * as ops from '../../lib/ops/index.js'
import { formatProgram, type Program, trace, verify } from '../../lib/program/index.js'
import { newValue } from '../../lib/program/types.js'

const program = trace(
  (x, w) => ops.tanh(ops.matmul(x, w)),
  [
    [2, 3],
    [3, 4],
  ],
)

function expectIllegal(bad: Program, message: RegExp): void {
  expect(() => verify(bad)).toThrow(
    expect.objectContaining({ code: 'ERR_PROGRAM', message: expect.stringMatching(message) }),
  )
}

describe('verify', () => {
  it('accepts what tracing writes', () => {
    expect(() => verify(program)).not.toThrow()
  })

  it('names the operation that reads a value before it is made', () => {
    const operations = [...program.operations].reverse()
    expectIllegal({ ...program, operations }, /operation 0: .*tanh.*read before/)
  })

  it('refuses result types that do not follow from the operands', () => {
    const [matmul] = program.operations
    const wrong = { ...matmul, outputs: [newValue({ dtype: 'f32', shape: [9] })] }
    expectIllegal({ ...program, operations: [wrong], outputs: wrong.outputs }, /matmul/)
  })

  it('refuses two definitions, unknown operations and undefined outputs', () => {
    const [matmul] = program.operations
    expectIllegal({ ...program, operations: [matmul, matmul] }, /defined twice/)
    expectIllegal({ ...program, operations: [{ ...matmul, name: 'nothing' }] }, /no operation/)
    expectIllegal({ ...program, outputs: [newValue({ dtype: 'f32', shape: [] })] }, /never defined/)
  })

  it('keeps auxiliary results inside their family', () => {
    const loss = trace((z, t) => ops.crossEntropy(z, t), [[2, 3], { dtype: 'i32', shape: [2] }])
    const [op] = loss.operations
    expectIllegal({ ...loss, outputs: [op.outputs[1]] }, /auxiliary/)
    const reader = {
      name: 'exp',
      inputs: [op.outputs[1]],
      outputs: [newValue({ dtype: 'f32', shape: [2] })],
      attributes: {},
    } as const
    expectIllegal(
      { ...loss, operations: [op, reader], outputs: reader.outputs },
      /auxiliary result of 'cross_entropy'/,
    )
  })
})

describe('formatProgram', () => {
  it('prints one line per operation', () => {
    expect(formatProgram(program)).toBe(
      [
        'program(%0: f32[2,3], %1: f32[3,4])',
        '  %2: f32[2,4] = matmul %0 %1 {transA: 0, transB: 0}',
        '  %3: f32[2,4] = tanh %2',
        '  return %3',
      ].join('\n'),
    )
  })
})
