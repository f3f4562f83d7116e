import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Device, open } from '../../lib/device/device.js'
import { compile } from '../../lib/device/executable.js'
import * as ops from '../../lib/ops/index.js'
import {
  evaluate,
  gradProgram,
  type Program,
  simplify,
  trace,
  verify,
  vmapProgram,
} from '../../lib/program/index.js'
import { jvpProgram } from '../../lib/program/jvp.js'
import { elements } from '../../lib/program/shape.js'
import type { Tensor } from '../../lib/program/tensor.js'
import type { TensorType } from '../../lib/program/types.js'
import { vjpProgram } from '../../lib/program/vjp.js'
import { uniforms } from '../../lib/random/index.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu', threads: 2 })
})
afterAll(() => device.dispose())

const f32 = (...shape: number[]): TensorType => ({ dtype: 'f32', shape })
const draw = (program: Program, seed = 1): Float64Array[] =>
  program.inputs.map((value, i) =>
    uniforms(seed, i, 0, elements(value.shape)).map((u) => 2 * u - 1),
  )

const names = (program: Program): string[] => program.operations.map((op) => op.name)

function largestError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let error = actual.length === expected.length ? 0 : Number.POSITIVE_INFINITY
  let scale = 1
  for (let i = 0; i < expected.length; i++) {
    error = Math.max(error, Math.abs(actual[i] - expected[i]))
    scale = Math.max(scale, Math.abs(expected[i]))
  }
  return error / scale
}

/** softmax(q kᵀ / sqrt(D)) v of matrix products. */
function composed(q: Tensor, k: Tensor, v: Tensor): Tensor {
  const scores = ops.mul(ops.matmul(q, k, { transB: true }), 1 / Math.sqrt(q.shape[3]))
  return ops.matmul(ops.softmax(scores), v)
}

const half = (o: Tensor): Tensor => ops.mul(ops.sum(ops.mul(o, ops.mul(o, o))), 0.5)

/** The Hessian product of half(f(q, k, v)), by forward over reverse. */
const hessianProduct = (f: typeof composed, types: readonly TensorType[]): Program =>
  jvpProgram(gradProgram(trace((q: Tensor, k: Tensor, v: Tensor) => half(f(q, k, v)), types)))

const SIZES = [f32(2, 2, 5, 4), f32(2, 2, 7, 4), f32(2, 2, 7, 3)]

describe('attention', () => {
  it('is the softmax of scaled products, in values, gradients and Hessian products', () => {
    const fused = hessianProduct((q, k, v) => ops.attention(q, k, v), SIZES)
    const plain = hessianProduct(composed, SIZES)
    const x = draw(plain)
    const expected = evaluate(plain, x)
    for (const [i, y] of evaluate(fused, x).entries()) {
      expect(largestError(y, expected[i])).toBeLessThan(1e-12)
    }
  })

  it('agrees between the layouts', () => {
    const swap = (x: Tensor): Tensor => ops.transpose(x, [0, 2, 1, 3])
    const a = trace((q: Tensor, k: Tensor, v: Tensor) => ops.attention(q, k, v), SIZES)
    const b = trace(
      (q: Tensor, k: Tensor, v: Tensor) =>
        swap(ops.attention(swap(q), swap(k), swap(v), { layout: 'bnhd' })),
      SIZES,
    )
    const x = draw(a)
    expect(largestError(evaluate(b, x)[0], evaluate(a, x)[0])).toBeLessThan(1e-15)
  })

  it('gives a symmetric Hessian product', async () => {
    const types = [f32(1, 2, 37, 8), f32(1, 2, 50, 8), f32(1, 2, 50, 8)]
    const program = hessianProduct((q, k, v) => ops.attention(q, k, v), types)
    const x = draw(program)
    const [point, u] = [x.slice(0, 3), x.slice(3)]
    const w = draw(program, 2).slice(3)
    const executable = compile(device, program, { precision: 'f64' })
    const product = async (t: Float64Array[]) => (await executable.run([...point, ...t])).slice(-3)
    const dot = (a: readonly ArrayLike<number>[], b: readonly ArrayLike<number>[]): number =>
      a.reduce((s, y, i) => s + Array.from(y).reduce((t, z, j) => t + z * b[i][j], 0), 0)
    const left = dot(w, await product(u))
    const right = dot(u, await product(w))
    executable.dispose()
    expect(Math.abs(left)).toBeGreaterThan(1e-3)
    expect(Math.abs(left - right)).toBeLessThan(1e-10 * Math.abs(left))
  })

  it('computes a Hessian product by one operation of each kind', () => {
    const program = simplify(hessianProduct((q, k, v) => ops.attention(q, k, v), SIZES))
    const own = names(program).filter((name) => name.startsWith('attention'))
    expect(own.sort()).toEqual(['attention', 'attention_jvp', 'attention_vjp', 'attention_vjp_jvp'])
  })

  it('takes several tangents at once, and several points, by one operation', () => {
    const forward = jvpProgram(
      trace((q: Tensor, k: Tensor, v: Tensor) => ops.attention(q, k, v), SIZES),
    )
    for (const batched of [
      [false, false, false, true, true, true],
      [true, false, false, false, true, false],
    ]) {
      const many = simplify(vmapProgram(forward, batched, 3))
      verify(many)
      expect(names(many).filter((name) => name === 'attention_jvp')).toHaveLength(1)
    }
  })

  it('maps cotangents alone', () => {
    const reverse = vjpProgram(
      trace((q: Tensor, k: Tensor, v: Tensor) => ops.attention(q, k, v), SIZES),
    )
    const many = vmapProgram(reverse, [false, false, false, true], 2)
    verify(many)
    const x = draw(reverse)
    const other = draw(reverse, 5)[3]
    const single = [x[3], other].map((g) => evaluate(reverse, [...x.slice(0, 3), g]))
    const both = evaluate(many, [...x.slice(0, 3), Float64Array.from([...x[3], ...other])])
    for (const [i, y] of both.entries()) {
      const expected = single.flatMap((s) => Array.from(s[i]))
      expect(largestError(y, expected)).toBeLessThan(1e-13)
    }
  })

  it('keeps what masked keys hold out of every result', async () => {
    const types = [...SIZES, { dtype: 'u8', shape: [2, 7] } as const]
    const program = trace(
      (q: Tensor, k: Tensor, v: Tensor, keyMask: Tensor) => ops.attention(q, k, v, { keyMask }),
      types,
    )
    const x = draw(program)
    x[3] = Float64Array.from([1, 1, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    for (let h = 0; h < 2; h++) {
      for (const m of [2, 4]) {
        x[1][(h * 7 + m) * 4] = Number.NaN
        x[2][(h * 7 + m) * 3] = Number.POSITIVE_INFINITY
      }
    }
    const executable = compile(device, program, { precision: 'f64' })
    const [y] = await executable.run(x)
    executable.dispose()
    expect(largestError(y, evaluate(program, x)[0])).toBeLessThan(1e-13)
    expect(Array.from(y).every(Number.isFinite)).toBe(true)
    // The second batch sees no key.
    expect(Array.from(y.slice(y.length / 2)).every((o) => o === 0)).toBe(true)
    expect(y[0]).not.toBe(0)
  })

  it('plans no tensor of all scores for gradients and Hessian products', () => {
    const [heads, tokens, width] = [4, 512, 8]
    const types = [0, 1, 2].map(() => f32(1, heads, tokens, width))
    const program = hessianProduct((q, k, v) => ops.attention(q, k, v), types)
    const executable = compile(device, program)
    const { arenaBytes } = executable.inspect()
    executable.dispose()
    // One head's scores are 1 MiB; the tensors of tokens are 64 KiB each.
    expect(arenaBytes).toBeLessThan(4 * heads * tokens * tokens * 0.5)
  })
})

describe('the limits of attention', () => {
  const attend = (types: readonly TensorType[], options: ops.AttentionOptions = {}) =>
    trace((q: Tensor, k: Tensor, v: Tensor) => ops.attention(q, k, v, options), types)

  it('refuses shapes that do not fit', () => {
    expect(() => attend([f32(2, 5, 4), f32(2, 5, 4), f32(2, 5, 4)])).toThrow(
      expect.objectContaining({ code: 'ERR_SHAPE', message: expect.stringContaining('four axes') }),
    )
    expect(() => attend([f32(1, 2, 5, 4), f32(1, 2, 5, 3), f32(1, 2, 5, 4)])).toThrow(
      expect.objectContaining({ code: 'ERR_SHAPE', message: expect.stringContaining('[1,2,5,4]') }),
    )
    expect(() => attend([f32(1, 2, 5, 4), f32(1, 3, 5, 4), f32(1, 3, 5, 4)])).toThrow(
      expect.objectContaining({ code: 'ERR_SHAPE' }),
    )
    expect(() => attend([f32(1, 2, 5, 4), f32(1, 2, 5, 4), f32(1, 2, 6, 4)])).toThrow(
      expect.objectContaining({ code: 'ERR_SHAPE' }),
    )
    const integers = { dtype: 'i32', shape: [1, 2, 5, 4] } as const
    expect(() => attend([integers, integers, integers])).toThrow(
      expect.objectContaining({ code: 'ERR_DTYPE' }),
    )
  })

  it('refuses masks and biases that do not fit', () => {
    const types = [f32(2, 3, 5, 4), f32(2, 3, 6, 4), f32(2, 3, 6, 4)]
    const withOperand = (name: 'bias' | 'keyMask', type: TensorType) => () =>
      trace(
        (q: Tensor, k: Tensor, v: Tensor, x: Tensor) => ops.attention(q, k, v, { [name]: x }),
        [...types, type],
      )
    const shape = expect.objectContaining({ code: 'ERR_SHAPE' })
    const dtype = expect.objectContaining({ code: 'ERR_DTYPE' })
    expect(withOperand('keyMask', { dtype: 'i32', shape: [2, 5] })).toThrow(shape)
    expect(withOperand('keyMask', f32(2, 6))).toThrow(dtype)
    expect(withOperand('bias', f32(2, 3, 6, 5))).toThrow(shape)
    expect(withOperand('bias', f32(1, 2, 5, 6))).toThrow(shape)
    expect(withOperand('bias', f32(3, 5, 6))).toThrow(shape)
    expect(withOperand('bias', { dtype: 'i32', shape: [1, 1, 5, 6] })).toThrow(dtype)
    expect(withOperand('bias', f32(1, 3, 5, 6))).not.toThrow()
  })

  it('refuses options that it does not have', () => {
    const types = [f32(1, 1, 2, 2), f32(1, 1, 2, 2), f32(1, 1, 2, 2)]
    const code = expect.objectContaining({ code: 'ERR_ARGUMENT' })
    const bad: object[] = [
      { scale: Number.NaN },
      { scale: '1' },
      { causal: 1 },
      { layout: 'nbhd' },
      { mask: true },
      { bias: [1, 2] },
      { keyMask: [1] },
      null as unknown as object,
    ]
    for (const options of bad) {
      expect(() => attend(types, options as ops.AttentionOptions)).toThrow(code)
    }
    expect(() =>
      trace((q: Tensor) => ops.attention(q, q, 3 as unknown as Tensor), types.slice(0, 1)),
    ).toThrow(code)
  })

  it('names the third derivative that it does not have', () => {
    const program = hessianProduct((q, k, v) => ops.attention(q, k, v), SIZES)
    for (const transform of [jvpProgram, vjpProgram]) {
      expect(() => transform(program)).toThrow(
        expect.objectContaining({
          code: 'ERR_PROGRAM',
          message: expect.stringContaining('attention_vjp_jvp'),
        }),
      )
    }
  })
})
