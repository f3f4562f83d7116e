import { describe, expect, it } from 'vitest'
import * as ops from '../../lib/ops/index.js'
import {
  evaluate,
  grad,
  hessianVectorProduct,
  jvp,
  linearize,
  type Tensor,
  trace,
  valueAndGrad,
  vjp,
  vmap,
} from '../../lib/program/index.js'

const coded = (code: string) => expect.objectContaining({ code })

describe('trace', () => {
  it('refuses operations outside a trace and values of another trace', () => {
    let escaped: Tensor | undefined
    trace(
      (x) => {
        escaped = x
        return x
      },
      [[2]],
    )
    expect(() => ops.exp(escaped as Tensor)).toThrow(coded('ERR_PROGRAM'))
    expect(() => trace((x) => ops.add(x, escaped as Tensor), [[2]])).toThrow(coded('ERR_PROGRAM'))
  })

  it.each([
    ['unknown dtype', () => trace((x) => x, [{ dtype: 'f128' as never, shape: [1] }]), 'ERR_DTYPE'],
    ['negative size', () => trace((x) => x, [[-1]]), 'ERR_SHAPE'],
    ['no broadcast', () => trace((x, y) => ops.add(x, y), [[2], [3]]), 'ERR_SHAPE'],
    [
      'inner sizes',
      () =>
        trace(
          (x, y) => ops.matmul(x, y),
          [
            [2, 3],
            [2, 3],
          ],
        ),
      'ERR_SHAPE',
    ],
    ['integer exp', () => trace((x) => ops.exp(x), [{ dtype: 'i32', shape: [2] }]), 'ERR_DTYPE'],
    ['not a tensor', () => trace(() => ops.exp(3 as never), []), 'ERR_PROGRAM'],
    ['axis', () => trace((x) => ops.sum(x, [2]), [[2, 3]]), 'ERR_SHAPE'],
    ['reshape', () => trace((x) => ops.reshape(x, [7]), [[2, 3]]), 'ERR_SHAPE'],
    ['slice', () => trace((x) => ops.slice(x, [1], [5]), [[3]]), 'ERR_SHAPE'],
    ['dropout rate', () => trace((x) => ops.dropout(x, 1, x, 0), [[3]]), 'ERR_ARGUMENT'],
    ['vector gradient', () => trace((x) => grad((t) => t)(x) as Tensor, [[3]]), 'ERR_SHAPE'],
    [
      'argument',
      () => trace((x) => grad((t) => ops.sum(t), 4)(x) as Tensor, [[3]]),
      'ERR_ARGUMENT',
    ],
    [
      'mapped sizes',
      () => trace((x, y) => vmap((a, b) => ops.add(a, b))(x, y), [[3], [4]]),
      'ERR_SHAPE',
    ],
  ])('throws a coded error: %s', (_, f, code) => {
    expect(f).toThrow(coded(code))
  })

  const { sum, mean, max, min, logsumexp, softmax, logSoftmax, argmax } = ops
  it.each(Object.entries({ sum, mean, max, min, logsumexp, softmax, logSoftmax, argmax }))(
    '%s names itself where its axes are none',
    (name, reduce: (x: Tensor, axes: never) => Tensor) => {
      for (const axes of [{ axes: [0] }, 'x', ['x'], [0.5], null] as never[]) {
        // null stands for all axes where there are several.
        if (axes === null && ['sum', 'mean', 'max', 'min'].includes(name)) continue
        const traced = () => trace((x) => reduce(x, axes), [[2, 3]])
        expect(traced).toThrow(coded('ERR_ARGUMENT'))
        expect(traced).toThrow(`${name}() expected ax`)
      }
    },
  )

  it('says what a loss of binary scores needs', () => {
    const traced = () => trace((z, y) => ops.hinge(z, y), [[4, 3], [4]])
    expect(traced).toThrow(coded('ERR_SHAPE'))
    expect(traced).toThrow(/one output per sample.*got \[4,3\].*cross-entropy for 3 classes/)
  })
})

describe('function transforms', () => {
  const cube = (x: Tensor): Tensor => ops.sum(ops.mul(x, ops.mul(x, x)))

  it('grad, nested grad and valueAndGrad', () => {
    const program = trace(
      (x) => {
        const first = grad(cube)(x) as Tensor
        const second = grad((t) => ops.sum(grad(cube)(t) as Tensor))(x) as Tensor
        const third = grad((t) =>
          ops.sum(grad((u) => ops.sum(grad(cube)(u) as Tensor))(t) as Tensor),
        )(x)
        return [first, second, third as Tensor, valueAndGrad(cube)(x).value]
      },
      [[2]],
    )
    const [first, second, third, value] = evaluate(program, [[2, -1]])
    expect(Array.from(first)).toEqual([12, 3])
    expect(Array.from(second)).toEqual([12, -6])
    expect(Array.from(third)).toEqual([6, 6])
    expect(value[0]).toBe(7)
  })

  it('jvp and vjp agree with a known Jacobian', () => {
    const f = (x: Tensor): Tensor => ops.mul(x, x)
    const program = trace(
      (x, v) => {
        const forward = jvp(f, [x], [v])
        const { pullback } = vjp(f, [x])
        return [...forward.values, ...forward.tangents, ...pullback(v)]
      },
      [[2], [2]],
    )
    const [y, dy, dx] = evaluate(program, [
      [3, 4],
      [1, 2],
    ])
    expect([...y, ...dy, ...dx]).toEqual([9, 16, 6, 16, 6, 16])
  })

  it('multiplies by the Hessian of (uv - 1)² / 2', () => {
    const f = (u: Tensor, v: Tensor): Tensor => {
      const e = ops.sub(ops.mul(u, v), 1)
      return ops.mul(ops.mul(e, e), 0.5)
    }
    const program = trace((u, v, a, b) => hessianVectorProduct(f)([u, v], [a, b]), [[], [], [], []])
    const [u, v] = [1.5, -0.5]
    const hessian = (a: number, b: number) =>
      evaluate(program, [[u], [v], [a], [b]]).map((x) => x[0])
    expect(hessian(1, 0)).toEqual([v * v, 2 * u * v - 1])
    expect(hessian(0, 1)).toEqual([2 * u * v - 1, u * u])
  })

  it('vmap leaves unmapped arguments shared', () => {
    const program = trace(
      (x, w) => vmap((row, weight) => ops.sum(ops.mul(row, weight)), [0, null])(x, w),
      [[3, 2], [2]],
    )
    const [y] = evaluate(program, [
      [1, 2, 3, 4, 5, 6],
      [10, 1],
    ])
    expect(Array.from(y)).toEqual([12, 34, 56])
  })
})

describe('misuse of transforms', () => {
  it('checks tangents and cotangents against the function', () => {
    const f = (x: Tensor): Tensor => ops.sum(x)
    expect(() => trace((x, t) => jvp(f, [x], [t]).tangents, [[3], [7]])).toThrow(coded('ERR_SHAPE'))
    expect(() => trace((x, c) => vjp((t) => t, [x]).pullback(c), [[3], [7]])).toThrow(
      coded('ERR_SHAPE'),
    )
    expect(() => trace((() => 3) as never, [])).toThrow(coded('ERR_PROGRAM'))
  })

  it('refuses derivatives in targets and class weights', () => {
    const f = (z: Tensor, t: Tensor): Tensor => ops.sum(ops.crossEntropy(z, t))
    expect(() =>
      trace(
        (z, t) => grad(f, 1)(z, t),
        [
          [2, 3],
          [2, 3],
        ],
      ),
    ).toThrow(coded('ERR_PROGRAM'))
    const weighted = (z: Tensor, w: Tensor): Tensor =>
      ops.sum(ops.crossEntropy(z, ops.constant([0, 1], { dtype: 'i32' }), { classWeights: w }))
    expect(() => trace((z, w) => grad(weighted, 1)(z, w), [[2, 3], [3]])).toThrow(
      coded('ERR_PROGRAM'),
    )
  })

  it('refuses rows outside their own table when mapped', () => {
    const rows = { dtype: 'i32', shape: [2, 1] } as const
    const program = trace((x, i) => vmap((a, b) => ops.gather(a, b))(x, i), [[2, 3], rows])
    expect(
      Array.from(
        evaluate(program, [
          [1, 2, 3, 4, 5, 6],
          [2, 0],
        ])[0],
      ),
    ).toEqual([3, 4])
    expect(() =>
      evaluate(program, [
        [1, 2, 3, 4, 5, 6],
        [3, 0],
      ]),
    ).toThrow(coded('ERR_RANGE'))
    expect(() =>
      evaluate(program, [
        [1, 2, 3, 4, 5, 6],
        [0, -1],
      ]),
    ).toThrow(coded('ERR_RANGE'))
  })

  it('linearize shares the point and is linear', () => {
    const program = trace(
      (x, u, v) => {
        const { values, pushforward } = linearize((t) => ops.exp(t), [x])
        return [...values, ...pushforward([u]), ...pushforward([v])]
      },
      [[2], [2], [2]],
    )
    const [y, a, b] = evaluate(program, [
      [0, 1],
      [1, 0],
      [0, 2],
    ])
    expect([...y, ...a, ...b]).toEqual([1, Math.E, 1, 0, 0, 2 * Math.E])
  })
})
