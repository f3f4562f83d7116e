import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { fromArrays } from '../../lib/data/arrays.js'
import { resolveAugment } from '../../lib/data/augment/options.js'
import { withSize } from '../../lib/data/resize.js'
import { mlp } from '../../lib/nn/mlp.js'
import { integers } from '../../lib/random/index.js'
import { type BatchSetting, batchArrays, makeBatch } from '../../lib/train/batch-maker.js'
import { BatchPool, workersAlive } from '../../lib/train/batch-pool.js'
import { type Checkpoint, loadCheckpoint, saveCheckpoint } from '../../lib/train/checkpoint.js'
import { evaluate } from '../../lib/train/evaluate.js'
import type { TrainOptions } from '../../lib/train/options.js'
import { train } from '../../lib/train/train.js'
import { liveHandles, testDevice } from './cases.js'

const N = 50
const SHAPE = [3, 6, 6]
const CELLS = 108
const pixels = Uint8Array.from(integers(1, 0, 0, N * CELLS, 256))
const labels = Int32Array.from({ length: N }, (_, i) => i % 4)
const set = fromArrays(pixels, labels, { shape: SHAPE, classes: 4 })
const model = mlp({ input: SHAPE, hidden: [12], classes: 4, dropout: 0.1 })

const OPTIONS: TrainOptions = {
  optimizer: { kind: 'adamw', lr: 0.01 },
  schedule: { kind: 'cosine', steps: 12 },
  epochs: 3,
  batch: 16,
  seed: 3,
  workers: 1,
  labelSmoothing: 0.1,
  augment: { paddedCrop: 1, flip: true, colourJitter: 0.2, randAugment: 'm9-n1-mstd0.5' },
  mixup: 0.8,
  cutmix: 1,
  ema: 0.9,
}

/** What `make` gives, made once. */
function lazy<T>(make: () => T): () => T {
  let made: { value: T } | undefined
  return () => {
    made ??= { value: make() }
    return made.value
  }
}

const held = testDevice()
afterEach(() => {
  expect(workersAlive()).toBe(0)
  expect(liveHandles(held.device)).toEqual({})
})

describe('training on augmented batches', () => {
  it('cuts a step into batches, incomplete ones included', async () => {
    const plain = mlp({ input: SHAPE, hidden: [12], classes: 4 })
    const options = { ...OPTIONS, precision: 'f64', epochs: 2 } as const
    // 50 samples: the last step has 2 of 16, a batch and nothing for the other three.
    const whole = await train(held.device, plain, set, options)
    const cut = await train(held.device, plain, set, { ...options, batch: 4, accumulate: 4 })
    expect(cut.steps).toBe(whole.steps)
    const error = cut.params.map((x, i) => Math.abs(x - whole.params[i]))
    expect(Math.max(...error)).toBeLessThan(1e-11)
    const again = await train(held.device, plain, set, {
      ...{ ...options, batch: 4, accumulate: 4, workers: 2 },
    })
    expect(again.params).toEqual(cut.params)
  })

  it('gives the same with one and with two workers', async () => {
    const [one, two] = [
      await train(held.device, model, set, { ...OPTIONS, test: set }),
      await train(held.device, model, set, { ...OPTIONS, test: set, workers: 2 }),
    ]
    expect(one.status).toBe('completed')
    expect(two.params).toEqual(one.params)
    expect(two.ema).toEqual(one.ema)
    expect(two.metrics).toEqual(one.metrics)
    expect(one.metrics.map(({ split }) => split)).toEqual(
      Array(3).fill(['train', 'test', 'test-ema']).flat(),
    )
    // Test rows are without the smoothing of labels; the average is evaluated, not θ.
    const averaged = await evaluate(held.device, model, one.ema ?? [], set)
    expect(one.metrics.at(-1)).toMatchObject({ split: 'test-ema', loss: averaged.loss })
    const last = await evaluate(held.device, model, one.params, set)
    expect(one.metrics.at(-2)).toMatchObject({ split: 'test', loss: last.loss })
    expect(averaged.loss).not.toBe(last.loss)
  })

  it('without any augmentation is the training on the set itself', async () => {
    const plain = { ...OPTIONS, mixup: 0, cutmix: 0, augment: undefined }
    const [fed, own] = [
      await train(held.device, model, set, { ...plain, augment: {} }),
      await train(held.device, model, set, plain),
    ]
    expect(fed.params).toEqual(own.params)
    expect(fed.metrics).toEqual(own.metrics)
  })

  it.each(['f32', 'f64'] as const)(
    'resumes bit for bit in %s, through a file',
    async (precision) => {
      const options = { ...OPTIONS, precision }
      const whole = await train(held.device, model, set, options)
      let kept: Checkpoint | undefined
      const controller = new AbortController()
      const half = train(held.device, model, set, {
        ...options,
        signal: controller.signal,
        onProgress: ({ step }) => {
          if (step === 6) controller.abort(new Error('enough'))
        },
        onCheckpoint: (checkpoint) => {
          kept = checkpoint
        },
      })
      await expect(half).rejects.toMatchObject({ code: 'ERR_ABORTED' })
      expect(workersAlive()).toBe(0)
      const at = kept as Checkpoint
      expect(at.step).toBeGreaterThanOrEqual(6)
      expect(at.step).toBeLessThan(12)
      const folder = await mkdtemp(join(tmpdir(), 'losscape-'))
      try {
        const file = join(folder, 'checkpoint.safetensors')
        await saveCheckpoint(file, model, at)
        const resume = await loadCheckpoint(file, model)
        expect(resume.ema).toEqual(at.ema)
        const rest = await train(held.device, model, set, { ...options, resume, workers: 2 })
        expect(rest.params).toEqual(whole.params)
        expect(rest.ema).toEqual(whole.ema)
        expect(rest.metrics.at(-1)).toEqual(whole.metrics.at(-1))
      } finally {
        await rm(folder, { recursive: true })
      }
    },
  )

  const finished = lazy(() => train(held.device, model, set, { ...OPTIONS, epochs: 1 }))

  it.each<[string, Partial<TrainOptions>]>([
    ['augment.flip', { augment: { ...OPTIONS.augment, flip: 0.4 } }],
    ['augment.randAugment.magnitude', { augment: { ...OPTIONS.augment, randAugment: 'm8-n1' } }],
    ['mix.mixup', { mixup: 0.5 }],
    ['mix.', { mixup: 0, cutmix: 0 }],
    ['ema.decay', { ema: 0.8 }],
    ['ema.decay', { ema: undefined }],
    ['loss.smoothing', { labelSmoothing: 0.2 }],
  ])('does not resume with another %s', async (name, change) => {
    const { checkpoint } = await finished()
    const resumed = train(held.device, model, set, { ...OPTIONS, ...change, resume: checkpoint })
    await expect(resumed).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringContaining(name),
    })
  })

  it('learns images of a larger size than the set stores', async () => {
    const bright = Uint8Array.from({ length: N * CELLS }, (_, i) =>
      Math.floor(i / CELLS) % 2 ? 200 : 60,
    )
    const shades = fromArrays(
      bright,
      Int32Array.from({ length: N }, (_, i) => i % 2),
      {
        shape: SHAPE,
      },
    )
    const large = mlp({ input: [3, 9, 9], hidden: [8], classes: 2 })
    const run = await train(held.device, large, shades, {
      optimizer: { kind: 'adamw', lr: 0.01 },
      epochs: 10,
      batch: 10,
      augment: { size: 9, flip: true, resizedCrop: true },
      test: withSize(shades, 9, { cropRatio: 0.9 }),
    })
    expect(run.metrics.at(-1)?.accuracy).toBe(1)
    const small = train(held.device, large, shades, {
      optimizer: { kind: 'sgd' },
      augment: { flip: true },
    })
    await expect(small).rejects.toMatchObject({ code: 'ERR_SHAPE' })
  })

  it('averages from the start vector on', async () => {
    const start = model.init(3)
    const path: ArrayLike<number>[] = []
    const run = await train(held.device, model, set, {
      ...OPTIONS,
      precision: 'f64',
      epochs: 1,
      ema: { decay: 0.5, warmup: true },
      checkpointEvery: 1,
      onCheckpoint: ({ params }) => {
        path.push(params)
      },
    })
    const average = Float64Array.from(start)
    for (const [t, params] of path.entries()) {
      const decay = Math.min(0.5, (1 + t) / (10 + t))
      average.forEach((value, i) => {
        average[i] = value + (1 - decay) * (params[i] - value)
      })
    }
    expect(path).toHaveLength(4)
    for (let i = 0; i < average.length; i++) expect(run.ema?.[i]).toBeCloseTo(average[i], 12)
  })

  const damaged = (label: number) => ({
    ...set,
    targets: labels.map((value, i) => (i === 7 ? label : value)),
  })

  it('fails with the error of its step, whatever is staged behind it', async () => {
    const { augment, optimizer } = OPTIONS
    for (let seed = 0; seed < 6; seed++) {
      const options = { optimizer, augment, epochs: 2, batch: 8, seed, workers: 1 + (seed % 3) }
      await expect(train(held.device, model, damaged(-1), options)).rejects.toMatchObject({
        code: 'ERR_RANGE',
      })
    }
  })

  it('mixes no labels out of range', async () => {
    for (const label of [-1, 4, 1000]) {
      await expect(train(held.device, model, damaged(label), OPTIONS)).rejects.toMatchObject({
        code: 'ERR_RANGE',
        message: expect.stringContaining(`sample 7 has label ${label}; expected 0 to 3`),
      })
    }
  })

  it('refuses to resume what is no checkpoint', async () => {
    const resume = {} as Checkpoint
    await expect(train(held.device, model, set, { ...OPTIONS, resume })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
    })
  })

  it('starts no more workers than there are steps', async () => {
    const began = train(held.device, model, set, { ...OPTIONS, epochs: 1, workers: 1000 })
    const counts: number[] = []
    const timer = setInterval(() => counts.push(workersAlive()), 1)
    await began
    clearInterval(timer)
    expect(Math.max(...counts)).toBeLessThanOrEqual(4)
  })

  it('stops at a divergence with the parameters of the step before', async () => {
    const options = {
      ...OPTIONS,
      optimizer: { kind: 'sgd', lr: 1e30 } as const,
      precision: 'f32' as const,
    }
    const run = await train(held.device, model, set, options)
    expect(run.status).toBe('diverged')
    expect(run.params.every(Number.isFinite)).toBe(true)
    const again = await train(held.device, model, set, {
      ...options,
      steps: run.steps,
      epochs: undefined,
    })
    expect(again.params).toEqual(run.params)
  })

  it.each<[string, Partial<TrainOptions>]>([
    ['workers', { workers: 0 }],
    ['mixup', { mixup: -1 }],
    ['labelSmoothing', { labelSmoothing: 1 }],
    ['cross-entropy', { labelSmoothing: 0.1, loss: 'logistic' }],
    ['smoothing', { labelSmoothing: 0.1, loss: { kind: 'cross-entropy', smoothing: 0.1 } }],
    ['ignoreLabel', { loss: { kind: 'cross-entropy', ignoreLabel: 1 } }],
    ['decay', { ema: 1 }],
    ['flip', { augment: { flip: 3 } }],
  ])('refuses a bad %s', async (what, change) => {
    await expect(train(held.device, model, set, { ...OPTIONS, ...change })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringContaining(what),
    })
  })
})

describe('worker threads', () => {
  const setting: BatchSetting = {
    inputs: set.inputs,
    targets: set.targets,
    values: 1,
    shape: [3, 6, 6],
    augment: resolveAugment({ paddedCrop: 1, flip: true }, set),
    mix: { mixup: 0.8, cutmix: 1, switchProbability: 0.5, classes: 4 },
    batch: 8,
    seed: 1,
    precision: 'f32',
  }
  const jobs = (step: number) => ({ step, epoch: 0, rows: Int32Array.of(step, 2, 4, 9) })

  it('make what the function makes, in the order of the steps', async () => {
    const pool = new BatchPool(setting, { workers: 2, from: 5, jobs })
    try {
      for (let step = 5; step < 17; step++) {
        const batch = await pool.take(step)
        const { xLength, yLength } = batchArrays(setting)
        const [x, y] = [new Uint8Array(xLength), new Float32Array(yLength)]
        makeBatch(setting, jobs(step), x.buffer, y.buffer)
        expect(batch.x).toEqual(x)
        expect(batch.y).toEqual(y)
        pool.release(batch)
      }
    } finally {
      await pool.close()
    }
  })

  it('that crash make a coded error', async () => {
    const wrong = (step: number) => ({ ...jobs(step), epoch: step < 3 ? 0 : -1 })
    const pool = new BatchPool(setting, { workers: 2, from: 0, jobs: wrong })
    try {
      const all = (async () => {
        for (let step = 0; step < 9; step++) pool.release(await pool.take(step))
      })()
      await expect(all).rejects.toMatchObject({ code: 'ERR_WORKER' })
    } finally {
      await pool.close()
    }
  })

  it('end when a run is aborted before its first batch', async () => {
    const controller = new AbortController()
    const run = train(held.device, model, set, { ...OPTIONS, signal: controller.signal })
    setTimeout(() => controller.abort(), 20)
    await expect(run).rejects.toMatchObject({ code: 'ERR_ABORTED' })
  })
})
