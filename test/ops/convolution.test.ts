import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Device, open } from '../../lib/device/device.js'
import { compile } from '../../lib/device/executable.js'
import { convolutionFlops, forwardSizes } from '../../lib/ops/convolution-shapes.js'
import * as ops from '../../lib/ops/index.js'
import { evaluate, gradProgram, lower, simplify, trace, verify } from '../../lib/program/index.js'
import { jvpProgram } from '../../lib/program/jvp.js'
import { linearizeProgram } from '../../lib/program/linearize.js'
import type { Tensor } from '../../lib/program/tensor.js'
import type { Program, Shape } from '../../lib/program/types.js'
import { vjpProgram } from '../../lib/program/vjp.js'
import { vmapProgram } from '../../lib/program/vmap.js'
import { uniforms } from '../../lib/random/index.js'

const count = (shape: Shape): number => shape.reduce((n, d) => n * d, 1)
const draw = (shape: Shape, seed: number): Float64Array =>
  uniforms(seed, 0, 0, count(shape)).map((u) => 2 * u - 1)
const names = (program: Program): string[] =>
  program.operations.map((op) => op.name).filter((name) => name.startsWith('convolution'))

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, error = 1e-12): void {
  expect(actual.length).toBe(expected.length)
  let worst = 0
  for (let i = 0; i < expected.length; i++) {
    worst = Math.max(worst, Math.abs(actual[i] - expected[i]))
  }
  expect(worst).toBeLessThan(error)
}

function convolve(
  x: Shape,
  w: Shape,
  options: ops.ConvolutionOptions = {},
): { program: Program; x: Float64Array; w: Float64Array; y: Float64Array; shape: Shape } {
  const program = trace((a, b) => ops.convolution(a, b, options), [x, w])
  const [a, b] = [draw(x, 1), draw(w, 2)]
  return { program, x: a, w: b, y: evaluate(program, [a, b])[0], shape: program.outputs[0].shape }
}

describe('convolution', () => {
  it('is the sum that its definition says, with zeros outside', () => {
    const [N, C, H, W, O, kh, kw] = [2, 4, 5, 6, 6, 3, 2]
    const { x, w, y, shape } = convolve([N, C, H, W], [O, C / 2, kh, kw], {
      stride: [2, 1],
      padding: [
        [1, 2],
        [0, 1],
      ],
      dilation: [1, 2],
      groups: 2,
    })
    expect(shape).toEqual([N, O, 3, 5])
    const at = (n: number, c: number, i: number, j: number): number =>
      i < 0 || i >= H || j < 0 || j >= W ? 0 : x[((n * C + c) * H + i) * W + j]
    for (let n = 0; n < N; n++) {
      for (let o = 0; o < O; o++) {
        for (let p = 0; p < 3; p++) {
          for (let q = 0; q < 5; q++) {
            let sum = 0
            for (let c = 0; c < 2; c++) {
              for (let i = 0; i < kh; i++) {
                for (let j = 0; j < kw; j++) {
                  const channel = (o < 3 ? 0 : 2) + c
                  sum +=
                    at(n, channel, 2 * p - 1 + i, q + 2 * j) * w[((o * 2 + c) * kh + i) * kw + j]
                }
              }
            }
            expect(y[((n * O + o) * 3 + p) * 5 + q]).toBeCloseTo(sum, 12)
          }
        }
      }
    }
  })

  it('gives the same in both layouts', () => {
    const options = { stride: 2, padding: 1 } as const
    const { program, x, w } = convolve([2, 3, 5, 4], [4, 3, 3, 3], options)
    const other = trace(
      (a, b) => {
        const last = ops.transpose(a, [0, 2, 3, 1])
        const y = ops.convolution(last, b, { ...options, layout: 'nhwc' })
        return ops.transpose(y, [0, 3, 1, 2])
      },
      [
        [2, 3, 5, 4],
        [4, 3, 3, 3],
      ],
    )
    expectClose(evaluate(other, [x, w])[0], evaluate(program, [x, w])[0])
  })

  it('is a matrix product for 1 x 1 filters, and a scale per channel for depthwise ones', () => {
    const { x, w, y } = convolve([2, 3, 3, 5], [4, 5, 1, 1], { layout: 'nhwc' })
    const product = trace(
      (a, b) => ops.matmul(a, b, { transB: true }),
      [
        [18, 5],
        [4, 5],
      ],
    )
    expectClose(y, evaluate(product, [x, w])[0])
    const each = convolve([2, 3, 3, 5], [5, 1, 1, 1], { layout: 'nhwc', groups: 5 })
    expectClose(
      each.y,
      each.x.map((v, i) => v * each.w[i % 5]),
    )
  })

  it('has three operations that are one another’s derivatives', () => {
    const { program } = convolve([2, 3, 5, 5], [4, 3, 3, 3], { padding: 1 })
    const reverse = vjpProgram(program)
    expect(names(reverse).sort()).toEqual([
      'convolution',
      'convolution_data',
      'convolution_weights',
    ])
    const third = simplify(jvpProgram(jvpProgram(reverse)))
    verify(third)
    // Bilinear: the second derivative of a gradient in (x, w, dy) is a sum of products of tangents.
    expect(new Set(names(third))).toEqual(new Set(names(reverse)))
  })

  it('keeps tangents of one kind in one operation under vmap', () => {
    const { program } = convolve([2, 3, 5, 5], [4, 3, 3, 3], { padding: 1 })
    for (const first of [program, vjpProgram(program)]) {
      const { linear } = linearizeProgram(first)
      const own = names(linear).length
      const tangents = linear.inputs.map((value) => !first.inputs.includes(value))
      const mapped = vmapProgram(linear, tangents, 5)
      expect(names(mapped).length).toBe(own)
      expect(names(simplify(mapped)).length).toBe(own)
    }
  })

  it('merges mapped images into the batch', () => {
    const { program } = convolve([2, 3, 5, 5], [4, 3, 3, 3])
    const mapped = vmapProgram(program, [true, false], 5)
    const op = mapped.operations.find(({ name }) => name === 'convolution')
    expect(op?.inputs[0].shape).toEqual([10, 3, 5, 5])
    const both = vmapProgram(vmapProgram(program, [false, true], 3), [true, false], 2)
    expect(both.outputs[0].shape).toEqual([2, 3, 2, 4, 3, 3])
    verify(both)
  })

  it('accumulates pairs of tangents into one result when lowered', () => {
    const { program } = convolve([2, 3, 5, 5], [4, 3, 3, 3])
    const forward = jvpProgram(program)
    const lowered = lower(forward)
    expect(lowered.operations.map(({ name }) => name).filter((n) => n !== 'constant')).toEqual([
      'convolution',
      'convolution',
      'convolution',
    ])
    expect(lowered.operations.map(({ inputs }) => inputs.length).sort()).toEqual([2, 2, 3])
    const point = forward.inputs.map(({ shape }, i) => draw(shape, 5 + i))
    for (const [i, y] of evaluate(lowered, point).entries()) {
      expectClose(y, evaluate(forward, point)[i])
    }
    const hessian = lower(jvpProgram(vjpProgram(program)))
    const sums = hessian.operations.filter(({ name }) => name === 'add' || name === 'fused')
    expect(sums).toEqual([])
  })

  it('counts its work', () => {
    const program = trace(
      (x, w) => ops.convolution(x, w, { padding: 1, layout: 'nhwc' }),
      [
        [128, 32, 32, 16],
        [16, 16, 3, 3],
      ],
    )
    const [{ name, inputs, attributes }] = program.operations
    const work = convolutionFlops(forwardSizes(name, inputs, attributes), 1)
    expect(work).toBe(2 * 128 * 32 * 32 * 16 * 16 * 9)
  })
})

describe('convolutionTranspose', () => {
  it('is the adjoint of the convolution with the same filters', () => {
    const options = { stride: [2, 3], padding: 1, dilation: [1, 2], groups: 2 } as const
    const w: Shape = [4, 3, 3, 2]
    const y: Shape = [2, 4, 3, 4]
    const program = trace(
      (a, b) => ops.convolutionTranspose(a, b, { ...options, outputPadding: [1, 2] }),
      [y, w],
    )
    const x = program.outputs[0].shape
    expect(x).toEqual([2, 6, 6, 12])
    const forward = trace((a, b) => ops.convolution(a, b, options), [x, w])
    expect(forward.outputs[0].shape).toEqual(y)
    const [a, b, c] = [draw(x, 1), draw(w, 2), draw(y, 3)]
    const dot = (p: Float64Array, q: Float64Array): number => p.reduce((s, v, i) => s + v * q[i], 0)
    expect(dot(evaluate(forward, [a, b])[0], c)).toBeCloseTo(dot(a, evaluate(program, [c, b])[0]))
  })

  it('repeats pixels with filters of ones', () => {
    const program = trace(
      (a) => ops.convolutionTranspose(a, ops.constant(1, { shape: [1, 1, 2, 2] }), { stride: 2 }),
      [[1, 1, 2, 2]],
    )
    expect([...evaluate(program, [Float64Array.of(1, 2, 3, 4)])[0]]).toEqual([
      1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4,
    ])
  })
})

describe('bad input', () => {
  const attempt = (
    x: Shape,
    w: Shape,
    options: object = {},
    f: (x: Tensor, w: Tensor, options: object) => Tensor = ops.convolution,
    dtypes: readonly ('f32' | 'f64' | 'i32' | 'f16')[] = ['f32', 'f32'],
  ): { code: string; message: string } => {
    try {
      trace(
        (a, b) => f(a, b, options),
        [
          { dtype: dtypes[0], shape: x },
          { dtype: dtypes[1], shape: w },
        ],
      )
    } catch (error) {
      return error as { code: string; message: string }
    }
    return { code: 'none', message: '' }
  }
  const x = [2, 4, 5, 6]
  const w = [6, 4, 3, 3]

  it.each<[string, Shape, Shape, object, string, string]>([
    ['ranks that differ', [2, 4, 5], w, {}, 'ERR_SHAPE', 'one rank'],
    ['no axis of space', [2, 4], [6, 4], {}, 'ERR_SHAPE', '1 to 3 axes'],
    ['channels of the other layout', x, w, { layout: 'nhwc' }, 'ERR_SHAPE', 'layout'],
    ['groups that do not divide', x, [6, 1, 3, 3], { groups: 3 }, 'ERR_SHAPE', '3 groups of 4'],
    ['filters too deep', x, w, { groups: 2 }, 'ERR_SHAPE', 'over 2 channels'],
    ['a kernel too large', x, [6, 4, 6, 3], {}, 'ERR_SHAPE', 'kernel of 6'],
    ['a dilated kernel too large', x, w, { dilation: 3 }, 'ERR_SHAPE', '3 with dilation 3'],
    ['an empty kernel', x, [6, 4, 0, 3], {}, 'ERR_SHAPE', 'kernel of'],
    ['no channels', [2, 0, 5, 6], [6, 0, 3, 3], {}, 'ERR_SHAPE', 'one channel'],
    ['negative padding', x, w, { padding: -1 }, 'ERR_ARGUMENT', 'padding'],
    [
      'a negative pair',
      x,
      w,
      {
        padding: [
          [0, -1],
          [0, 0],
        ],
      },
      'ERR_ARGUMENT',
      '[[0,-1],[0,0]]',
    ],
    ['too few pairs', x, w, { padding: [[0, 1]] }, 'ERR_ARGUMENT', 'one pair'],
    ['mixed padding', x, w, { padding: [1, [0, 1]] }, 'ERR_ARGUMENT', 'one pair'],
    ['stride 0', x, w, { stride: 0 }, 'ERR_ARGUMENT', 'stride'],
    ['a stride of words', x, w, { stride: '2' }, 'ERR_ARGUMENT', 'stride'],
    ['three strides', x, w, { stride: [1, 1, 1] }, 'ERR_ARGUMENT', '[1,1,1]'],
    ['dilation 1.5', x, w, { dilation: 1.5 }, 'ERR_ARGUMENT', 'dilation'],
    ['groups 0', x, w, { groups: 0 }, 'ERR_ARGUMENT', 'groups'],
    ['an unknown layout', x, w, { layout: 'nwhc' }, 'ERR_ARGUMENT', "'nchw' or 'nhwc'"],
    ['an unknown option', x, w, { strides: 2 }, 'ERR_ARGUMENT', 'strides'],
    ['outputPadding', x, w, { outputPadding: 1 }, 'ERR_ARGUMENT', 'outputPadding'],
  ])('refuses %s', (_, x, w, options, code, words) => {
    const error = attempt(x, w, options)
    expect(error.code).toBe(code)
    expect(error.message).toContain(words)
  })

  it('refuses integers, halves and mixed types', () => {
    for (const dtypes of [
      ['i32', 'i32'],
      ['f16', 'f16'],
      ['f32', 'f64'],
    ] as const) {
      expect(attempt(x, w, {}, ops.convolution, dtypes).code).toBe('ERR_DTYPE')
    }
    expect(() => trace(() => ops.convolution([1] as never, 2 as never), [])).toThrow(
      expect.objectContaining({ code: 'ERR_ARGUMENT' }),
    )
  })

  it('refuses transposed convolutions without a result', () => {
    const { convolutionTranspose } = ops
    const f = [4, 6, 3, 3]
    const late = attempt(x, f, { stride: 2, outputPadding: 2 }, convolutionTranspose)
    expect(late.code).toBe('ERR_ARGUMENT')
    expect(late.message).toContain('less than the stride')
    const padded = attempt(x, f, { padding: 4 }, convolutionTranspose)
    expect(padded.code).toBe('ERR_SHAPE')
    expect(padded.message).toContain('pad less')
    expect(attempt(x, w, {}, convolutionTranspose).message).toContain('as many filters')
    expect(attempt(x, [4, 1, 3, 3], { groups: 3 }, convolutionTranspose).code).toBe('ERR_SHAPE')
  })
})

describe('on the device', () => {
  let device: Device
  beforeAll(async () => {
    device = await open({ device: 'cpu' })
  })
  afterAll(() => device.dispose())

  it.each([
    ['nhwc', [3, 9, 8, 16], [24, 16, 3, 3]],
    ['nchw', [3, 16, 9, 8], [24, 16, 3, 3]],
  ] as const)('agrees in gradients and their tangents, %s', async (layout, x, w) => {
    const loss = trace(
      (a, b) => {
        const y = ops.relu(ops.convolution(a, b, { stride: 2, padding: 1, layout }))
        return ops.sum(ops.mul(y, y))
      },
      [x, w],
    )
    const program = jvpProgram(gradProgram(loss))
    const point = program.inputs.map(({ shape }, i) => draw(shape, 20 + i))
    const expected = evaluate(program, point)
    for (const [precision, error] of [
      ['f32', 1e-4],
      ['f64', 1e-11],
    ] as const) {
      const executable = compile(device, program, { precision })
      try {
        const once = await executable.run(point)
        const scale = Math.max(...expected.flatMap((y) => [...y.map(Math.abs)]))
        for (const [i, y] of expected.entries()) {
          expectClose(Float64Array.from(once[i]), y, error * scale)
        }
        expect(await executable.run(point)).toEqual(once)
      } finally {
        executable.dispose()
      }
    }
  })

  it('sums nothing over an empty batch', async () => {
    const { program } = convolve([0, 3, 5, 5], [4, 3, 3, 3], { padding: 1 })
    const reverse = vjpProgram(program)
    const point = reverse.inputs.map(({ shape }) => draw(shape, 1))
    const executable = compile(device, reverse)
    try {
      const [y, dx, dw] = await executable.run(point)
      expect([y.length, dx.length]).toEqual([0, 0])
      expect(dw).toEqual(new Float32Array(4 * 3 * 9))
    } finally {
      executable.dispose()
    }
  })
})
