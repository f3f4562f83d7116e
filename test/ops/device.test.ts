import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Device, open } from '../../lib/device/device.js'
import { compile } from '../../lib/device/executable.js'
import { evaluate, type Program, simplify, trace, vmapProgram } from '../../lib/program/index.js'
import { jvpProgram } from '../../lib/program/jvp.js'
import { isFloat } from '../../lib/program/types.js'
import { vjpProgram } from '../../lib/program/vjp.js'
import { uniforms } from '../../lib/random/index.js'
import { OPERATION_CASES } from './cases.js'
import { draw, floats, tangentsFor } from './support.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

/** Rounding of a few operations in each precision; errors are relative to the largest element. */
const TOLERANCE = { f32: 2e-5, f64: 1e-12 } as const

async function expectSame(program: Program, inputs: Float64Array[]): Promise<void> {
  for (const precision of ['f32', 'f64'] as const) {
    // The reference reads the operands as the run stores them.
    const stored =
      precision === 'f64' ? inputs : inputs.map((x) => Float64Array.from(Float32Array.from(x)))
    const expected = evaluate(program, stored)
    const executable = compile(device, program, { precision })
    try {
      const actual = await executable.run(stored)
      for (const [i, y] of expected.entries()) {
        const exact = !isFloat(program.outputs[i].dtype)
        const scale = Math.max(1, ...y.map(Math.abs))
        const error = Math.max(0, ...y.map((v, k) => Math.abs(v - actual[i][k])))
        expect(actual[i].length).toBe(y.length)
        expect(error / scale).toBeLessThanOrEqual(exact ? 0 : TOLERANCE[precision])
      }
    } finally {
      executable.dispose()
    }
  }
}

describe.each(OPERATION_CASES)('$name on the device', (test) => {
  const program = trace(test.f, test.inputs)
  const x = draw(test, 1)

  it('agrees with the float64 reference, also mapped', async () => {
    await expectSame(program, x)
    const batched = test.inputs.map(() => true)
    const twice = x.map((a) => Float64Array.from([...a, ...a]))
    await expectSame(simplify(vmapProgram(program, batched, 2)), twice)
  })

  if (test.smooth === false) return

  it('agrees in all derivatives to second order', async () => {
    const tangents = floats(program, tangentsFor(program, 5))
    const cotangents = evaluate(program, x).map((y, i) => uniforms(9, i, 0, y.length))
    const forward = jvpProgram(program)
    const reverse = vjpProgram(program)
    await expectSame(forward, [...x, ...tangents])
    await expectSame(reverse, [...x, ...cotangents])
    const point = [...x, ...cotangents]
    const second = jvpProgram(reverse)
    await expectSame(second, [...point, ...floats(reverse, tangentsFor(reverse, 11))])
    const both = vjpProgram(reverse)
    const weights = evaluate(reverse, point).map((y, i) => uniforms(13, i, 0, y.length))
    await expectSame(both, [...point, ...weights])
  })
})
