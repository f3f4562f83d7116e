import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkOperator } from '../../lib/curvature/check.js'
import { finiteDifference } from '../../lib/curvature/finite-difference.js'
import { lanczos } from '../../lib/curvature/lanczos.js'
import { hessian } from '../../lib/curvature/network.js'
import { gradientProgram } from '../../lib/curvature/programs.js'
import { type Device, open } from '../../lib/device/device.js'
import { resolveLoss } from '../../lib/nn/loss.js'
import { evaluate } from '../../lib/program/index.js'
import { normals } from '../../lib/random/index.js'
import { MODEL_CASES } from './cases.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

const { model, set, params, loss } = MODEL_CASES[1]
const n = model.size
const program = gradientProgram({
  model,
  loss: resolveLoss(loss),
  set,
  batch: set.size,
  selected: model.layout.names.map(() => true),
})

/** Mean gradient in float64, by the reference evaluator. */
function gradient(theta: ArrayLike<number>): Float64Array {
  const parts = model.layout.entries.map((e) =>
    Float64Array.from(theta).subarray(e.offset, e.offset + e.size),
  )
  const w = new Float64Array(set.size).fill(1)
  const outputs = evaluate(program, [...parts, set.inputs, set.targets, w])
  return Float64Array.from(outputs.slice(1).flatMap((g) => Array.from(g))).map((x) => x / set.size)
}

const norm = (x: ArrayLike<number>): number => Math.hypot(...Array.from(x))
const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  norm(Array.from(a, (x, i) => x - b[i])) / norm(b)

describe('a small network', () => {
  it('has the products of the exact Hessian to 1e-7, for vectors of any length', async () => {
    using exact = hessian(device, model, params, set, { loss, precision: 'f64' })
    const v = normals(51, 0, 0, n)
    const expected = await exact.matvec(v)
    const operator = finiteDifference(gradient, params)
    expect(operator).toMatchObject({ size: n, dtype: 'f64' })
    for (const length of [1e-6, 1, 1e6]) {
      const product = await operator.matvec(v.map((x) => x * length))
      expect(
        distance(
          product,
          expected.map((x) => x * length),
        ),
      ).toBeLessThan(1e-7)
    }
    expect(norm(await operator.matvec(new Float64Array(n)))).toBe(0)
    await expect(checkOperator(operator)).resolves.toBeDefined()
    const [mine, theirs] = await Promise.all([
      lanczos(operator, { k: 3 }),
      lanczos(exact, { k: 3 }),
    ])
    expect(distance(mine.values, theirs.values)).toBeLessThan(1e-7)
  })

  it('in f32 stays within 1e-3', async () => {
    using exact = hessian(device, model, params, set, { loss, precision: 'f64' })
    const operator = finiteDifference((theta) => gradient(theta).map(Math.fround), params, {
      dtype: 'f32',
    })
    const v = normals(52, 0, 0, n)
    const product = await operator.matvec(v)
    expect(product).toBeInstanceOf(Float32Array)
    expect(distance(product, await exact.matvec(v))).toBeLessThan(1e-3)
  })

  it('a noisy gradient is found by checkOperator', async () => {
    let calls = 0
    const noisy = finiteDifference((theta) => {
      const noise = normals(53, calls++, 0, n)
      return gradient(theta).map((x, i) => x * (1 + 1e-4 * noise[i]))
    }, params)
    await expect(checkOperator(noisy)).rejects.toMatchObject({
      code: 'ERR_OPERATOR',
      message: expect.stringContaining('not deterministic'),
    })
  })
})

it('gives every gradient parameters of its own, and restores from a copy', async () => {
  const theta = Float64Array.of(1, 2)
  const result = new Float64Array(2)
  const operator = finiteDifference(async (at) => {
    // A gradient that reuses its result and spoils its argument: ∇ of x³ + y³ + x y.
    result.set([3 * at[0] ** 2 + at[1], 3 * at[1] ** 2 + at[0]])
    at.fill(Number.NaN)
    return result
  }, theta)
  theta.fill(100)
  for (let i = 0; i < 3; i++) {
    expect(distance(await operator.matvec([1, 0]), [6, 1])).toBeLessThan(1e-9)
    expect(distance(await operator.matvec([0, 1]), [1, 12])).toBeLessThan(1e-9)
  }
})

it('refuses what cannot work', async () => {
  const code = (c: string): unknown => expect.objectContaining({ code: c })
  const g = (x: ArrayLike<number>): ArrayLike<number> => x
  expect(() => finiteDifference(g, [1], { step: 0 })).toThrow(code('ERR_ARGUMENT'))
  expect(() => finiteDifference(g, [])).toThrow(code('ERR_ARGUMENT'))
  expect(() => finiteDifference(g, [Number.NaN])).toThrow(code('ERR_NOT_FINITE'))
  expect(() => finiteDifference(g, [1], { dtype: 'f16' as 'f32' })).toThrow(code('ERR_ARGUMENT'))
  expect(() => finiteDifference(g, [1], { eps: 1 } as object)).toThrow(code('ERR_ARGUMENT'))
  const v = [1, 2]
  await expect(finiteDifference(() => [1], [1, 2]).matvec(v)).rejects.toEqual(code('ERR_OPERATOR'))
  await expect(finiteDifference(() => [1, Number.NaN], [1, 2]).matvec(v)).rejects.toEqual(
    code('ERR_OPERATOR'),
  )
})
