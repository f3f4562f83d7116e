import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Device, open } from '../../lib/device/device.js'
import { compile } from '../../lib/device/executable.js'
import * as ops from '../../lib/ops/index.js'
import { evaluate, trace, verify, vmapProgram } from '../../lib/program/index.js'
import { jvpProgram } from '../../lib/program/jvp.js'
import { vjpProgram } from '../../lib/program/vjp.js'
import { uniforms } from '../../lib/random/index.js'
import { entriesOf, expectTorch, onShape, refusal } from './spatial-fixture.js'

const POOLS = entriesOf('maxPool', 'averagePool', 'adaptiveAveragePool', 'adaptiveMaxPool')

describe.each(POOLS)('$kind $options of $shape', (entry) => {
  it.each(['nchw', 'nhwc'] as const)('has torch’s values and gradient, %s', (layout) => {
    expectTorch(entry, layout)
  })
})

describe('maxPool', () => {
  it('chooses the first of equal elements in row order, and NaN', () => {
    const program = vjpProgram(onShape((x) => ops.maxPool(x, { kernel: 2 }), 1, 1, 2, 6))
    const x = Float64Array.of(1, 2, 3, Number.NaN, 5, 5, 2, 2, 9, 3, 5, 5)
    const [y, dx] = evaluate(program, [x, Float64Array.of(1, 10, 100)])
    expect(Array.from(y)).toEqual([2, Number.NaN, 5])
    expect(Array.from(dx)).toEqual([0, 1, 0, 10, 100, 0, 0, 0, 0, 0, 0, 0])
  })

  it('of -Infinity alone is -Infinity, with the gradient at the first element', () => {
    const program = vjpProgram(onShape((x) => ops.maxPool(x, { kernel: 2 }), 1, 1, 4))
    const [y, dx] = evaluate(program, [new Float64Array(4).fill(-Infinity), Float64Array.of(1, 2)])
    expect(Array.from(y)).toEqual([-Infinity, -Infinity])
    expect(Array.from(dx)).toEqual([1, 0, 2, 0])
  })
})

describe('on the device', () => {
  let device: Device
  beforeAll(async () => {
    device = await open({ device: 'cpu', threads: 2 })
  })
  afterAll(() => device.dispose())

  it.each([
    ['nhwc', [2, 16, 15, 21]],
    ['nchw', [2, 21, 16, 15]],
  ] as const)('pools and unpools many channels, %s', async (layout, shape) => {
    const program = vjpProgram(
      trace(
        (x) => [
          ops.maxPool(x, { kernel: 3, stride: 2, padding: 1, layout }),
          ops.averagePool(x, { kernel: 3, stride: 2, padding: 1, layout }),
          ops.globalAveragePool(x, { layout }),
        ],
        [{ dtype: 'f32', shape }],
      ),
    )
    const inputs = program.inputs.map(({ shape: own }, i) =>
      Float64Array.from(
        Float32Array.from(
          uniforms(
            i,
            0,
            0,
            own.reduce((n, d) => n * d, 1),
          ),
          (u) => u - 0.5,
        ),
      ),
    )
    const executable = compile(device, program)
    const results = await executable.run(inputs)
    executable.dispose()
    for (const [i, expected] of evaluate(program, inputs).entries()) {
      const error = Math.max(...expected.map((v, k) => Math.abs(v - results[i][k])))
      expect(error).toBeLessThan(1e-5)
    }
  })
})

describe('maps of the derivatives of maxPool', () => {
  const single = jvpProgram(
    vjpProgram(onShape((x) => ops.maxPool(x, { kernel: 2, layout: 'nhwc' }), 2, 4, 4, 3)),
  )
  const sizes = single.inputs.map(({ shape }) => shape.reduce((n, d) => n * d, 1))
  const draw = (i: number, n: number) => uniforms(i, 1, 0, n).map((u) => u - 0.5)

  it.each([
    ['the point', [true, false, false, false]],
    ['cotangents', [false, true, false, false]],
    ['tangents', [false, false, true, true]],
    ['everything', [true, true, true, true]],
  ] as const)('over %s', (_, batched) => {
    // Twice: the second axis finds several samples for each index.
    const inner = vmapProgram(single, [false, true, true, true], 2)
    const program = vmapProgram(inner, batched, 3)
    verify(program)
    const own = sizes.map((n, i) => (i === 0 ? n : 2 * n))
    const inputs = own.map((n, i) => draw(i, batched[i] ? 3 * n : n))
    const part = (i: number, outer: number, second: number): Float64Array => {
      const start = (batched[i] ? outer * own[i] : 0) + (i === 0 ? 0 : second * sizes[i])
      return inputs[i].slice(start, start + sizes[i])
    }
    const expected = [0, 1, 2].flatMap((outer) =>
      [0, 1].map((second) =>
        evaluate(
          single,
          sizes.map((__, i) => part(i, outer, second)),
        ),
      ),
    )
    for (const [o, y] of evaluate(program, inputs).entries()) {
      expect(Array.from(y)).toEqual(expected.flatMap((results) => Array.from(results[o])))
    }
  })
})

describe('bad input', () => {
  const maxPool = (options: object, ...shape: number[]) =>
    refusal(() => onShape((x) => ops.maxPool(x, options as { kernel: number }), ...shape))
  const average = (options: object, ...shape: number[]) =>
    refusal(() => onShape((x) => ops.averagePool(x, options as { kernel: number }), ...shape))

  it('is refused with what was expected', () => {
    expect(maxPool({ kernel: 3, padding: 2 }, 1, 1, 8, 8)).toMatch(
      /ERR_ARGUMENT.*padding 2 is more than half of the kernel 3/,
    )
    expect(maxPool({ kernel: 5 }, 1, 1, 4, 9)).toMatch(
      /ERR_SHAPE.*spans 5 does not fit into 4 positions/,
    )
    expect(maxPool({ kernel: 3, dilation: 3 }, 1, 1, 6, 9)).toMatch(/ERR_SHAPE.*spans 7/)
    expect(average({ kernel: 2, stride: 0 }, 1, 1, 4, 4)).toMatch(/ERR_ARGUMENT.*stride/)
    expect(average({ kernel: 0 }, 1, 1, 4, 4)).toMatch(/ERR_ARGUMENT.*kernel/)
    expect(average({ kernel: 2, padding: -1 }, 1, 1, 4, 4)).toMatch(/ERR_ARGUMENT.*padding/)
    expect(average({ kernel: [2, 2, 2] }, 1, 1, 4, 4)).toMatch(/ERR_ARGUMENT.*kernel/)
    expect(average({ kernel: [2, 2] }, 1, 1, 4)).toMatch(/ERR_ARGUMENT.*kernel/)
    expect(average({}, 1, 1, 4, 4)).toMatch(/ERR_ARGUMENT.*kernel/)
    expect(average({ kernel: 2, dilation: 2 }, 1, 1, 4, 4)).toMatch(/ERR_ARGUMENT.*dilation/)
    expect(maxPool({ kernel: 2, layout: 'hwc' }, 1, 1, 4, 4)).toMatch(/ERR_ARGUMENT.*layout/)
    expect(maxPool({ kernel: 2 }, 4, 4)).toMatch(/ERR_SHAPE.*\[N, C, H, W\]/)
    expect(maxPool({ kernel: 2 }, 1, 1, 0, 4)).toMatch(/ERR_SHAPE.*hold nothing/)
    expect(
      refusal(() =>
        trace((x) => ops.maxPool(x, { kernel: 2 }), [{ dtype: 'i32', shape: [1, 1, 4, 4] }]),
      ),
    ).toMatch(/ERR_DTYPE/)
  })

  it('is a window of which dilation leaves nothing', () => {
    expect(maxPool({ kernel: 2, padding: 1, dilation: 2 }, 1, 1, 1)).toMatch(
      /ERR_SHAPE.*window 0.*holds none of 1 positions/,
    )
  })

  it('is an adaptive size below 1', () => {
    for (const pool of [ops.adaptiveAveragePool, ops.adaptiveMaxPool]) {
      for (const output of [0, 1.5, [1, 2, 3], undefined]) {
        expect(
          refusal(() => onShape((x) => pool(x, { output: output as number }), 1, 1, 4, 4)),
        ).toMatch(/ERR_ARGUMENT.*output/)
      }
    }
    expect(refusal(() => onShape((x) => ops.globalAveragePool(x), 4, 4))).toMatch(/ERR_SHAPE/)
  })
})
