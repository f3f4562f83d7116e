import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { linePath } from '../../lib/analysis/line.js'
import { lossSurface } from '../../lib/analysis/surface.js'
import { classStructure } from '../../lib/curvature/class-structure.js'
import { denseMatrix } from '../../lib/curvature/dense.js'
import { gaussNewtonDiagonal } from '../../lib/curvature/gauss-newton-diagonal.js'
import {
  type CurvatureOptions,
  gaussNewton,
  hessian,
  networkOperator,
  remainder,
} from '../../lib/curvature/network.js'
import { fromArrays } from '../../lib/data/arrays.js'
import { type Device, open } from '../../lib/device/device.js'
import { defineModel, type Model, type ModelDefinition } from '../../lib/nn/model.js'
import * as ops from '../../lib/ops/index.js'
import { crossEntropy, mean } from '../../lib/ops/index.js'
import { evaluate, gradProgram, trace } from '../../lib/program/index.js'
import { normals } from '../../lib/random/index.js'
import { KINDS } from './cases.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu', threads: 2 })
})
afterAll(() => device.dispose())

const [D, H, C, N] = [3, 4, 3, 12]
const STATE = Float64Array.of(0.3, -0.2, 0.1, 0.5)

const DEFINITION: ModelDefinition = {
  name: 'centred hidden layer',
  input: [D],
  output: [C],
  parameters: [
    { name: 'in', shape: [H, D], init: { kind: 'zeros' } },
    { name: 'out', shape: [C, H], init: { kind: 'zeros' } },
  ],
  state: [{ name: 'mean', shape: [H], init: { kind: 'zeros' } }],
  couplesSamples: true,
  // z = V tanh(W x - m), with m the mean of W x over the batch, or the state's.
  apply({ in: w, out }, x, { state, statistics, update }) {
    const h = ops.matmul(x, w, { transB: true })
    const own = ops.mean(h, [0])
    update('mean', own)
    const m = statistics === 'batch' ? own : state.mean
    return ops.matmul(ops.tanh(ops.sub(h, m)), out, { transB: true })
  },
}
const MODEL = defineModel(DEFINITION)

/** The same function of frozen statistics, as constants of a model without state. */
const BAKED = defineModel({
  ...DEFINITION,
  ...{ name: 'baked', state: [], couplesSamples: false },
  apply(parameters, x, context) {
    const constant = ops.constant([...STATE], { dtype: x.dtype, shape: [H] })
    const fixed = { ...context, state: { mean: constant }, statistics: 'frozen' as const }
    return DEFINITION.apply(parameters, x, { ...fixed, update: () => {} })
  },
})

const SET = fromArrays(
  normals(51, 0, 0, N * D),
  Int32Array.from({ length: N }, (_, i) => (i * 7 + (i >> 2)) % C),
  { shape: [D], classes: C },
)
const PARAMS = normals(52, 0, 0, MODEL.size).map((x) => 0.7 * x)
const FROZEN = { statistics: 'frozen', state: STATE, precision: 'f64' } as const

/** ∇ of the mean over batches of consecutive samples of their mean losses, in float64. */
function gradientOf(model: Model, batch: number, statistics: 'batch' | 'frozen') {
  const program = gradProgram(
    trace(
      (...args) => {
        const [x, y] = args.slice(-2)
        const options = { training: false, key: null, statistics }
        return mean(crossEntropy(model.apply(args.slice(0, -2), x, options), y))
      },
      [...model.tensorTypes, { dtype: 'f32', shape: [batch, D] }, { dtype: 'i32', shape: [batch] }],
    ),
    [true, true, false, false, false],
  )
  return (theta: Float64Array): Float64Array => {
    const total = new Float64Array(theta.length)
    for (let at = 0; at < N; at += batch) {
      const [, ...blocks] = evaluate(program, [
        ...model.layout.names.map((name) => model.layout.view(theta, name)),
        STATE,
        SET.inputs.subarray(at * D, (at + batch) * D),
        SET.targets.subarray(at, at + batch),
      ])
      const g = blocks.flatMap((block) => [...block])
      for (let i = 0; i < total.length; i++) total[i] += (g[i] * batch) / N
    }
    return total
  }
}

/** Central differences of the gradient; error about 1e-9. */
function differences(gradient: (theta: Float64Array) => Float64Array): Float64Array {
  const [n, h] = [PARAMS.length, 1e-5]
  const matrix = new Float64Array(n * n)
  for (let i = 0; i < n; i++) {
    const at = (x: number): Float64Array =>
      gradient(PARAMS.map((value, k) => (k === i ? value + x : value)))
    const [up, down] = [at(h), at(-h)]
    for (let j = 0; j < n; j++) matrix[i * n + j] = (up[j] - down[j]) / (2 * h)
  }
  return matrix
}

async function dense(
  make: typeof hessian,
  options: CurvatureOptions,
  model = MODEL,
): Promise<Float64Array> {
  using operator = make(device, model, PARAMS, SET, options)
  return (await denseMatrix(operator)).matrix
}

function farthest(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length)
  expect(a.length).toBeGreaterThan(0)
  return Array.from(a).reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0)
}

describe('curvature under frozen statistics', () => {
  it('is the Hessian of the loss with the given state', async () => {
    const expected = differences(gradientOf(MODEL, N, 'frozen'))
    for (const batch of [N, 5, 1]) {
      const found = await dense(hessian, { ...FROZEN, batch })
      expect(farthest(found, expected)).toBeLessThan(1e-8)
    }
    // And another one without it.
    const initial = await dense(hessian, { statistics: 'frozen', precision: 'f64' })
    expect(farthest(initial, expected)).toBeGreaterThan(1e-2)
  })

  it.each(KINDS)('%s is that of a model with the state as constants', async (kind) => {
    const v = normals(53, 0, 0, MODEL.size)
    for (const batch of [N, 5]) {
      const options = { batch, precision: 'f64' } as const
      using own = networkOperator(kind, device, MODEL, PARAMS, SET, { ...FROZEN, ...options })
      using baked = networkOperator(kind, device, BAKED, PARAMS, SET, options)
      expect(farthest(await own.matvec(v), await baked.matvec(v))).toBeLessThan(1e-13)
      expect(own.description?.statistics).toBe('frozen')
    }
  })

  it('copies the state when it is made', async () => {
    const state = Float64Array.from(STATE)
    using operator = hessian(device, MODEL, PARAMS, SET, { ...FROZEN, state })
    state.fill(9)
    const v = normals(53, 0, 0, MODEL.size)
    using fresh = hessian(device, MODEL, PARAMS, SET, FROZEN)
    expect(await operator.matvec(v)).toEqual(await fresh.matvec(v))
  })

  it('holds for blocks of parameters, several vectors, and diagonals', async () => {
    const whole = await dense(gaussNewton, FROZEN)
    const n = MODEL.size
    const block = MODEL.layout.entry('out')
    using operator = gaussNewton(device, MODEL, PARAMS, SET, { ...FROZEN, params: 'out' })
    expect(operator.size).toBe(block.size)
    const { matrix: part } = await denseMatrix(operator)
    for (let i = 0; i < block.size; i++) {
      const row = (block.offset + i) * n + block.offset
      const expected = whole.subarray(row, row + block.size)
      expect(farthest(part.subarray(i * block.size, (i + 1) * block.size), expected)).toBeLessThan(
        1e-13,
      )
    }
    const diagonal = await gaussNewtonDiagonal(device, MODEL, PARAMS, SET, FROZEN)
    expect(
      farthest(
        diagonal,
        diagonal.map((_, i) => whole[i * (n + 1)]),
      ),
    ).toBeLessThan(1e-13)
    const { traces } = await classStructure(device, MODEL, PARAMS, SET, FROZEN)
    expect(traces.g).toBeCloseTo(
      diagonal.reduce((a, b) => a + b),
      12,
    )
  })

  it('is what lines and surfaces of the loss see', async () => {
    const other = PARAMS.map((x) => 0.9 * x)
    const plain = { points: 3, precision: 'f64' } as const
    const line = await linePath(device, MODEL, PARAMS, other, SET, { ...FROZEN, ...plain })
    const expected = await linePath(device, BAKED, PARAMS, other, SET, plain)
    expect(farthest(line.loss, expected.loss)).toBeLessThan(1e-14)
    const directions = [PARAMS, other.map((x, i) => x * (i % 3))] as const
    const plane = { center: PARAMS, directions }
    const options = { grid: 3, halfWidths: [0.1, 0.1], precision: 'f64' } as const
    const surface = await lossSurface(device, MODEL, plane, SET, { ...FROZEN, ...options })
    const flat = await lossSurface(device, BAKED, plane, SET, options)
    expect(farthest(surface.loss, flat.loss)).toBeLessThan(1e-14)
  })
})

describe('curvature under the statistics of batches', () => {
  const batched = { statistics: 'batch', precision: 'f64' } as const

  it.each([undefined, N, 4, 3])('is that of the mean over batches of %s', async (batch) => {
    const expected = differences(gradientOf(MODEL, batch ?? N, 'batch'))
    const h = await dense(hessian, { ...batched, batch, state: STATE })
    expect(farthest(h, expected)).toBeLessThan(1e-8)
    // The state has no part in it.
    expect(farthest(await dense(hessian, { ...batched, batch }), h)).toBe(0)
    const g = await dense(gaussNewton, { ...batched, batch })
    const f = await dense(remainder, { ...batched, batch })
    expect(
      farthest(
        g.map((x, i) => x + f[i]),
        h,
      ),
    ).toBeLessThan(1e-13)
    expect(
      farthest(
        f,
        f.map(() => 0),
      ),
    ).toBeGreaterThan(1e-3)
  })

  it('is what a line sees, whatever the state', async () => {
    const options = { ...batched, points: 2, batch: 4 }
    const near = PARAMS.map((x) => (1 - 1e-4) * x)
    const line = await linePath(device, MODEL, PARAMS, near, SET, options)
    const gradient = gradientOf(MODEL, 4, 'batch')(PARAMS)
    const slope = gradient.reduce((sum, g, i) => sum + g * (near[i] - PARAMS[i]), 0)
    expect((line.loss[1] - line.loss[0]) / slope).toBeCloseTo(1, 2)
    const other = await linePath(device, MODEL, PARAMS, near, SET, { ...options, state: STATE })
    expect(other.loss).toEqual(line.loss)
  })

  it('refuses what it would do wrongly', async () => {
    const refused = (
      options: CurvatureOptions & { kind?: 'empirical-fisher' },
      message: RegExp,
      code = 'ERR_ARGUMENT',
    ): void => {
      const { kind = 'hessian', ...rest } = options
      expect(() => networkOperator(kind, device, MODEL, PARAMS, SET, rest)).toThrow(
        expect.objectContaining({ code, message: expect.stringMatching(message) }),
      )
    }
    refused({}, /Choose statistics: model 'centred hidden layer' normalises over the samples/)
    refused({ statistics: 'running' as never }, /Choose statistics.*got running/)
    refused({ ...batched, batch: 5 }, /batch must divide the 12 samples .*got 5/)
    refused({ ...batched, batch: 24 }, /batch must divide/)
    refused({ ...batched, kind: 'empirical-fisher' }, /a sum over single samples/)
    refused({ ...FROZEN, state: [1] }, /state vector of 4 elements, got 1/, 'ERR_SHAPE')
    refused({ ...FROZEN, state: [1, Number.NaN, 0, 0] }, /State 'mean' has NaN/, 'ERR_NOT_FINITE')
    refused({ ...FROZEN, state: 3 as never }, /state to be an array of numbers/)
    expect(() => hessian(device, BAKED, PARAMS, SET, batched)).toThrow(/has no batch statistics/)
    const asynchronous = [
      gaussNewtonDiagonal(device, MODEL, PARAMS, SET, batched),
      classStructure(device, MODEL, PARAMS, SET, batched),
    ]
    for (const promise of asynchronous) await expect(promise).rejects.toThrow(/statistics 'frozen'/)
    await expect(linePath(device, MODEL, PARAMS, PARAMS, SET)).rejects.toThrow(/Choose statistics/)
    // A copy that is queued holds its buffer until its turn.
    await vi.waitFor(() => expect(device.memory().live.buffer?.count ?? 0).toBe(0))
  })
})
