import { describe, expect, it } from 'vitest'
import { curvatureProgram, gradientProgram } from '../../lib/curvature/programs.js'
import { resolveLoss } from '../../lib/nn/loss.js'
import { mlp } from '../../lib/nn/mlp.js'
import * as ops from '../../lib/ops/index.js'
import {
  evaluate,
  linearizeProgram,
  lower,
  type Program,
  tapNames,
  trace,
  verify,
  vmapProgram,
  withTaps,
} from '../../lib/program/index.js'
import { jvpProgram } from '../../lib/program/jvp.js'
import { elements } from '../../lib/program/shape.js'
import { gradProgram } from '../../lib/program/vjp.js'
import { uniforms } from '../../lib/random/index.js'
import { data } from './support.js'

const count = (program: Program, name: string): number =>
  program.operations.filter((op) => op.name === name).length

describe('linearize', () => {
  const f = trace(
    (x, w) => ops.sum(ops.gelu(ops.matmul(ops.tanh(ops.matmul(x, w)), w, { transB: true })), [1]),
    [
      [4, 3],
      [3, 5],
    ],
  )
  const x = uniforms(1, 0, 0, 12)
  const w = uniforms(1, 1, 0, 15)
  const dw = uniforms(1, 2, 0, 15)

  it('gives the tangent from the kept tensors', () => {
    const split = linearizeProgram(f, [false, true])
    verify(split.primal)
    verify(split.linear)
    const kept = evaluate(split.primal, [x, w])
    const inputs = split.inputs.map(({ kind, index }) =>
      kind === 'kept' ? kept[index] : kind === 'input' ? [x, w][index] : dw,
    )
    const [tangent] = evaluate(split.linear, inputs)
    const [, expected] = evaluate(jvpProgram(f, [false, true]), [x, w, dw])
    expect(Math.max(...tangent.map((v, i) => Math.abs(v - expected[i])))).toBeLessThan(1e-13)
  })

  it('does not repeat primal products in the linear part', () => {
    const split = linearizeProgram(f, [false, true])
    // tangent of x w, and both halves of the second product.
    expect(count(split.linear, 'matmul')).toBe(3)
    expect(count(split.primal, 'matmul')).toBe(2)
  })
})

describe('the linearised Hessian product of an MLP', () => {
  const model = mlp({ input: 12, hidden: [8, 8], classes: 3, activation: 'relu' })
  const setting = {
    model,
    loss: resolveLoss('cross-entropy'),
    set: data(6, 12, 3),
    batch: 6,
    selected: model.layout.names.map(() => true),
  }

  it('has the products of specification 3.2 and no others', () => {
    const { primal, linear, kept } = curvatureProgram('hessian', setting)
    // Forward tangent 1 + 2 + 2; backward 1 + 2 + 2 for weights, 2 + 2 for activations; less the
    // input's cotangent. Nothing else of the batch's size is kept than activations and residuals.
    expect(count(linear, 'matmul')).toBe(5 + 5 + 4)
    expect(count(primal, 'matmul')).toBe(3 + 1)
    expect(kept.map((value) => value.shape.join('x')).sort()).toEqual(
      ['6', '6x3', '6x3', '6x8', '6x8', '6x8'].sort(),
    )
  })

  it('makes one operation of pairs of small products, and accumulates large ones in place', () => {
    const lowered = lower(curvatureProgram('hessian', setting).linear)
    expect(count(lowered, 'matmul_pair')).toBe(6)
    const wide = mlp({ input: 40, hidden: [40, 40], classes: 40, activation: 'relu' })
    const large = lower(
      curvatureProgram('hessian', { ...setting, model: wide, set: data(6, 40, 40) }).linear,
    )
    const accumulating = large.operations.filter(
      (op) => op.name === 'matmul' && op.inputs.length === 3,
    )
    expect(accumulating.length).toBe(6)
    expect(count(lowered, 'fused')).toBeLessThanOrEqual(6)
  })

  it('merges ten tangents into as many operations as one', () => {
    const split = curvatureProgram('hessian', setting)
    const batched = split.inputs.map(({ kind }) => kind === 'tangent')
    const ten = vmapProgram(split.linear, batched, 10)
    verify(ten)
    for (const name of ['matmul', 'matmul_pair', 'cross_entropy_vjp_jvp', 'reduce']) {
      expect(count(lower(ten), name)).toBe(count(lower(split.linear), name))
    }
  })

  it.each(['hessian', 'gauss-newton', 'remainder'] as const)(
    '%s: linear part is symmetric',
    (kind) => {
      const split = curvatureProgram(kind, {
        ...setting,
        model: smooth,
        selected: [true, true, true, true],
      })
      const theta = smooth.layout.entries.map((e, i) =>
        uniforms(3, i, 0, e.size).map((u) => u - 0.5),
      )
      const batch = [setting.set.inputs, setting.set.targets, new Float32Array(6).fill(1)]
      const primal = [...theta, ...batch]
      const kept = evaluate(split.primal, primal)
      const apply = (v: Float64Array[]): Float64Array[] =>
        evaluate(
          split.linear,
          split.inputs.map(({ kind: from, index }) =>
            from === 'kept' ? kept[index] : from === 'input' ? primal[index] : v[index],
          ),
        )
      const u = smooth.layout.entries.map((e, i) => uniforms(4, i, 0, e.size))
      const v = smooth.layout.entries.map((e, i) => uniforms(5, i, 0, e.size))
      const dot = (a: Float64Array[], b: Float64Array[]) =>
        a.reduce((s, x, i) => s + x.reduce((t, y, k) => t + y * b[i][k], 0), 0)
      expect(dot(u, apply(v))).toBeCloseTo(dot(v, apply(u)), 10)
      if (kind === 'hessian') {
        // Against central differences of the gradient: specification oracle 14.
        const gradient = gradientProgram({
          ...setting,
          model: smooth,
          selected: [true, true, true, true],
        })
        const h = 1e-5
        const at = (sign: number) =>
          evaluate(gradient, [
            ...theta.map((t, i) => t.map((x, k) => x + sign * h * v[i][k])),
            ...batch,
          ]).slice(1)
        const [plus, minus] = [at(1), at(-1)]
        const exact = apply(v)
        const error = exact.map((e, i) => e.map((x, k) => x - (plus[i][k] - minus[i][k]) / (2 * h)))
        expect(Math.sqrt(dot(error, error) / dot(exact, exact))).toBeLessThan(1e-7)
      }
    },
  )

  it('splits the Hessian: H v = G v + F v', () => {
    const theta = smooth.layout.entries.map((e, i) => uniforms(3, i, 0, e.size).map((u) => u - 0.5))
    const batch = [setting.set.inputs, setting.set.targets, new Float32Array(6).fill(1)]
    const v = smooth.layout.entries.map((e, i) => uniforms(5, i, 0, e.size))
    const [h, g, r] = (['hessian', 'gauss-newton', 'remainder'] as const).map((kind) => {
      const split = curvatureProgram(kind, {
        ...setting,
        model: smooth,
        selected: [true, true, true, true],
      })
      const kept = evaluate(split.primal, [...theta, ...batch])
      return evaluate(
        split.linear,
        split.inputs.map(({ kind: from, index }) =>
          from === 'kept' ? kept[index] : from === 'input' ? [...theta, ...batch][index] : v[index],
        ),
      )
    })
    for (const [i, block] of h.entries()) {
      for (const [k, value] of block.entries()) expect(g[i][k] + r[i][k]).toBeCloseTo(value, 11)
    }
  })
})

const smooth = mlp({ input: 12, hidden: [5], classes: 3, activation: 'tanh' })

describe('taps', () => {
  const f = trace((x) => ops.sum(ops.exp(ops.tap('hidden', ops.mul(x, 2)))), [[3]])

  it('make values and cotangents outputs', () => {
    const gradient = gradProgram(f)
    expect(tapNames(gradient)).toEqual(['hidden', 'hidden:cotangent'])
    const [, , value, cotangent] = evaluate(withTaps(gradient, ['hidden', 'hidden:cotangent']), [
      [0, 1, 2],
    ])
    expect(Array.from(value)).toEqual([0, 2, 4])
    expect(cotangent[2]).toBeCloseTo(Math.exp(4), 12)
    expect(elements(f.inputs[0].shape)).toBe(3)
  })

  it('name the known taps when asked for another', () => {
    expect(() => withTaps(f, ['absent'])).toThrow(/no tap 'absent'.*hidden/)
  })
})
