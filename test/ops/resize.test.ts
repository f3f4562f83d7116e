import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import * as ops from '../../lib/ops/index.js'
import { evaluate, trace } from '../../lib/program/index.js'
import { uniforms } from '../../lib/random/index.js'
import { entriesOf, expectTorch, onShape, refusal } from './spatial-fixture.js'

describe.each(entriesOf('resize'))('resize $options of $shape', (entry) => {
  it.each(['nchw', 'nhwc'] as const)('has torch’s values and gradient, %s', (layout) => {
    expectTorch(entry, layout)
  })
})

const size = fc.integer({ min: 1, max: 9 })
const mode = fc.constantFrom(
  { mode: 'nearest' as const },
  { mode: 'bilinear' as const },
  { mode: 'bilinear' as const, alignCorners: true },
)

describe('resize', () => {
  it('leaves constants constant, of any size', () => {
    fc.assert(
      fc.property(size, size, size, size, mode, (h, w, height, width, options) => {
        const program = onShape(
          (x) => ops.resize(x, { ...options, size: [height, width] }),
          1,
          1,
          h,
          w,
        )
        const [y] = evaluate(program, [new Float64Array(h * w).fill(3)])
        expect(y.length).toBe(height * width)
        for (const v of y) expect(v).toBeCloseTo(3, 12)
      }),
    )
  })

  it('leaves images of the same size as they are', () => {
    fc.assert(
      fc.property(size, size, mode, (h, w, options) => {
        const x = uniforms(1, 0, 0, h * w)
        const program = onShape((t) => ops.resize(t, { ...options, size: [h, w] }), 1, 1, h, w)
        const [y] = evaluate(program, [x])
        for (const [i, v] of y.entries()) expect(v).toBeCloseTo(x[i], 12)
      }),
    )
  })

  it('keeps infinities out of pixels that do not touch them', () => {
    const program = onShape((x) => ops.resize(x, { size: 6 }), 1, 1, 3)
    const [y] = evaluate(program, [Float64Array.of(1, Infinity, 2)])
    expect(Array.from(y)).toEqual([1, Infinity, Infinity, Infinity, Infinity, 2])
  })

  it('refuses what it does not know', () => {
    const wrong: [object, RegExp][] = [
      [{ size: 0 }, /ERR_ARGUMENT.*size/],
      [{ size: 1e9 }, /ERR_ARGUMENT.*size to be at most 1048576/],
      [{}, /ERR_ARGUMENT.*size/],
      [{ size: [2, 3, 4] }, /ERR_ARGUMENT.*size/],
      [{ size: 2, mode: 'cubic' }, /ERR_ARGUMENT.*mode/],
      [{ size: 2, mode: 'nearest', alignCorners: true }, /ERR_ARGUMENT.*alignCorners/],
      [{ size: 2, scale: 2 }, /ERR_ARGUMENT.*no option 'scale'/],
      [{ size: 2, layout: 'chw' }, /ERR_ARGUMENT.*layout/],
    ]
    for (const [options, message] of wrong) {
      const resize = () => onShape((x) => ops.resize(x, options as { size: number }), 1, 1, 4, 4)
      expect(refusal(resize)).toMatch(message)
    }
    expect(refusal(() => onShape((x) => ops.resize(x, { size: 2 }), 4, 4))).toMatch(/ERR_SHAPE/)
    expect(refusal(() => onShape((x) => ops.resize(x, { size: 2 }), 1, 1, 4, 0))).toMatch(
      /ERR_SHAPE.*hold nothing/,
    )
    expect(
      refusal(() => trace((x) => ops.resize(x, { size: 2 }), [{ dtype: 'i32', shape: [1, 1, 4] }])),
    ).toMatch(/ERR_DTYPE/)
  })
})
