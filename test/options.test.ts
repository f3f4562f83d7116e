import { execFile } from 'node:child_process'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  compile,
  type Device,
  data,
  evaluate,
  hessian,
  LosscapeError,
  lanczos,
  models,
  open,
  operatorFrom,
  ops,
  slq,
  type Tensor,
  trace,
  train,
} from '../lib/index.js'

let device: Device
beforeAll(async () => {
  device = await open({ threads: 1 })
})
afterAll(() => device.dispose())

const set = data.blobs({ n: 60, dim: 3, classes: 2 })
const model = models.mlp({ input: 3, hidden: [4], classes: 2 })

describe('misspelt options', () => {
  it.each([
    ['open', () => open({ thread: 2 } as never)],
    ['mlp', async () => models.mlp({ input: 3, hiden: [4], classes: 2 } as never)],
    [
      'train',
      () => train(device, model, set, { optimizer: { kind: 'sgd', lr: 1 }, epoch: 3 } as never),
    ],
    ['hessian', async () => hessian(device, model, model.init(0), set, { param: 'x' } as never)],
    [
      'lanczos',
      () =>
        lanczos(
          operatorFrom((v) => v, 4),
          { K: 2 } as never,
        ),
    ],
    [
      'slq',
      () =>
        slq(
          operatorFrom((v) => v, 4),
          { step: 2 } as never,
        ),
    ],
  ])('%s names the option', async (_, call) => {
    await expect(call()).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringContaining('has no option'),
    })
  })

  it('and values out of range are refused', async () => {
    const operator = operatorFrom((v) => v, 4)
    for (const options of [{ tol: -1 }, { tol: Number.NaN }, { checkEvery: 0 }, { seed: -1 }]) {
      const run = lanczos(operator, { k: 1, ...options })
      await expect(run).rejects.toBeInstanceOf(LosscapeError)
    }
    const odd = models.define({
      name: 'odd',
      input: [1],
      output: [1],
      parameters: [{ name: 'w', shape: [1, 1], init: { kind: 'normal' } as never }],
      apply: ({ w }, x) => ops.matmul(x, w),
    })
    expect(() => odd.init(0)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }))
  })
})

describe('losses and targets of one’s own', () => {
  const values = data.fromArrays(Float32Array.of(1, 2, 3, 4), Float32Array.of(2, 4, 6, 8), {
    shape: [1],
  })
  const line = models.mlp({ input: 1, hidden: [], classes: 1, bias: false })

  it('a loss must give one number per sample', async () => {
    const square = (keep: boolean) => ({
      name: 'square',
      targets: 'values' as const,
      perSample: (z: Tensor, y: Tensor) => {
        const e = ops.sub(z, y)
        return keep ? ops.mul(e, e) : ops.sum(ops.mul(e, e), [1])
      },
    })
    const { loss } = await evaluate(device, line, [1], values, { loss: square(false) })
    expect(loss).toBeCloseTo((1 + 4 + 9 + 16) / 4, 5)
    await expect(evaluate(device, line, [1], values, { loss: square(true) })).rejects.toMatchObject(
      { code: 'ERR_SHAPE' },
    )
  })

  it('single real targets fit a model of one output', async () => {
    const { loss } = await evaluate(device, line, [1], values)
    expect(loss).toBeCloseTo(7.5, 5)
    using h = hessian(device, line, [1], values)
    expect((await h.matvec([1]))[0]).toBeCloseTo(2 * 7.5, 4)
  })

  it('integer inputs are numbers, not bits', async () => {
    const integers = data.fromArrays(Int32Array.of(1, 2, 3, 4), Float32Array.of(2, 4, 6, 8), {
      shape: [1],
    })
    const { loss } = await evaluate(device, line, [1], integers)
    expect(loss).toBeCloseTo(7.5, 5)
    expect(() => data.fromArrays(BigInt64Array.of(1n) as never, Int32Array.of(0))).toThrow(
      expect.objectContaining({ code: 'ERR_DTYPE' }),
    )
  })

  it('numbers beyond f32 are refused', async () => {
    using h = hessian(device, line, [1], values)
    await expect(h.matvec([1e300])).rejects.toMatchObject({ code: 'ERR_NOT_FINITE' })
    expect(() => hessian(device, line, [1e300], values)).toThrow(
      expect.objectContaining({ code: 'ERR_NOT_FINITE' }),
    )
  })
})

describe('the end of a process', () => {
  it.each(['process.exit(3)', "throw new Error('boom')"])(
    '%s with a job in flight',
    async (end) => {
      const script = `
      import { open, data, models, train } from '${new URL('../dist/index.js', import.meta.url)}'
      const device = await open({ threads: 2 })
      const model = models.mlp({ input: 10, hidden: [16], classes: 5 })
      train(device, model, data.blobs({ n: 500 }), {
        optimizer: { kind: 'sgd', lr: 0.1 }, epochs: 20000,
      }).catch(() => {})
      setTimeout(() => { ${end} }, 60)`
      for (let i = 0; i < 4; i++) {
        const code = await new Promise((done) => {
          execFile(process.execPath, ['--input-type=module', '-e', script], (error) =>
            done(error?.code ?? 0),
          )
        })
        expect(code).toBe(end.startsWith('throw') ? 1 : 3)
      }
    },
  )
})

it('programs are verified when they are compiled', () => {
  const program = trace((x) => ops.exp(x), [[2]])
  const broken = { ...program, outputs: [{ id: -1, dtype: 'f32', shape: [] } as const] }
  expect(() => compile(device, broken)).toThrow(expect.objectContaining({ code: 'ERR_PROGRAM' }))
})
