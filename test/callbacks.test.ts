import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { orAborted } from '../lib/callbacks.js'
import {
  classStructure,
  type Device,
  data,
  denseMatrix,
  evaluate,
  exactSpectrum,
  gaussNewtonDiagonal,
  hessian,
  hutchinsonTrace,
  type LinearOperator,
  lanczos,
  linePath,
  models,
  open,
  operatorFrom,
  predictor,
  shifted,
  slq,
  train,
} from '../lib/index.js'

const device: Device = await open({ threads: 1 })
afterAll(() => device.dispose())

const set = data.blobs({ n: 64, dim: 3, classes: 2 })
const model = models.mlp({ input: 3, hidden: [4], classes: 2 })
const params = model.init(0)
const optimizer = { kind: 'sgd', lr: 0.1 } as const

const scale = operatorFrom((v) => v.map((x, i) => x * (i + 1)), 6)
let native: ReturnType<typeof hessian>
beforeAll(() => {
  native = hessian(device, model, params, set, { batch: 16 })
})
afterAll(() => native.dispose())

const unhandled: unknown[] = []
const note = (reason: unknown): void => {
  unhandled.push(reason)
}
beforeEach(() => {
  unhandled.length = 0
  process.on('unhandledRejection', note)
})
afterEach(async () => {
  await delay(5)
  process.off('unhandledRejection', note)
  expect(unhandled).toEqual([])
})

type Callback = (...args: unknown[]) => unknown
const RUNS: [name: string, run: (callback: Callback) => Promise<unknown>][] = [
  ['train onProgress', (f) => train(device, model, set, { optimizer, epochs: 3, onProgress: f })],
  ['train onMetrics', (f) => train(device, model, set, { optimizer, onMetrics: f as never })],
  [
    'train onCheckpoint',
    (f) => train(device, model, set, { optimizer, checkpointEvery: 1, onCheckpoint: f as never }),
  ],
  ['evaluate', (f) => evaluate(device, model, params, set, { batch: 8, onProgress: f })],
  [
    'predictMany',
    async (f) => {
      using service = predictor(device, model, params)
      return await service.predictMany(set.inputs, { onProgress: f })
    },
  ],
  ['matvec', (f) => native.matvec(params, { onProgress: f })],
  ['matmat of a function', (f) => scale.matmat(new Float64Array(12), 2, { onProgress: f })],
  ['lanczos', (f) => lanczos(scale, { k: 1, onProgress: f })],
  ['lanczos, native', (f) => lanczos(native, { k: 1, onProgress: f })],
  ['lanczos onCheckpoint', (f) => lanczos(scale, { k: 1, checkpointEvery: 1, onCheckpoint: f })],
  ['slq', (f) => slq(scale, { probes: 2, onProgress: f })],
  ['slq, native', (f) => slq(native, { probes: 2, onProgress: f })],
  ['slq onProbe', (f) => slq(scale, { probes: 2, onProbe: f as never })],
  ['hutchinsonTrace', (f) => hutchinsonTrace(scale, { products: 20, onProgress: f })],
  ['denseMatrix', (f) => denseMatrix(scale, { onProgress: f })],
  ['classStructure', (f) => classStructure(device, model, params, set, { onProgress: f })],
  [
    'gaussNewtonDiagonal',
    (f) => gaussNewtonDiagonal(device, model, params, set, { onProgress: f }),
  ],
  ['linePath', (f) => linePath(device, model, params, params, set, { points: 3, onProgress: f })],
  ['shifted', (f) => shifted(scale, 1).matmat(new Float64Array(12), 2, { onProgress: f })],
  ['exactSpectrum', (f) => exactSpectrum(native, { onProgress: f })],
]

describe.each(RUNS)('%s', (_, run) => {
  it('fails with what its callback throws', async () => {
    const error = new Error('mine')
    const failing = run(() => {
      throw error
    })
    await expect(failing).rejects.toBe(error)
  })

  it('fails with what its callback rejects with', async () => {
    const error = new Error('mine')
    const failing = run(async () => {
      await null
      throw error
    })
    await expect(failing).rejects.toBe(error)
  })
})

it('warns of a callback that rejects when its run has ended', async () => {
  const warnings: string[] = []
  const listen = (warning: Error): void => {
    warnings.push(warning.message)
  }
  process.on('warning', listen)
  let fail: (error: Error) => void = () => {}
  const late = new Promise((_, reject) => {
    fail = reject
  })
  await hutchinsonTrace(scale, { products: 1, onProgress: () => late as never })
  fail(new Error('too late'))
  await delay(5)
  process.off('warning', listen)
  expect(warnings).toEqual([expect.stringContaining('too late')])
})

it('does not wait for a callback that waits for the run', async () => {
  const run: Promise<unknown> = slq(scale, { probes: 1, onProgress: () => run as never })
  await run
})

describe('an operator that never answers', () => {
  const never = (): Promise<never> => new Promise(() => {})
  const byFunction = operatorFrom(never, 4)
  const byHand: LinearOperator = { size: 4, dtype: 'f64', matvec: never, matmat: never }

  describe.each([
    ['of a function', byFunction],
    ['written by hand', byHand],
  ])('%s', (_, operator) => {
    it.each([
      ['lanczos', (signal: AbortSignal) => lanczos(operator, { k: 1, check: false, signal })],
      ['the check', (signal: AbortSignal) => lanczos(operator, { k: 1, signal })],
      ['slq', (signal: AbortSignal) => slq(operator, { check: false, signal })],
      ['trace', (signal: AbortSignal) => hutchinsonTrace(operator, { signal })],
      ['dense', (signal: AbortSignal) => exactSpectrum(operator, { signal })],
    ])('%s settles when it is aborted', async (_, run) => {
      const controller = new AbortController()
      const running = run(controller.signal)
      setTimeout(() => controller.abort('enough'), 5)
      await expect(running).rejects.toMatchObject({ code: 'ERR_ABORTED', cause: 'enough' })
    })
  })
})

describe('orAborted', () => {
  it('passes on what comes in time, and leaves no listener', async () => {
    const { signal } = new AbortController()
    const listeners: string[] = []
    signal.addEventListener = (type: string) => listeners.push(`+${type}`)
    signal.removeEventListener = (type: string) => listeners.push(`-${type}`)
    expect(await orAborted(3, signal)).toBe(3)
    expect(await orAborted(Promise.resolve(4), signal)).toBe(4)
    await expect(orAborted(Promise.reject(new Error('no')), signal)).rejects.toThrow('no')
    await delay(1)
    expect(listeners).toEqual(['+abort', '-abort', '+abort', '-abort'])
  })

  it('rejects at once when the signal has fired already', async () => {
    const pending = new Promise(() => {})
    await expect(orAborted(pending, AbortSignal.abort('why'))).rejects.toMatchObject({
      code: 'ERR_ABORTED',
      cause: 'why',
    })
  })
})
