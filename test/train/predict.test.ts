import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { beforeEach, describe, expect, it } from 'vitest'
import { fromArrays } from '../../lib/data/arrays.js'
import { blobs } from '../../lib/data/synthetic/blobs.js'
import { open } from '../../lib/device/device.js'
import { mlp } from '../../lib/nn/mlp.js'
import { type Predictor, predictor } from '../../lib/train/predict.js'
import { train } from '../../lib/train/train.js'
import { liveHandles, testDevice } from './cases.js'

const held = testDevice()
// What the test before has disposed goes with the last job that uses it.
beforeEach(() => expect.poll(() => liveHandles(held.device)).toEqual({}))

const model = mlp({ input: 3, hidden: [], classes: 2 })
const theta = model.init(1)
const w = model.layout.view(theta, 'layers.0.weight')
const b = model.layout.view(theta, 'layers.0.bias')

const logits = (x: number[]): number[] =>
  [0, 1].map((c) => x.reduce((sum, v, k) => sum + w[c * 3 + k] * v, b[c]))

function expectClose(actual: ArrayLike<number>, expected: number[], digits = 12): void {
  expect(actual).toHaveLength(expected.length)
  for (const [i, v] of expected.entries()) expect(actual[i]).toBeCloseTo(v, digits)
}

const sample = (i: number): number[] => [i / 10, 1 - i / 7, (i % 3) - 1]

describe('predictor', () => {
  it('answers single samples and many', async () => {
    for (const precision of ['f32', 'f64'] as const) {
      using service = predictor(held.device, model, theta, { precision, maxBatch: 5 })
      const digits = precision === 'f64' ? 12 : 5
      expectClose(await service.predict([1, 2, 3]), logits([1, 2, 3]), digits)
      const xs = Array.from({ length: 13 }, (_, i) => sample(i))
      expectClose(await service.predictMany(xs.flat()), xs.flatMap(logits), digits)
    }
  })

  it('gives probabilities', async () => {
    using service = predictor(held.device, model, theta, {
      precision: 'f64',
      output: 'probabilities',
    })
    const z = logits([1, 0, 2])
    const total = Math.exp(z[0]) + Math.exp(z[1])
    expectClose(await service.predict([1, 0, 2]), [Math.exp(z[0]) / total, Math.exp(z[1]) / total])
    const single = mlp({ input: 1, hidden: [], classes: 1, bias: false })
    using scores = predictor(held.device, single, [2], {
      precision: 'f64',
      output: 'probabilities',
    })
    expectClose(await scores.predict([0.3]), [1 / (1 + Math.exp(-0.6))])
  })

  it('normalises as the set, or as told', async () => {
    const normalization = { mean: [0.1, 0.2, 0.3], std: [0.5, 0.25, 2] }
    const set = fromArrays(Uint8Array.of(0, 0, 0), Int32Array.of(0), { classes: 2, normalization })
    const pixels = [255, 51, 0]
    const expected = logits(
      pixels.map((p, i) => (p / 255 - normalization.mean[i]) / normalization.std[i]),
    )
    for (const how of [{ set }, { normalization, pixels: true }]) {
      using service = predictor(held.device, model, theta, { precision: 'f64', ...how })
      expectClose(await service.predict(Uint8Array.from(pixels)), expected)
    }
  })

  it('joins calls into runs, and cuts at maxBatch', async () => {
    using service = predictor(held.device, model, theta, {
      precision: 'f64',
      maxBatch: 4,
      microBatch: { maxDelayMs: 5 },
    })
    const xs = Array.from({ length: 11 }, (_, i) => sample(i))
    const answers = await Promise.all(xs.map((x) => service.predict(x)))
    for (const [i, answer] of answers.entries()) expectClose(answer, logits(xs[i]))
  })

  it('aborts one call of a run and answers the others', async () => {
    using service = predictor(held.device, model, theta, {
      precision: 'f64',
      microBatch: { maxDelayMs: 20 },
    })
    const controller = new AbortController()
    const first = service.predict(sample(1), { signal: controller.signal })
    const second = service.predict(sample(2))
    controller.abort()
    await expect(first).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    expectClose(await second, logits(sample(2)))
  })

  it('copies the sample at the call', async () => {
    using service = predictor(held.device, model, theta, {
      precision: 'f64',
      microBatch: { maxDelayMs: 5 },
    })
    const x = Float64Array.of(1, 2, 3)
    const answer = service.predict(x)
    x.fill(0)
    expectClose(await answer, logits([1, 2, 3]))
  })

  it('is served while a training runs', async () => {
    const set = blobs({ n: 2000, classes: 10, dim: 64, seed: 1 })
    const large = mlp({ input: 64, hidden: [256, 256], classes: 10 })
    using service = predictor(held.device, model, theta)
    const answer = logits([1, 2, 3])
    await service.predict([1, 2, 3])
    let running = true
    const run = train(held.device, large, set, {
      optimizer: { kind: 'sgd', lr: 0.01 },
      epochs: 20,
      batch: 500,
    }).then(() => {
      running = false
    })
    let served = 0
    while (served < 20) {
      expectClose(await service.predict([1, 2, 3]), answer, 5)
      if (running) served++
      else break
    }
    expect(served).toBe(20)
    await run
  })

  it('frees its memory and refuses further calls', async () => {
    const before = liveHandles(held.device)
    const service = predictor(held.device, model, theta, { microBatch: { maxDelayMs: 1000 } })
    const waiting = service.predict([1, 2, 3])
    service.dispose()
    service.dispose()
    await expect(waiting).rejects.toMatchObject({ code: 'ERR_DISPOSED' })
    await expect(service.predict([1, 2, 3])).rejects.toMatchObject({ code: 'ERR_DISPOSED' })
    await expect(service.predictMany([1, 2, 3])).rejects.toMatchObject({ code: 'ERR_DISPOSED' })
    await expect.poll(() => liveHandles(held.device)).toEqual(before)
  })

  it('rejects with a coded error when its device has gone', async () => {
    const device = await open({ device: 'cpu', threads: 1 })
    using service = predictor(device, model, theta)
    await service.predict([1, 2, 3])
    device.dispose()
    const error = { name: 'LosscapeError', code: 'ERR_DISPOSED' }
    await expect(service.predict([1, 2, 3])).rejects.toMatchObject(error)
    await expect(service.predictMany([1, 2, 3])).rejects.toMatchObject(error)
    await expect(service.predictMany([1, 2, 3, 4, 5, 6])).rejects.toMatchObject(error)
  })

  it('does not keep the data set that its samples resemble', async () => {
    setFlagsFromString('--expose-gc')
    const collect: () => void = runInNewContext('gc')
    const made = (): { service: Predictor; inputs: WeakRef<object> } => {
      const set = blobs({ n: 1000, classes: 2, dim: 3, seed: 1 })
      const service = predictor(held.device, model, theta, { set })
      return { service, inputs: new WeakRef(set.inputs) }
    }
    const { service, inputs } = made()
    await service.predict([1, 2, 3])
    await expect
      .poll(() => {
        collect()
        return inputs.deref()
      })
      .toBeUndefined()
    service.dispose()
  })

  it('keeps the buffers of four runs after a burst', async () => {
    await using service = predictor(held.device, model, theta)
    await Promise.all(Array.from({ length: 20 }, (_, i) => service.predict(sample(i))))
    // The parameters, and an input and an output per lane.
    await expect.poll(() => liveHandles(held.device).buffer).toBe(1 + 2 * 4)
  })

  it('takes queued jobs back when aborted', async () => {
    const wide = mlp({ input: 512, hidden: [1024, 1024], classes: 2 })
    using service = predictor(held.device, wide, wide.init(1), { maxBatch: 256 })
    const xs = new Float32Array(256 * 512).fill(0.5)
    const [whole] = await service.predictMany(xs)
    // Work of a fraction of a second holds the queue, so that what follows is still waiting.
    const ahead = Array.from({ length: 8 }, () => service.predictMany(xs))
    const controller = new AbortController()
    const cancelled = Array.from({ length: 8 }, () =>
      service.predictMany(xs, { signal: controller.signal }),
    )
    controller.abort('enough')
    for (const outcome of await Promise.allSettled(cancelled)) {
      expect(outcome).toMatchObject({ reason: { code: 'ERR_ABORTED', cause: 'enough' } })
    }
    for (const [first] of await Promise.all(ahead)) expect(first).toBe(whole)
    expect((await service.predictMany(xs))[0]).toBe(whole)

    const single = new AbortController()
    const answer = service.predict(xs.subarray(0, 512), { signal: single.signal })
    single.abort('enough')
    await expect(answer).rejects.toMatchObject({ code: 'ERR_ABORTED', cause: 'enough' })
  })

  it('reports samples done, and rejects with what the callback throws', async () => {
    using service = predictor(held.device, model, theta, { maxBatch: 4 })
    const xs = Array.from({ length: 10 }, (_, i) => sample(i)).flat()
    const seen: number[][] = []
    await service.predictMany(xs, { onProgress: (done, total) => seen.push([done, total]) })
    expect(seen).toEqual([
      [4, 10],
      [8, 10],
      [10, 10],
    ])
    const error = new Error('no terminal')
    const onProgress = (): never => {
      throw error
    }
    await expect(service.predictMany(xs, { onProgress })).rejects.toBe(error)
  })

  it('refuses what does not fit', async () => {
    using service = predictor(held.device, model, theta)
    const cases: [string, Promise<unknown>][] = [
      ['ERR_SHAPE', service.predict([1, 2])],
      ['ERR_SHAPE', service.predictMany([1, 2, 3, 4])],
      ['ERR_SHAPE', service.predictMany([])],
      ['ERR_NOT_FINITE', service.predict([1, Number.NaN, 3])],
      ['ERR_ABORTED', service.predict([1, 2, 3], { signal: AbortSignal.abort() })],
    ]
    for (const [code, promise] of cases) await expect(promise).rejects.toMatchObject({ code })
    const make = (params: ArrayLike<number>, options: object) => () =>
      predictor(held.device, model, params, options)
    const error = (code: string) => expect.objectContaining({ code })
    expect(make([1], {})).toThrowError(error('ERR_SHAPE'))
    expect(make(theta, { maxBatch: 0 })).toThrowError(error('ERR_ARGUMENT'))
    expect(make(theta, { output: 'labels' })).toThrowError(error('ERR_ARGUMENT'))
    expect(make(theta, { microBatch: { maxDelayMs: -1 } })).toThrowError(error('ERR_ARGUMENT'))
    for (const normalization of [
      { mean: [0], std: [0] },
      { mean: [0, 0, 0], std: [1] },
      { mean: [0, 0], std: [1, 1] },
      { mean: [Number.NaN], std: [1] },
    ]) {
      expect(make(theta, { normalization })).toThrowError(error('ERR_ARGUMENT'))
    }
    const other = blobs({ n: 10, classes: 2, dim: 4 })
    expect(make(theta, { set: other })).toThrowError(error('ERR_SHAPE'))
  })
})
