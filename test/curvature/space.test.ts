import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hessian } from '../../lib/curvature/network.js'
import type { LinearOperator } from '../../lib/curvature/operator.js'
import { denseOperator, operatorFrom } from '../../lib/curvature/operators.js'
import { spaceOf, type VectorBlock, type VectorSpace } from '../../lib/curvature/space.js'
import { type Device, open } from '../../lib/device/device.js'
import { normals } from '../../lib/random/index.js'
import { MODEL_CASES } from './cases.js'
import { HostSpace } from './host-space.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

function symmetric(n: number): Float64Array {
  const g = normals(3, 0, 0, n * n)
  return g.map((x, at) => x + g[(at % n) * n + Math.floor(at / n)])
}

const N = 77

/** Operators by where their vectors and products are. */
const operators: Record<string, () => LinearOperator & { dispose?: () => void }> = {
  'native f64': () => denseOperator(device, symmetric(N)),
  'native f32': () => denseOperator(device, symmetric(N), { dtype: 'f32' }),
  'native with padding between parameters': () => {
    const test = MODEL_CASES[1]
    return hessian(device, test.model, test.params, test.set, {
      loss: test.loss,
      precision: 'f64',
    })
  },
  "user's f64": () => operatorFrom(async (v) => v.map((x, i) => x * (i + 1)), N),
  "user's f32": () =>
    operatorFrom((v) => v.map((x, i) => x - (v[i + 1] ?? 0)), N, { dtype: 'f32' }),
}

async function contents(space: VectorSpace, x: VectorBlock): Promise<number[][]> {
  const rows = Array.from({ length: x.count }, (_, r) => space.read(x, r))
  return (await Promise.all(rows)).map((row) => Array.from(row))
}

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tol: number): void {
  expect(actual.length).toBe(expected.length)
  const scale = Math.max(1, ...Array.from(expected, Math.abs))
  for (let i = 0; i < expected.length; i++) {
    expect(Math.abs(actual[i] - expected[i])).toBeLessThanOrEqual(tol * scale)
  }
}

describe.each(Object.keys(operators))('the space of a %s operator', (name) => {
  it('does what plain loops do', async () => {
    const operator = operators[name]()
    const tol = operator.dtype === 'f32' ? 1e-5 : 1e-12
    const results: { gram: Float64Array; rows: number[][] }[] = []
    for (const space of [spaceOf(operator), new HostSpace(operator)]) {
      const x = space.allocate(5)
      const y = space.allocate(3)
      await space.fill(x, 'normal', 7, 100)
      await space.fill(x.rows(4, 1), 'rademacher', 7, 100)
      await space.fill(y, 'normal', 8, 2 ** 40)
      await space.write(x, 2, normals(9, 0, 0, operator.size))
      const gram = await space.gram(x, y)
      const c = normals(10, 0, 0, 6)
      await space.combine(c, x.rows(1, 2), y)
      await space.combine(c, x.rows(3, 2), y, true)
      await space.multiply(x.rows(0, 3), y, y)
      await space.multiply(x.rows(1, 3), x.rows(2, 3), y, true)
      await space.hypot(x.rows(1, 3), y.rows(2, 1))
      const z = space.allocate(3)
      await space.apply(y, z)
      await space.combine([], x.rows(0, 0), x.rows(0, 1))
      results.push({
        gram,
        rows: [...(await contents(space, x)), ...(await contents(space, y))].concat(
          await contents(space, z),
        ),
      })
      for (const block of [x, y, z]) block.dispose()
    }
    const [device, host] = results
    expectClose(device.gram, host.gram, tol)
    for (const [i, row] of host.rows.entries()) expectClose(device.rows[i], row, tol)
    expect(device.rows[0].every((v) => v === 0)).toBe(true)
    operator.dispose?.()
  })

  it('takes calls in the order in which they are made', async () => {
    const operator = operators[name]()
    const space = spaceOf(operator)
    const x = space.allocate(2)
    const y = space.allocate(2)
    const [, , gram, , after] = await Promise.all([
      space.fill(x, 'rademacher', 1, 0),
      space.apply(x, y),
      space.gram(x, y),
      space.combine([2, 0, 0, 2], x, y),
      space.gram(x, y),
    ])
    const host = new HostSpace(operator)
    const u = host.allocate(2)
    const v = host.allocate(2)
    await host.fill(u, 'rademacher', 1, 0)
    await host.apply(u, v)
    expectClose(gram, await host.gram(u, v), operator.dtype === 'f32' ? 1e-5 : 1e-12)
    expect(after[0]).toBe(2 * operator.size)
    x.dispose()
    y.dispose()
    operator.dispose?.()
  })
})

describe('spaceOf', () => {
  it('stops when told to', async () => {
    const controller = new AbortController()
    const reason = new Error('enough')
    for (const name of ['native f64', "user's f64"]) {
      const operator = operators[name]()
      const space = spaceOf(operator, { signal: controller.signal })
      const x = space.allocate(2)
      controller.abort(reason)
      await expect(space.apply(x.rows(0, 1), x.rows(1, 1))).rejects.toMatchObject({
        code: 'ERR_ABORTED',
        cause: reason,
      })
      x.dispose()
      operator.dispose?.()
    }
  })

  it('refuses rows that do not exist, combinations in place and wrong vectors', async () => {
    const operator = operators['native f64']()
    const space = spaceOf(operator)
    const x = space.allocate(4)
    expect(() => x.rows(3, 2)).toThrow(expect.objectContaining({ code: 'ERR_RANGE' }))
    await expect(space.combine([1, 0, 0, 1], x.rows(0, 2), x.rows(1, 2))).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
    })
    await expect(space.combine([1], x.rows(0, 2), x.rows(2, 1))).rejects.toMatchObject({
      code: 'ERR_SHAPE',
    })
    await expect(space.write(x, 0, new Float64Array(3))).rejects.toMatchObject({
      code: 'ERR_SHAPE',
    })
    const bad = new Float64Array(N).fill(1)
    bad[5] = Number.NaN
    await expect(space.write(x, 0, bad)).rejects.toMatchObject({ code: 'ERR_NOT_FINITE' })
    x.dispose()
    operator.dispose?.()
  })

  it('passes on what a user’s product throws, and goes on', async () => {
    let fail = true
    const operator = operatorFrom((v) => {
      if (fail) throw new RangeError('mine')
      return v
    }, 10)
    const space = spaceOf(operator)
    const x = space.allocate(2)
    const y = space.allocate(2)
    await space.fill(x, 'normal', 0, 0)
    await expect(space.apply(x, y)).rejects.toThrow('mine')
    fail = false
    await space.apply(x, y)
    expect(await contents(space, y)).toEqual(await contents(space, x))
    x.dispose()
    y.dispose()
  })
})
