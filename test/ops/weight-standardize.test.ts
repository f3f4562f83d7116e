import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Device, open } from '../../lib/device/device.js'
import { compile } from '../../lib/device/executable.js'
import { LosscapeError } from '../../lib/errors.js'
import * as ops from '../../lib/ops/index.js'
import {
  evaluate,
  gradProgram,
  simplify,
  trace,
  verify,
  vmapProgram,
} from '../../lib/program/index.js'
import { jvpProgram } from '../../lib/program/jvp.js'
import { elements } from '../../lib/program/shape.js'
import type { Program, Shape } from '../../lib/program/types.js'
import { vjpProgram } from '../../lib/program/vjp.js'
import { uniforms } from '../../lib/random/index.js'

type Options = Parameters<typeof ops.weightStandardize>[1]

const PRESETS = ['paper', 'official', 'official-bcn', 'bit', 'timm', 'nfnet'] as const

const draw = (seed: number, n: number): Float64Array =>
  uniforms(seed, 0, 0, n).map((u) => 2 * u - 1)

const bank = (shape: Shape, options: Options = {}): Program =>
  trace((w) => ops.weightStandardize([w], options)[0], [{ dtype: 'f32', shape }])

function standardize(w: Float64Array, shape: Shape, options: Options = {}): Float64Array {
  return evaluate(bank(shape, options), [w])[0]
}

const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((s, v, i) => s + v * b[i], 0)
const total = (a: ArrayLike<number>): number => dot(a, new Float64Array(a.length).fill(1))
const meanOf = (a: ArrayLike<number>): number => total(a) / a.length
const rowsOf = (x: Float64Array, filters: number): Float64Array[] => {
  const size = x.length / filters
  return Array.from({ length: filters }, (_, o) => x.subarray(o * size, (o + 1) * size))
}

function expectClose(a: ArrayLike<number>, b: ArrayLike<number>, tolerance: number): void {
  expect(a.length).toBe(b.length)
  for (let i = 0; i < a.length; i++) {
    expect(Math.abs(a[i] - b[i])).toBeLessThanOrEqual(tolerance * Math.max(1, Math.abs(b[i])))
  }
}

/** The gradient of sum sin(W' c) with cotangents that are anything but homogeneous. */
function lossProgram(shape: Shape, options: Options): Program {
  return trace(
    (w) => {
      const y = ops.weightStandardize([w], options)[0]
      const flat = ops.reshape(y, [shape[0], -1])
      const mixed = ops.matmul(flat, flat, { transB: true })
      const weights = ops.constant(draw(5, elements(shape)), { shape: flat.shape })
      return ops.add(ops.sum(ops.sin(ops.mul(flat, weights))), ops.sum(ops.tanh(mixed)))
    },
    [{ dtype: 'f32', shape }],
  )
}

const gradient = (shape: Shape, options: Options, w: Float64Array): Float64Array =>
  evaluate(gradProgram(lossProgram(shape, options)), [w])[1]

const hessianProduct = (shape: Shape, options: Options, w: Float64Array, v: Float64Array) =>
  evaluate(jvpProgram(gradProgram(lossProgram(shape, options))), [w, v])[3]

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

async function onDevice(
  program: Program,
  inputs: Float64Array[],
  precision: 'f32' | 'f64' = 'f32',
): Promise<Float64Array[]> {
  const executable = compile(device, program, { precision })
  try {
    return (await executable.run(inputs)).map((y) => Float64Array.from(y as Float32Array))
  } finally {
    executable.dispose()
  }
}

describe('the oracles of the specification', () => {
  it.each([0, 1] as const)('1: rows have mean 0 and variance 1, delta %i', async (delta) => {
    const shape = [4, 16, 3, 3]
    const w = draw(1, elements(shape)).map((x) => 0.03 * x + 0.5)
    const options = { delta, epsilon: 0 }
    const check = (y: Float64Array, tolerance: number) => {
      for (const row of rowsOf(y, 4)) {
        const mean = meanOf(row)
        expect(Math.abs(mean)).toBeLessThan(tolerance)
        const squares = dot(
          row.map((x) => x - mean),
          row.map((x) => x - mean),
        )
        expect(Math.abs(squares / (row.length - delta) - 1)).toBeLessThan(tolerance)
      }
    }
    check(standardize(w, shape, options), 1e-12)
    check((await onDevice(bank(shape, options), [w], 'f64'))[0], 1e-12)
    check((await onDevice(bank(shape, options), [w]))[0], 2e-6)
  })

  it('2: scale and offset of a filter do not matter', async () => {
    const shape = [3, 40]
    const w = Float64Array.from(Float32Array.from(draw(2, 120)))
    const moved = w.map((x, i) => [0.5, 4, 1][Math.floor(i / 40)] * x + 0.25)
    const program = bank(shape, { epsilon: 0 })
    const [a] = await onDevice(program, [w])
    const [b] = await onDevice(program, [moved])
    expectClose(a, b, 1e-5)
    expectClose(
      standardize(w, shape, { epsilon: 0 }),
      standardize(moved, shape, { epsilon: 0 }),
      1e-12,
    )
  })

  it.each(PRESETS)('3: a constant filter gives 0 and a finite gradient: %s', async (preset) => {
    const shape = [2, 9]
    const w = new Float64Array(18).fill(0.1)
    const p = draw(3, 18)
    const program = bank(shape, { preset })
    const reverse = vjpProgram(program)
    expect(Array.from(evaluate(program, [w])[0])).toEqual(new Array(18).fill(0))
    const epsilon = {
      paper: 1e-10,
      official: 1e-10,
      'official-bcn': 1e-5,
      bit: 1e-10,
      timm: 1e-6,
      nfnet: 1e-4,
    }
    const expected = rowsOf(p, 2).flatMap((row) =>
      Array.from(row, (x) => (x - meanOf(row)) / Math.sqrt(epsilon[preset])),
    )
    expectClose(evaluate(reverse, [w, p])[1], expected, 1e-9)
    const [y, dw] = await onDevice(reverse, [w, p])
    expect(Array.from(y)).toEqual(new Array(18).fill(0))
    expectClose(dw, expected, 1e-5)
  })

  it.each(['in', 'out', 'max'] as const)('4: sums of the gradient, form %s', (form) => {
    const shape = [3, 2, 3, 3]
    const [I, delta, epsilon] = [18, form === 'max' ? 0 : 1, form === 'max' ? 1e-4 : 1e-2]
    const w = draw(4, elements(shape))
    const p = draw(5, elements(shape))
    const options = { form, epsilon, factor: 1.5 }
    const dw = rowsOf(evaluate(vjpProgram(bank(shape, options)), [w, p])[1], 3)
    for (const [o, row] of rowsOf(w, 3).entries()) {
      const u = row.map((x) => x - meanOf(row))
      const own = rowsOf(p, 3)[o]
      const squares = dot(u, u)
      const q = squares / (I - delta)
      const root = Math.sqrt(q)
      const r = { in: 1 / Math.sqrt(q + epsilon), out: 1 / (root + epsilon), max: squares ** -0.5 }[
        form
      ]
      const nu = { in: (r * r) / (I - delta), out: r / ((I - delta) * root), max: r * r }[form]
      const a = dot(own, u)
      const share = { in: epsilon / (q + epsilon), out: epsilon / (root + epsilon), max: 0 }[form]
      expect(Math.abs(total(dw[o]))).toBeLessThan(1e-10)
      expect(Math.abs(dot(row, dw[o]) - 1.5 * r * a * share)).toBeLessThan(1e-10)
      const mean = meanOf(own)
      const norm =
        (1.5 * r) ** 2 * (dot(own, own) - I * mean * mean - (2 * nu - nu * nu * squares) * a * a)
      expect(Math.abs(dot(dw[o], dw[o]) - norm)).toBeLessThan(1e-10 * Math.max(1, norm))
    }
  })

  it.each(PRESETS)('5: the Hessian sends a constant per filter to 0: %s', (preset) => {
    const shape = [3, 2, 2, 2]
    const w = draw(6, 24)
    const direction = Float64Array.from(w, (_, i) => [1, -2, 0.5][Math.floor(i / 8)])
    const product = hessianProduct(shape, { preset }, w, direction)
    const other = hessianProduct(shape, { preset }, w, draw(7, 24))
    const scale = Math.sqrt(dot(other, other))
    for (const x of product) expect(Math.abs(x)).toBeLessThan(1e-10 * Math.max(1, scale))
  })

  it('6: the Hessian times the weights is minus the gradient, epsilon 0', () => {
    const shape = [2, 3, 2, 2]
    for (const form of ['in', 'out', 'max'] as const) {
      const options = { form, epsilon: 0 }
      const w = draw(8, 24)
      const g = gradient(shape, options, w)
      // Of one filter alone: its own block; of all: the whole.
      expectClose(
        hessianProduct(shape, options, w, w).map((x) => -x),
        g,
        1e-9,
      )
      const first = w.map((x, i) => (i < 12 ? x : 0))
      expectClose(
        hessianProduct(shape, options, w, first)
          .slice(0, 12)
          .map((x) => -x),
        g.slice(0, 12),
        1e-9,
      )
    }
  })

  it('7: tangents and cotangents take the same map, bit for bit', async () => {
    const shape = [5, 37]
    const w = draw(9, 185)
    const p = draw(10, 185)
    for (const precision of ['f32', 'f64'] as const) {
      const [, pushed] = await onDevice(jvpProgram(bank(shape)), [w, p], precision)
      const [, pulled] = await onDevice(vjpProgram(bank(shape)), [w, p], precision)
      expect(Array.from(pushed)).toEqual(Array.from(pulled))
    }
  })

  it('8: the hand case', () => {
    const w = Float64Array.of(1, 2, 3)
    const biased = standardize(w, [1, 3], { delta: 0, epsilon: 0 })
    expectClose(biased, [-1.2247449, 0, 1.2247449], 1e-7)
    expectClose(standardize(w, [1, 3], { delta: 1, epsilon: 0 }), [-1, 0, 1], 1e-12)
  })

  it('9: the form of NF-Nets is the scaled one', () => {
    const shape = [3, 4, 3, 3]
    const w = draw(11, elements(shape))
    const nfnet = standardize(w, shape, { preset: 'nfnet', epsilon: 1e-30 })
    expectClose(nfnet, standardize(w, shape, { preset: 'timm-scaled', epsilon: 1e-30 }), 1e-6)
  })
})

describe('weightStandardize', () => {
  it.each(PRESETS)('computes what preset %s was published with', (preset) => {
    const rule = {
      paper: [0, 'out', 1e-5],
      official: [1, 'out', 1e-5],
      'official-bcn': [1, 'in', 1e-5],
      bit: [0, 'in', 1e-10],
      timm: [0, 'in', 1e-6],
      nfnet: [0, 'max', 1e-4],
    }[preset] as [number, string, number]
    const [delta, form, epsilon] = rule
    const w = draw(12, 27).map((x) => 0.01 * x)
    const u = w.map((x) => x - meanOf(w))
    const variance = dot(u, u) / (27 - delta)
    const sigma =
      form === 'in'
        ? Math.sqrt(variance + epsilon)
        : form === 'out'
          ? Math.sqrt(variance) + epsilon
          : Math.sqrt(Math.max(27 * variance, epsilon))
    expectClose(
      standardize(w, [1, 27], { preset }),
      u.map((x) => x / sigma),
      1e-12,
    )
  })

  it('gives every bank what it would have alone', async () => {
    const shapes = [
      [3, 4],
      [2, 3, 5, 1],
      [1, 7],
      [64, 3, 7, 7],
    ]
    const inputs = shapes.map((shape, i) => draw(20 + i, elements(shape)))
    const together = trace((...w) => ops.weightStandardize(w, { fanIn: true }), shapes)
    const results = await onDevice(together, inputs)
    for (const [i, shape] of shapes.entries()) {
      const [alone] = await onDevice(bank(shape, { fanIn: true }), [inputs[i]])
      expect(Array.from(results[i])).toEqual(Array.from(alone))
    }
  })

  it('is one operation forward, one backward and one for a Hessian product', () => {
    const shapes = [
      [3, 4],
      [2, 3, 5, 1],
    ]
    const loss = trace((...w) => {
      const [a, b] = ops.weightStandardize(w)
      return ops.add(ops.sum(ops.sin(a)), ops.sum(ops.exp(b)))
    }, shapes)
    const names = jvpProgram(gradProgram(loss)).operations.map(({ name }) => name)
    const count = (name: string): number => names.filter((n) => n === name).length
    expect(count('weight_standardize')).toBe(1)
    expect(count('weight_standardize_jvp')).toBe(2)
    expect(count('weight_standardize_vjp_jvp')).toBe(1)
  })

  it('only centres or only scales if asked to', () => {
    const w = Float64Array.of(1, 2, 6)
    expectClose(standardize(w, [1, 3], { scale: false }), [-2, -1, 3], 1e-12)
    const rms = Math.sqrt(41 / 3)
    expectClose(
      standardize(w, [1, 3], { center: false, delta: 0, epsilon: 0 }),
      [1 / rms, 2 / rms, 6 / rms],
      1e-12,
    )
  })

  it('refuses what it cannot standardise', () => {
    const refused = (body: () => unknown): string => {
      try {
        body()
      } catch (error) {
        if (error instanceof LosscapeError) return `${error.code}: ${error.message}`
        throw error
      }
      return 'accepted'
    }
    expect(refused(() => bank([8, 1, 1, 1]))).toMatch(/ERR_SHAPE.*one weight.*no variance/)
    expect(refused(() => bank([8]))).toMatch(/ERR_SHAPE.*\[O, \.\.\]/)
    expect(
      refused(() => trace((w) => ops.weightStandardize([w])[0], [{ dtype: 'i32', shape: [2, 3] }])),
    ).toMatch(/ERR_DTYPE/)
    expect(refused(() => trace(() => ops.weightStandardize([])[0], []))).toMatch(/ERR_ARGUMENT/)
    const nothing = null as unknown as object
    expect(refused(() => trace((w) => ops.weightStandardize([w], nothing)[0], [[2, 3]]))).toMatch(
      /ERR_ARGUMENT.*null/,
    )
    const wrong: [object, RegExp][] = [
      [{ epsilon: -1 }, /ERR_ARGUMENT.*epsilon/],
      [{ epsilon: Number.NaN }, /ERR_ARGUMENT.*epsilon/],
      [{ form: 'inside' }, /ERR_ARGUMENT.*form/],
      [{ delta: 2 }, /ERR_ARGUMENT.*delta/],
      [{ form: 'max', delta: 1 }, /ERR_ARGUMENT.*delta/],
      [{ preset: 'toString' }, /ERR_ARGUMENT.*preset/],
      [{ eps: 1 }, /ERR_ARGUMENT.*no option 'eps'/],
      [{ center: 1 }, /ERR_ARGUMENT.*center/],
      [{ factor: Infinity }, /ERR_ARGUMENT.*factor/],
      [{ gain: [] }, /ERR_ARGUMENT.*gain/],
    ]
    for (const [options, message] of wrong) {
      expect(refused(() => bank([2, 3], options as Options))).toMatch(message)
    }
    expect(
      refused(() =>
        trace(
          (w, g) => ops.weightStandardize([w], { gain: [g] })[0],
          [
            { dtype: 'f32', shape: [2, 3] },
            { dtype: 'f32', shape: [3] },
          ],
        ),
      ),
    ).toMatch(/ERR_SHAPE.*gain 0.*2 numbers/)
  })

  it.each([
    ['tangents', [false, true]],
    ['filters', [true, false]],
    ['both', [true, true]],
  ] as const)('maps its derivatives over %s like a loop', async (_, batched) => {
    const shape = [2, 3, 2]
    const single = jvpProgram(gradProgram(lossProgram(shape, {})))
    const mapped = simplify(vmapProgram(single, batched, 3))
    verify(mapped)
    const w = draw(30, 36)
    const v = draw(31, 36)
    const inputs = [w, v].map((x, i) => (batched[i] ? x : x.slice(0, 12)))
    const expected = [0, 1, 2].flatMap((r) => {
      const own = [w, v].map((x, i) => (batched[i] ? x.slice(12 * r, 12 * r + 12) : x.slice(0, 12)))
      return Array.from(evaluate(single, own)[3])
    })
    expectClose(evaluate(mapped, inputs)[3], expected, 1e-12)
    expectClose((await onDevice(mapped, inputs, 'f64'))[3], expected, 1e-11)
    const ours = mapped.operations.filter(({ name }) => name.startsWith('weight_standardize'))
    expect(ours.length).toBe(4)
  })

  it('says that third derivatives do not exist', () => {
    const twice = jvpProgram(gradProgram(lossProgram([2, 3], {})))
    expect(() => jvpProgram(twice)).toThrow(/weight_standardize_vjp_jvp.*second order/)
    expect(() => vjpProgram(twice)).toThrow(/weight_standardize_vjp_jvp.*second order/)
  })
})
