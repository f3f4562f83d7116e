import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { gaussNewtonDiagonal } from '../../lib/curvature/gauss-newton-diagonal.js'
import { rootSquaresProgram } from '../../lib/curvature/root-programs.js'
import { type Device, open } from '../../lib/device/device.js'
import { resolveLoss } from '../../lib/nn/loss.js'
import { defineModel } from '../../lib/nn/model.js'
import * as ops from '../../lib/ops/index.js'
import { normals } from '../../lib/random/index.js'
import { MODEL_CASES, type ModelCase } from './cases.js'
import { denseOracle } from './dense.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

const tanh = MODEL_CASES[1]
const elementCount = ({ shape }: { shape: readonly number[] }) => shape.reduce((n, d) => n * d, 1)

/** The same matrix twice: its gradient is a sum of two products, whose squares are not enough. */
const shared: ModelCase = {
  ...tanh,
  name: 'weights used twice',
  model: defineModel({
    name: 'shared',
    input: [4],
    output: [3],
    parameters: [
      { name: 'w', shape: [4, 4], init: { kind: 'ones' } },
      { name: 'o', shape: [3, 4], init: { kind: 'ones' } },
    ],
    apply: ({ w, o }, x) => {
      const h = ops.tanh(ops.matmul(x, w, { transB: true }))
      return ops.matmul(ops.tanh(ops.matmul(h, w, { transB: true })), o, { transB: true })
    },
  }),
  params: normals(33, 0, 0, 28),
}

describe.each([...MODEL_CASES, shared])('exact diagonal of G: $name', (test) => {
  it('is the diagonal of the dense matrix, in chunks of any size', async () => {
    const { model, set, params, loss } = test
    const n = model.size
    const matrix = denseOracle('gauss-newton', test)
    const expected = Array.from({ length: n }, (_, i) => matrix[i * n + i])
    const size = Math.max(...expected)
    for (const precision of ['f64', 'f32'] as const) {
      for (const batch of [...test.batches, 1]) {
        const diagonal = await gaussNewtonDiagonal(device, model, params, set, {
          loss,
          precision,
          batch,
        })
        const error = diagonal.reduce((m, x, i) => Math.max(m, Math.abs(x - expected[i])), 0)
        expect(error).toBeLessThan((precision === 'f64' ? 1e-13 : 1e-5) * size)
      }
    }
  })
})

it('needs no gradients of samples unless a parameter is used twice', () => {
  for (const test of [...MODEL_CASES.slice(0, 6), shared]) {
    const { model, set } = test
    const setting = {
      model,
      set,
      loss: resolveLoss(test.loss),
      batch: set.size,
      selected: model.layout.names.map(() => true),
    }
    const { expanded, program } = rootSquaresProgram(setting, 'test')
    expect(expanded).toBe(test === shared)
    const most = Math.max(...program.operations.flatMap((op) => op.outputs).map(elementCount))
    if (!expanded) expect(most).toBeLessThan(set.size * model.size)
  }
})

it('takes a block and a subset, reports progress, stops, and refuses what has no diagonal', async () => {
  const { model, set, params } = tanh
  const n = model.size
  const matrix = denseOracle('gauss-newton', tanh, { samples: [3, 4, 5, 6] })
  const { offset, size } = model.layout.entry('layers.1.weight')
  const seen: number[] = []
  const diagonal = await gaussNewtonDiagonal(device, model, params, set, {
    precision: 'f64',
    params: ['layers.1.weight'],
    samples: { from: 3, to: 7 },
    onProgress: (done, total) => seen.push(done / total),
  })
  expect(seen).toEqual([1 / 3, 2 / 3, 1])
  expect(diagonal.length).toBe(size)
  for (let i = 0; i < size; i++) {
    expect(diagonal[i]).toBeCloseTo(matrix[(offset + i) * n + offset + i], 13)
  }
  await expect(
    gaussNewtonDiagonal(device, model, params, set, { signal: AbortSignal.abort() }),
  ).rejects.toMatchObject({ code: 'ERR_ABORTED' })
  const binary = MODEL_CASES.find((c) => c.name === 'binary logistic, softplus') as ModelCase
  await expect(
    gaussNewtonDiagonal(device, binary.model, binary.params, binary.set, { loss: 'hinge' }),
  ).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
  await expect(
    gaussNewtonDiagonal(device, model, params, set, { probes: 3 } as object),
  ).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
})
