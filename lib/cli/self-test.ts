import type { Device } from '../device/device.js'
import { compile } from '../device/executable.js'
import * as ops from '../ops/index.js'
import { evaluate, grad, type Program, type Tensor, trace } from '../program/index.js'
import { elements } from '../program/shape.js'
import { normals } from '../random/index.js'

/** Largest error of the device against the float64 reference, relative to the largest value. */
export interface SelfTest {
  f32: number
  f64: number
  ok: boolean
}

const LIMIT = { f32: 1e-5, f64: 1e-12 }

/** A small network's loss and gradient: products, elementwise functions, reductions, a fused loss. */
function program(): Program {
  return trace(
    (...args) => {
      const loss = (x: Tensor, w1: Tensor, w2: Tensor): Tensor => {
        const z = ops.matmul(ops.tanh(ops.matmul(x, w1)), w2)
        return ops.mean(ops.sub(ops.logsumexp(z), ops.mean(ops.gelu(z), [1])))
      }
      return [loss(args[0], args[1], args[2]), ...[grad(loss, [1, 2])(...args)].flat()]
    },
    [
      [8, 5],
      [5, 16],
      [16, 3],
    ],
  )
}

/** Runs a small program on the device in both precisions and compares with the reference. */
export async function selfTest(device: Device): Promise<SelfTest> {
  const traced = program()
  const inputs = traced.inputs.map(({ shape }, i) => {
    const values = new Float64Array(elements(shape))
    normals(1, i, 0, values.length, values)
    return values.map(Math.fround)
  })
  const expected = evaluate(traced, inputs)
  const error = async (precision: 'f32' | 'f64'): Promise<number> => {
    const executable = compile(device, traced, { precision })
    try {
      const results = await executable.run(inputs)
      return Math.max(...results.map((result, i) => relativeError(result, expected[i])))
    } finally {
      executable.dispose()
    }
  }
  const [f32, f64] = [await error('f32'), await error('f64')]
  return { f32, f64, ok: f32 <= LIMIT.f32 && f64 <= LIMIT.f64 }
}

function relativeError(result: ArrayLike<number>, expected: Float64Array): number {
  let scale = 0
  let difference = 0
  for (let i = 0; i < expected.length; i++) {
    scale = Math.max(scale, Math.abs(expected[i]))
    // NaN must count as an error, which Math.max keeps.
    difference = Math.max(difference, Math.abs(result[i] - expected[i]))
  }
  return difference / scale
}
