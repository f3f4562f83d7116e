import { expect, it } from 'vitest'
import * as ops from '../../lib/ops/index.js'
import { evaluate, trace } from '../../lib/program/index.js'

it('a slice that begins within is checked even when it has the size of the whole', () => {
  expect(() => trace((x) => ops.slice(x, [1], [2]), [[2]])).toThrow(/ERR_SHAPE|slice/)
  const whole = trace((x) => ops.slice(x, [0], [2]), [[2]])
  expect(evaluate(whole, [[3, 4]])[0]).toEqual(Float64Array.of(3, 4))
})
