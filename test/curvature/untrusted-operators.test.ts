import { describe, expect, it } from 'vitest'
import {
  data,
  denseOperator,
  diagonal,
  exactSpectrum,
  frobenius,
  hutchinsonTrace,
  type LinearOperator,
  lanczos,
  linePath,
  models,
  open,
  operatorFrom,
  operatorTrace,
} from '../../lib/index.js'

const device = await open({ threads: 1 })
const code = (name: string) => expect.objectContaining({ code: name })

describe('operators that cannot be trusted', () => {
  const nan = denseOperator(device, [Number.NaN, 0, 0, 1])
  const short: LinearOperator = {
    size: 40,
    dtype: 'f64',
    matvec: async () => new Float64Array(38),
    matmat: async () => new Float64Array(3),
  }
  const methods: [string, (operator: LinearOperator) => Promise<unknown>][] = [
    ['operatorTrace', (A) => operatorTrace(A)],
    ['exact operatorTrace', (A) => operatorTrace(A, { method: 'exact' })],
    ['hutchinsonTrace', (A) => hutchinsonTrace(A)],
    ['frobenius', (A) => frobenius(A)],
    ['diagonal', (A) => diagonal(A, { method: 'hutchinson' })],
    ['exactSpectrum', (A) => exactSpectrum(A)],
    ['lanczos', (A) => lanczos(A, { k: 1 })],
  ]

  it.each(methods)('%s refuses products with NaN', async (_, run) => {
    await expect(run(nan)).rejects.toEqual(code('ERR_OPERATOR'))
  })

  it.each(methods)('%s refuses products of a wrong length', async (_, run) => {
    await expect(run(short)).rejects.toEqual(code('ERR_OPERATOR'))
  })

  it.each(['xdiag', 'diag++'] as const)('%s refuses what is not symmetric', async (method) => {
    const shift = operatorFrom((v) => v.map((_, i) => v[(i + 1) % v.length]), 30)
    const run = diagonal(shift, { method, products: 10 })
    await expect(run).rejects.toEqual(code('ERR_OPERATOR'))
    await expect(diagonal(shift, { method, products: 10, check: false })).resolves.toBeDefined()
  })
})

it('a line through infinite losses has no barrier of zero', async () => {
  const inputs = [
    [1, 2],
    [3, 4],
  ]
  const set = data.fromArrays(inputs, inputs)
  const model = models.mlp({ input: 2, hidden: [3], classes: 2 })
  const far = model.init(2).map((x) => x * 1e12)
  const line = linePath(device, model, model.init(1), far, set, { points: 5 })
  await expect(line).rejects.toEqual(code('ERR_NOT_FINITE'))
})
