import { expect, it } from 'vitest'
import { add } from '../../lib/ops/elementwise.js'
import { matmul, mul, tanh } from '../../lib/ops/index.js'
import { lower, type Program, simplify, type Tensor, trace } from '../../lib/program/index.js'
import { formGroups } from '../../lib/program/passes/groups.js'
import { vjpProgram } from '../../lib/program/vjp.js'

/** Gradient of a residual network of `depth` blocks with a gate that all blocks read. */
function gradient(depth: number): Program {
  const block = (h: Tensor, gate: Tensor, w: Tensor): Tensor =>
    add(h, mul(gate, tanh(add(matmul(h, w), mul(h, gate)))))
  const weights = Array.from({ length: depth }, () => [4, 4])
  const program = trace(
    (x, gate, ...ws) => ws.reduce((h, w) => block(h, gate, w), x),
    [[2, 4], [2, 4], ...weights],
  )
  return simplify(vjpProgram(program))
}

/** Best of three, which other work on the machine hardly makes longer. */
function seconds(program: Program): number {
  const times = [0, 1, 2].map(() => {
    const begin = performance.now()
    lower(program)
    return performance.now() - begin
  })
  return Math.min(...times) / 1000
}

it('reads operations in linear number to form groups', () => {
  const reads = (depth: number): number => {
    let count = 0
    const program = gradient(depth)
    const operations = program.operations.map(
      (op) =>
        new Proxy(op, {
          get(target, key) {
            count++
            return Reflect.get(target, key)
          },
        }),
    )
    formGroups({ ...program, operations })
    return count
  }
  expect(reads(300) / reads(75)).toBeLessThan(5)
})

// Other work on the machine may slow one try down; work in the square would fail all of them.
it('lowers four times the operations in little more than four times the time', { retry: 5 }, () => {
  const [small, large] = [gradient(75), gradient(300)]
  expect(large.operations.length / small.operations.length).toBeCloseTo(4, 1)
  lower(small)
  // Work in the square of the operations would take 16 times as long.
  expect(seconds(large) / seconds(small)).toBeLessThan(12)
})
