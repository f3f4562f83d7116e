import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { fromArrays } from '../../lib/data/arrays.js'
import type { DataSet } from '../../lib/data/dataset.js'
import { writeSafetensors } from '../../lib/files/safetensors.js'
import type { Loss } from '../../lib/nn/loss.js'
import { defineModel, type Model } from '../../lib/nn/model.js'
import * as ops from '../../lib/ops/index.js'
import { normals } from '../../lib/random/index.js'
import { type Checkpoint, loadCheckpoint, saveCheckpoint } from '../../lib/train/checkpoint.js'
import { evaluate } from '../../lib/train/evaluate.js'
import { SampleOrder } from '../../lib/train/order.js'
import { predictor } from '../../lib/train/predict.js'
import { createRun, openRun } from '../../lib/train/run-folder.js'
import { loadStart, loadStartState } from '../../lib/train/start.js'
import { type TrainResult, train } from '../../lib/train/train.js'
import { loadModel, loadState, saveModel } from '../../lib/train/weights.js'
import { liveHandles, testDevice } from './cases.js'

const held = testDevice()
const FEATURES = 3
const RATE = 0.25

/**
 * z = W (x - m): m is the mean of the batch under 'batch', the running mean m̂ under 'frozen', with
 * m̂' = m̂ + r (m - m̂) and r either {@link RATE} or the learning rate; `steps` counts the calls.
 */
function centred(rate: 'constant' | 'lr' = 'constant', name = 'centred'): Model {
  return defineModel({
    name,
    input: [FEATURES],
    output: [2],
    parameters: [{ name: 'weight', shape: [2, FEATURES], init: { kind: 'normal', std: 0.5 } }],
    state: [
      { name: 'mean', shape: [FEATURES], init: { kind: 'zeros' } },
      { name: 'steps', shape: [], init: { kind: 'zeros' } },
    ],
    couplesSamples: true,
    apply({ weight }, x, { state, statistics, update, lr, training }) {
      const batch = ops.mean(x, [0])
      const r = rate === 'lr' ? lr : RATE
      if (training && r !== null) {
        update('mean', ops.add(state.mean, ops.mul(ops.sub(batch, state.mean), r)))
        update('steps', ops.add(state.steps, 1))
      }
      const mean = statistics === 'batch' ? batch : state.mean
      return ops.matmul(ops.sub(x, mean), weight, { transB: true })
    },
  })
}

/** The same function of single samples, whose state counts. */
function uncoupled(counting: boolean): Model {
  return defineModel({
    name: 'uncoupled',
    input: [FEATURES],
    output: [2],
    parameters: [{ name: 'weight', shape: [2, FEATURES], init: { kind: 'normal', std: 0.5 } }],
    state: counting ? [{ name: 'steps', shape: [], init: { kind: 'zeros' } }] : [],
    apply({ weight }, x, { state, update, training }) {
      if (training && counting) update('steps', ops.add(state.steps, 1))
      return ops.matmul(ops.tanh(x), weight, { transB: true })
    },
  })
}

function samples(size: number): DataSet {
  const numbers = normals(7, 0, 0, size * FEATURES, new Float64Array(size * FEATURES))
  const inputs = Float32Array.from(numbers, (x, i) => x + (i % FEATURES))
  return fromArrays(
    inputs,
    Int32Array.from({ length: size }, (_, i) => (i * 5 + (i >> 2)) % 2),
    {
      shape: [FEATURES],
      classes: 2,
    },
  )
}

const SET = samples(12)
const SGD = { kind: 'sgd', lr: 0.1, momentum: 0.9 } as const

/** m̂ after the batches of a training, from the samples themselves. */
function runningMean(
  set: DataSet,
  steps: number,
  options: { batch: number; whole?: number; rate?: (step: number) => number; perStep?: number },
): number[] {
  const { batch, whole = batch, rate = () => RATE, perStep = 1 } = options
  const order = new SampleOrder({
    ...{ samples: set.size, batch: batch * perStep, seed: 3, shuffle: true, dropLast: false },
    whole,
  })
  const mean = new Array<number>(FEATURES).fill(0)
  for (let step = 0; step < steps; step++) {
    const { rows } = order.rows(step, step + 1)
    const count = order.samplesOf(step)
    for (let at = 0; at < count; at += batch) {
      for (let f = 0; f < FEATURES; f++) {
        let sum = 0
        for (const row of rows.subarray(at, at + batch)) sum += set.inputs[row * FEATURES + f]
        mean[f] += rate(step) * (sum / batch - mean[f])
      }
    }
  }
  return mean
}

/** A copy that is queued holds its buffer until its turn. */
const nothingLeft = (): Promise<void> =>
  vi.waitFor(() => expect(liveHandles(held.device)).toEqual({}))

const close = (found: ArrayLike<number>, expected: ArrayLike<number>, tol = 1e-6): void => {
  expect(found.length).toBe(expected.length)
  for (let i = 0; i < found.length; i++) expect(Math.abs(found[i] - expected[i])).toBeLessThan(tol)
}

describe('state in training', () => {
  it.each(['f32', 'f64'] as const)('is the running mean of the batches (%s)', async (precision) => {
    const run = await train(held.device, centred(), SET, {
      ...{ optimizer: SGD, batch: 4, epochs: 2, seed: 3, precision },
    })
    close(run.state, [...runningMean(SET, 6, { batch: 4 }), 6])
    expect(run.state.constructor).toBe(precision === 'f64' ? Float64Array : Float32Array)
    await nothingLeft()
  })

  it('moves at the learning rate of the step where the model asks for it', async () => {
    const run = await train(held.device, centred('lr'), SET, {
      ...{ optimizer: SGD, batch: 4, steps: 7, seed: 3, precision: 'f64' },
      schedule: { kind: 'cosine', steps: 9 },
    })
    const rate = (step: number): number => (0.1 * (1 + Math.cos((Math.PI * step) / 9))) / 2
    close(run.state, [...runningMean(SET, 7, { batch: 4, rate }), 7], 1e-12)
  })

  it('starts where it is told to, and is left alone by a model that does not train it', async () => {
    const still = defineModel({
      ...{ name: 'still', input: [FEATURES], output: [2] },
      parameters: [{ name: 'weight', shape: [2, FEATURES], init: { kind: 'zeros' } }],
      state: [{ name: 'shift', shape: [FEATURES], init: { kind: 'ones' } }],
      apply: ({ weight }, x, { state }) =>
        ops.matmul(ops.add(x, state.shift), weight, { transB: true }),
    })
    const options = { optimizer: SGD, batch: 4, steps: 3 } as const
    const run = await train(held.device, still, SET, { ...options, state: [4, 5, 6] })
    expect([...run.state]).toEqual([4, 5, 6])
    const plain = await train(held.device, still, SET, options)
    expect([...plain.state]).toEqual([1, 1, 1])
    expect([...plain.params]).not.toEqual([...run.params])
  })

  it('takes batches of one and two samples', async () => {
    for (const batch of [1, 2]) {
      const run = await train(held.device, centred(), SET, {
        ...{ optimizer: { kind: 'sgd', lr: 0.01 }, batch, epochs: 1, seed: 3 },
      })
      close(run.state, [...runningMean(SET, 12 / batch, { batch }), 12 / batch])
      expect(run.status).toBe('completed')
    }
  })

  it('never sees padding: what does not fill a batch is left out of the epoch', async () => {
    const set = samples(11)
    const options = { optimizer: SGD, batch: 4, epochs: 3, seed: 3, precision: 'f64' } as const
    const run = await train(held.device, centred(), set, options)
    expect(run.steps).toBe(6)
    close(run.state, [...runningMean(set, 6, { batch: 4 }), 6], 1e-12)
    // A model without state keeps its smaller last step.
    const plain = await train(held.device, uncoupled(false), set, options)
    expect(plain.steps).toBe(9)
  })

  it('is of the step before where a step diverges', async () => {
    const inputs = Float32Array.from(SET.inputs)
    inputs[5 * FEATURES] = 3e38
    inputs[6 * FEATURES] = 3e38
    const set = fromArrays(inputs, SET.targets, { shape: [FEATURES], classes: 2 })
    const run = await train(held.device, centred(), set, {
      ...{ optimizer: SGD, batch: 4, epochs: 1, shuffle: false },
    })
    expect(run.status).toBe('diverged')
    expect(run.steps).toBe(1)
    const whole = await train(held.device, centred(), set, {
      ...{ optimizer: SGD, batch: 4, steps: 1, shuffle: false },
    })
    expect(run.state).toEqual(whole.state)
    expect(run.params).toEqual(whole.params)
  })

  it('stands beside the moving average of the parameters', async () => {
    const common = { optimizer: SGD, batch: 4, epochs: 2, seed: 3, test: SET } as const
    const run = await train(held.device, centred(), SET, { ...common, ema: 0.5 })
    const averaged = run.metrics.filter(({ split }) => split === 'test-ema').at(-1)
    const { loss } = await evaluate(held.device, centred(), run.ema as Float32Array, SET, {
      state: run.state,
    })
    expect(averaged?.loss).toBe(loss)
  })
})

describe('accumulate', () => {
  it('equals the large batch where samples are not coupled', async () => {
    const common = { epochs: 3, seed: 3, precision: 'f64' } as const
    for (const optimizer of [SGD, { kind: 'adamw', lr: 0.01 } as const]) {
      const large = await train(held.device, uncoupled(false), SET, {
        ...{ ...common, optimizer, batch: 6 },
      })
      for (const [batch, accumulate] of [
        [1, 6],
        [2, 3],
        [3, 2],
      ] as const) {
        const small = await train(held.device, uncoupled(false), SET, {
          ...{ ...common, optimizer, batch, accumulate },
        })
        expect(small.steps).toBe(large.steps)
        close(small.params, large.params, 1e-13)
        const rows = (run: TrainResult): unknown[] =>
          run.metrics.map(({ loss, accuracy }) => [loss.toFixed(12), accuracy])
        expect(rows(small)).toEqual(rows(large))
      }
    }
  })

  it('weighs the batches of an incomplete step by their samples', async () => {
    const set = samples(11)
    const common = { optimizer: SGD, epochs: 2, seed: 3, precision: 'f64' } as const
    const large = await train(held.device, uncoupled(false), set, { ...common, batch: 6 })
    // The second step of an epoch has 5 samples: batches of 2, 2 and 1.
    const small = await train(held.device, uncoupled(false), set, {
      ...{ ...common, batch: 2, accumulate: 3 },
    })
    close(small.params, large.params, 1e-13)
    // And of 4 samples, where a batch is empty.
    const few = samples(10)
    const [a, b] = await Promise.all([
      train(held.device, uncoupled(false), few, { ...common, batch: 6 }),
      train(held.device, uncoupled(false), few, { ...common, batch: 2, accumulate: 3 }),
    ])
    close(a.params, b.params, 1e-13)
  })

  it('updates the state at every batch, empty ones excepted', async () => {
    const run = await train(held.device, centred(), samples(11), {
      ...{ optimizer: SGD, batch: 2, accumulate: 3, epochs: 2, seed: 3, precision: 'f64' },
    })
    // 10 samples an epoch: steps of 3 and 2 batches.
    expect(run.steps).toBe(4)
    const options = { batch: 2, perStep: 3 }
    close(run.state, [...runningMean(samples(11), 4, options), 10], 1e-12)
  })

  it('draws other numbers for every batch of a step', async () => {
    const noisy = defineModel({
      ...{ name: 'noisy', input: [FEATURES], output: [1], random: true },
      parameters: [{ name: 'shift', shape: [1], init: { kind: 'zeros' } }],
      state: [{ name: 'last', shape: [2], init: { kind: 'zeros' } }],
      apply({ shift }, x, { key, state, update }) {
        if (key) {
          const draw = ops.random(key, [1], { kind: 'normal', stream: 1 })
          update('last', ops.concat([ops.slice(state.last, [1], [1]), draw]))
        }
        return ops.broadcastTo(ops.reshape(shift, [1, 1]), [x.shape[0], 1])
      },
    })
    const set = fromArrays(SET.inputs, new Float32Array(12), {
      ...{ shape: [FEATURES], targetShape: [1] },
    })
    const run = await train(held.device, noisy, set, {
      ...{ optimizer: SGD, batch: 2, accumulate: 2, steps: 1, loss: 'mse' },
    })
    expect(run.state[0]).not.toBe(run.state[1])
    expect(run.state[0]).not.toBe(0)
  })

  it('is refused where it makes no sense', async () => {
    const refused = (options: object, message: RegExp): Promise<void> =>
      expect(
        train(held.device, centred(), SET, { optimizer: SGD, batch: 4, ...options }),
      ).rejects.toThrow(
        expect.objectContaining({ code: 'ERR_ARGUMENT', message: expect.stringMatching(message) }),
      )
    await refused({ accumulate: 0 }, /accumulate to be a positive integer, got 0/)
    await refused({ accumulate: 1.5 }, /accumulate/)
    await refused({ accumulate: 4 }, /4 batches of 4 samples is larger .* of 12/)
    await refused(
      { optimizer: { kind: 'gd' }, batch: 12, accumulate: 2 },
      /no accumulate with 'gd'/,
    )
  })
})

describe('resuming with state', () => {
  it.each([1, 3])('goes on bit for bit, with %i batches a step', async (accumulate) => {
    const options = { optimizer: SGD, batch: 2, accumulate, seed: 3, ema: 0.9 } as const
    const whole = await train(held.device, centred(), SET, { ...options, steps: 5 })
    const half = await train(held.device, centred(), SET, { ...options, steps: 2 })
    const folder = await mkdtemp(join(tmpdir(), 'losscape-state-'))
    const file = join(folder, 'checkpoint.safetensors')
    try {
      await saveCheckpoint(file, centred(), half.checkpoint)
      const resume = await loadCheckpoint(file, centred())
      expect(resume.state).toEqual(half.state)
      const rest = await train(held.device, centred(), SET, { ...options, steps: 5, resume })
      expect(rest.state).toEqual(whole.state)
      expect(rest.params).toEqual(whole.params)
      expect(rest.ema).toEqual(whole.ema)
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('goes on from where it was aborted', async () => {
    const options = { optimizer: SGD, batch: 1, accumulate: 2, seed: 3, steps: 4000 } as const
    const whole = await train(held.device, centred(), SET, options)
    const controller = new AbortController()
    const kept: Checkpoint[] = []
    const aborted = train(held.device, centred(), SET, {
      ...options,
      signal: controller.signal,
      onProgress: () => controller.abort(),
      onCheckpoint: (checkpoint) => void kept.push(checkpoint),
    })
    await expect(aborted).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    const [resume] = kept
    // One call of the model a batch: the state is of the step that θ is of.
    expect(resume.state?.[FEATURES]).toBe(2 * resume.step)
    expect(resume.step).toBeLessThan(4000)
    const rest = await train(held.device, centred(), SET, { ...options, resume })
    expect(rest.state).toEqual(whole.state)
    expect(rest.params).toEqual(whole.params)
  })

  it('refuses a start state that does not fit or is not finite', async () => {
    const start = (state: ArrayLike<number>): Promise<TrainResult> =>
      train(held.device, centred(), SET, { optimizer: SGD, batch: 2, steps: 1, state })
    await expect(start([1, 2])).rejects.toMatchObject({ code: 'ERR_SHAPE' })
    await expect(start([1, 2, 3, Number.NaN])).rejects.toMatchObject({ code: 'ERR_NOT_FINITE' })
    await expect(start(7 as never)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    await nothingLeft()
  })

  it('refuses another accumulation, and a checkpoint without the state', async () => {
    const options = { optimizer: SGD, batch: 2, seed: 3, steps: 2 } as const
    const { checkpoint } = await train(held.device, centred(), SET, options)
    await expect(
      train(held.device, centred(), SET, { ...options, accumulate: 2, resume: checkpoint }),
    ).rejects.toThrow(/accumulate not set \(now 2\)/)
    const { state: _, ...rest } = checkpoint
    await expect(
      train(held.device, centred(), SET, { ...options, resume: rest as Checkpoint }),
    ).rejects.toThrow(/a state of 0 numbers \(now 4\)/)
  })
})

describe('using the state', () => {
  const sum: Loss = { name: 'sum', targets: 'labels', perSample: (z) => ops.sum(z, [1]) }
  const params = [1, 0, 0, 0, 1, 0]
  const state = [0.5, 2, 0, 9]

  it('evaluates with frozen statistics, so that padding is fine', async () => {
    const set = samples(11)
    const mean = (f: number): number =>
      Array.from({ length: 11 }, (_, i) => set.inputs[i * FEATURES + f]).reduce((a, b) => a + b) /
      11
    for (const batch of [11, 4, 1]) {
      const { loss } = await evaluate(held.device, centred(), params, set, {
        ...{ loss: sum, batch, state, precision: 'f64' },
      })
      expect(loss).toBeCloseTo(mean(0) - 0.5 + mean(1) - 2, 12)
    }
    const { loss } = await evaluate(held.device, centred(), params, set, {
      ...{ loss: sum, precision: 'f64' },
    })
    expect(loss).toBeCloseTo(mean(0) + mean(1), 12)
  })

  it('predicts single samples', async () => {
    using service = predictor(held.device, centred(), params, { state })
    expect([...(await service.predict([1, 2, 3]))]).toEqual([0.5, 0])
  })

  it('names what is wrong with it', async () => {
    const refused = (given: ArrayLike<number>, code: string, message: RegExp): Promise<void> =>
      expect(evaluate(held.device, centred(), params, SET, { state: given })).rejects.toThrow(
        expect.objectContaining({ code, message: expect.stringMatching(message) }),
      )
    await refused([0, Number.NaN, 0, 0], 'ERR_NOT_FINITE', /State 'mean' has NaN at element 1/)
    await refused([0, 0, 0, 1 / 0], 'ERR_NOT_FINITE', /State 'steps' has Infinity/)
    await refused([0, 0], 'ERR_SHAPE', /state vector of 4 elements, got 2/)
    await refused('no' as never, 'ERR_ARGUMENT', /state to be an array of numbers/)
    await expect(evaluate(held.device, uncoupled(false), params, SET, { state })).rejects.toThrow(
      /state vector of 0 elements, got 4/,
    )
    await nothingLeft()
  })
})

describe('files with state', () => {
  const folders: string[] = []
  afterEach(async () => {
    for (const folder of folders.splice(0)) await rm(folder, { recursive: true })
  })
  const folder = async (): Promise<string> => {
    folders.push(await mkdtemp(join(tmpdir(), 'losscape-state-')))
    return folders[0]
  }
  const params = Float32Array.of(1, 2, 3, 4, 5, 6)
  const state = Float32Array.of(7, 8, 9, 10)

  it('hold both, under their names', async () => {
    const file = join(await folder(), 'model.safetensors')
    await saveModel(file, centred(), params, state)
    expect(await loadModel(file, centred())).toEqual(params)
    expect(await loadState(file, centred())).toEqual(state)
    expect(await loadStart(file, centred(), { skip: 'weight', seed: 1 })).not.toEqual(params)
    expect([...(await loadStartState(file, centred(), { skip: 'mean' }))]).toEqual([0, 0, 0, 10])
  })

  it('are refused by a model of another normalisation, tensor by tensor', async () => {
    const file = join(await folder(), 'model.safetensors')
    await saveModel(file, centred(), params, state)
    await expect(loadModel(file, uncoupled(true))).rejects.toThrow(
      expect.objectContaining({
        code: 'ERR_FORMAT',
        message: expect.stringMatching(/extra: mean.*another normalisation/),
      }),
    )
    await saveModel(file, uncoupled(false), params)
    await expect(loadState(file, centred())).rejects.toThrow(/missing: mean, steps/)
    expect(await loadState(file, uncoupled(false))).toHaveLength(0)
  })

  it('name estimates that are not finite', async () => {
    const file = join(await folder(), 'model.safetensors')
    const tensor = (shape: number[], ...data: number[]) => ({
      shape,
      data: Float32Array.from(data),
    })
    await writeSafetensors(
      file,
      new Map([
        ['weight', tensor([2, 3], ...params)],
        ['mean', tensor([3], 1, Number.NaN, 1)],
        ['steps', tensor([], 2)],
      ]),
    )
    for (const load of [loadState, loadStartState]) {
      await expect(load(file, centred())).rejects.toThrow(
        expect.objectContaining({
          code: 'ERR_NOT_FINITE',
          message: expect.stringMatching(/state 'mean' has NaN at element 1/),
        }),
      )
    }
  })

  it('need the state that the model has', async () => {
    const file = join(await folder(), 'model.safetensors')
    await expect(saveModel(file, centred(), params)).rejects.toThrow(
      expect.objectContaining({
        code: 'ERR_ARGUMENT',
        message: expect.stringContaining('pass run.state'),
      }),
    )
    await expect(saveModel(file, centred(), params, params)).rejects.toThrow(/state vector of 4/)
  })

  it('are a run’s, kept parameters included', async () => {
    const path = join(await folder(), 'run')
    const model = centred()
    const data = { normalization: SET.normalization }
    const created = await createRun(path, { model, data, training: {} })
    await created.saveParameters(params, state)
    await created.keepParameters(
      3,
      params,
      state.map((x) => -x),
    )
    const run = await openRun(path, { model })
    expect(await run.loadState()).toEqual(state)
    expect(await run.loadKeptState(3)).toEqual(state.map((x) => -x))
    expect(await run.loadKept(3)).toEqual(params)
  })
})
