import { beforeEach, describe, expect, it } from 'vitest'
import { fromArrays } from '../../lib/data/arrays.js'
import { blobs } from '../../lib/data/synthetic/blobs.js'
import { teacher } from '../../lib/data/synthetic/teacher.js'
import { open } from '../../lib/device/device.js'
import { resolveLoss } from '../../lib/nn/loss.js'
import { mlp } from '../../lib/nn/mlp.js'
import { evaluate as evaluateProgram } from '../../lib/program/evaluate.js'
import type { Checkpoint } from '../../lib/train/checkpoint.js'
import { evaluate } from '../../lib/train/evaluate.js'
import type { MetricsRow } from '../../lib/train/metrics.js'
import type { OptimizerSpec } from '../../lib/train/optimizer.js'
import type { TrainOptions } from '../../lib/train/options.js'
import { SampleOrder } from '../../lib/train/order.js'
import { stepProgram } from '../../lib/train/program.js'
import { type TrainResult, train } from '../../lib/train/train.js'
import { liveHandles, OPTIMIZERS, QUADRATIC, testDevice } from './cases.js'

const held = testDevice()
const set = blobs({ n: 90, classes: 3, dim: 6, seed: 1 })
const model = mlp({ input: 6, hidden: [16], classes: 3, activation: 'tanh' })
const noisy = mlp({ input: 6, hidden: [16], classes: 3, dropout: 0.3, layerNorm: true })
const SGD: OptimizerSpec = { kind: 'sgd', lr: 0.05, momentum: 0.9 }

const name = (spec: OptimizerSpec): string => JSON.stringify(spec)

const live = () => liveHandles(held.device)

// What the test before has disposed goes with the last job that uses it.
beforeEach(() => expect.poll(live).toEqual({}))

describe('optimisers', () => {
  // Five steps of torch.optim 2.x in float64 on the same quadratic.
  it.each<[OptimizerSpec, number[]]>([
    [
      { kind: 'sgd', lr: 0.1, weightDecay: 0.05 },
      [0.655360408821875, 0.005339583706250049, 0.4150859194265625],
    ],
    [
      { kind: 'sgd', lr: 0.1, momentum: 0.9, dampening: 0.3, weightDecay: 0.05 },
      [0.2707078833936321, 2.1571707323688707, 0.3223750119635676],
    ],
    [
      { kind: 'sgd', lr: 0.1, momentum: 0.9, nesterov: true },
      [0.11633465287999997, 1.2348453752800004, 0.2576611449807515],
    ],
    [
      { kind: 'adam', lr: 0.1, weightDecay: 0.05 },
      [0.5112735278483718, -1.5023491680267091, 0.006276229676512743],
    ],
    [
      { kind: 'adamw', lr: 0.1, betas: [0.8, 0.95], weightDecay: 0.2 },
      [0.44375141346649094, -1.3325785237442576, -0.02152903809701047],
    ],
  ])('step like torch: %o', async (optimizer, expected) => {
    for (const precision of ['f64', 'f32'] as const) {
      const { params, steps } = await train(held.device, QUADRATIC.model, QUADRATIC.set, {
        loss: QUADRATIC.loss,
        optimizer,
        steps: 5,
        params: QUADRATIC.start,
        precision,
      })
      expect(steps).toBe(5)
      expect(params.constructor).toBe(precision === 'f64' ? Float64Array : Float32Array)
      for (const [i, x] of expected.entries()) {
        expect(params[i]).toBeCloseTo(x, precision === 'f64' ? 12 : 5)
      }
    }
  })

  it('gradient descent follows the closed form x_k = c + (1 - lr a)^k (x_0 - c)', async () => {
    const { params, lastFiniteLoss } = await train(held.device, QUADRATIC.model, QUADRATIC.set, {
      loss: QUADRATIC.loss,
      optimizer: { kind: 'gd', lr: 0.2 },
      epochs: 20,
      params: QUADRATIC.start,
      precision: 'f64',
    })
    const [a, c] = [
      [1, 3, 0.1],
      [0.2, 0.4, -1],
    ]
    const after = (k: number, i: number) =>
      c[i] + (1 - 0.2 * a[i]) ** k * (QUADRATIC.start[i] - c[i])
    for (let i = 0; i < 3; i++) expect(params[i]).toBeCloseTo(after(20, i), 12)
    const loss = a.reduce((sum, ai, i) => sum + 0.5 * ai * (after(19, i) - c[i]) ** 2, 0)
    expect(lastFiniteLoss).toBeCloseTo(loss, 12)
  })

  it('clips to min(1, clip / (norm + 1e-6)), the norm of what is trained', async () => {
    const { params } = await train(held.device, QUADRATIC.model, QUADRATIC.set, {
      loss: QUADRATIC.loss,
      optimizer: { kind: 'sgd', lr: 1 },
      steps: 1,
      clipNorm: 0.5,
      params: QUADRATIC.start,
      precision: 'f64',
    })
    const gradient = [1 * 0.8, 3 * -2.4, 0.1 * 1.5]
    const scale = 0.5 / (Math.hypot(...gradient) + 1e-6)
    for (const [i, g] of gradient.entries()) {
      expect(params[i]).toBeCloseTo(QUADRATIC.start[i] - scale * g, 12)
    }
  })

  it('scale the learning rate by the schedule', async () => {
    const { params } = await train(held.device, QUADRATIC.model, QUADRATIC.set, {
      loss: QUADRATIC.loss,
      optimizer: { kind: 'sgd', lr: 0.2 },
      schedule: { kind: 'step', every: 1, unit: 'step', gamma: 0.5 },
      steps: 3,
      params: [1, 0.4, -1],
      precision: 'f64',
    })
    expect(params[0]).toBeCloseTo(0.2 + 0.8 * (1 - 0.2) * (1 - 0.1) * (1 - 0.05), 12)
  })

  it('leave frozen tensors alone and heed factors', async () => {
    const start = model.init(0)
    const run = (groups: OptimizerSpec['groups']) =>
      train(held.device, model, set, {
        optimizer: { kind: 'sgd', lr: 0.1, groups },
        steps: 1,
        precision: 'f64',
        params: start,
      })
    const plain = await run([])
    const some = await run([
      { params: 'layers.0.*', frozen: true },
      { params: '*.bias', lrFactor: 3, frozen: false },
    ])
    const moved = (result: TrainResult, tensor: string): number[] => {
      const before = model.layout.view(start, tensor)
      const after = model.layout.view(result.params, tensor)
      return Array.from(after, (x, i) => x - before[i])
    }
    expect(Math.hypot(...moved(plain, 'layers.0.weight'))).toBeGreaterThan(1e-3)
    expect(moved(some, 'layers.0.weight').every((d) => d === 0)).toBe(true)
    expect(moved(some, 'layers.1.weight')).toEqual(moved(plain, 'layers.1.weight'))
    // The later group wins: the first bias is not frozen any more.
    for (const tensor of ['layers.0.bias', 'layers.1.bias']) {
      for (const [i, d] of moved(plain, tensor).entries()) {
        expect(moved(some, tensor)[i]).toBeCloseTo(3 * d, 13)
      }
    }
  })
})

describe('steps', () => {
  it.each(['f64', 'f32'] as const)(
    'have the float64 reference’s gradient (%s)',
    async (precision) => {
      const start = noisy.init(3)
      const lr = 0.5
      const result = await train(held.device, noisy, set, {
        optimizer: { kind: 'sgd', lr },
        steps: 1,
        batch: 16,
        seed: 3,
        params: start,
        precision,
      })
      const trained = noisy.layout.names.map(() => true)
      const loss = resolveLoss('cross-entropy')
      const { program } = stepProgram({ model: noisy, loss, set, batch: 16, trained })
      const order = new SampleOrder({
        samples: set.size,
        batch: 16,
        seed: 3,
        shuffle: true,
        dropLast: false,
      })
      const { rows, weights } = order.rows(0, 1)
      const [mean, correct, ...gradients] = evaluateProgram(program, [
        ...noisy.layout.names.map((tensor) => noisy.layout.view(start, tensor)),
        set.inputs,
        set.targets,
        rows,
        weights,
        [3, 0, 0, 0],
      ])
      const tolerance = precision === 'f64' ? 1e-12 : 2e-6
      expect(Math.abs(result.metrics[0].loss - mean[0])).toBeLessThan(tolerance)
      expect(result.metrics[0].accuracy).toBe(correct[0] / 16)
      const flat = gradients.flatMap((g) => [...g])
      const error = flat.map((g, i) => (start[i] - result.params[i]) / lr - g)
      expect(Math.hypot(...error) / Math.hypot(...flat)).toBeLessThan(10 * tolerance)
    },
  )

  it('average exactly over samples: frozen weights give the evaluated loss', async () => {
    const start = model.init(0)
    const { metrics } = await train(held.device, model, set, {
      optimizer: { kind: 'sgd', lr: 0 },
      epochs: 2,
      batch: 32,
      params: start,
      precision: 'f64',
      test: set,
    })
    const { loss, accuracy, samples } = await evaluate(held.device, model, start, set, {
      precision: 'f64',
      batch: 40,
    })
    expect(samples).toBe(90)
    expect(metrics.map(({ step, epoch, split }) => [step, epoch, split])).toEqual([
      [3, 1, 'train'],
      [3, 1, 'test'],
      [6, 2, 'train'],
      [6, 2, 'test'],
    ])
    for (const row of metrics) {
      expect(row.loss).toBeCloseTo(loss, 12)
      expect(row.accuracy).toBeCloseTo(accuracy as number, 12)
      expect(row.lr).toBe(0)
    }
  })

  it('report progress and rows in order', async () => {
    const rows: MetricsRow[] = []
    const seen: number[] = []
    const result = await train(held.device, model, set, {
      optimizer: SGD,
      steps: 8,
      batch: 30,
      onMetrics: (row) => void rows.push(row),
      onProgress: ({ step, steps, epoch, loss }) => {
        expect([steps, epoch]).toEqual([8, step / 3])
        expect(loss).toBeGreaterThan(0)
        seen.push(step)
      },
    })
    expect(rows).toEqual(result.metrics)
    expect(rows.map(({ step }) => step)).toEqual([3, 6, 8])
    expect(rows.at(-1)?.epoch).toBeCloseTo(8 / 3, 12)
    expect(seen.length).toBeGreaterThan(0)
    expect(seen).toEqual([...seen].sort((a, b) => a - b))
    expect(result).toMatchObject({ status: 'completed', steps: 8 })
  })

  it('train on values', async () => {
    const values = teacher({ n: 200, dim: 4, classes: 0, outputs: 2, seed: 1 })
    const net = mlp({ input: 4, hidden: [16], classes: 2, activation: 'tanh' })
    const { metrics } = await train(held.device, net, values, {
      optimizer: { kind: 'adam', lr: 0.01 },
      epochs: 60,
      batch: 20,
    })
    expect(metrics.every(({ accuracy }) => accuracy === null)).toBe(true)
    expect(metrics[59].loss).toBeLessThan(0.25 * metrics[0].loss)
  })
})

describe('reproducibility', () => {
  const base: TrainOptions = { optimizer: SGD, epochs: 2, batch: 16, seed: 4 }

  it('same seed, same bits; another seed, other numbers', async () => {
    const first = await train(held.device, noisy, set, base)
    expect(await train(held.device, noisy, set, base)).toEqual(first)
    const other = await train(held.device, noisy, set, { ...base, seed: 5 })
    expect(other.params).not.toEqual(first.params)
    const unshuffled = await train(held.device, noisy, set, { ...base, shuffle: false })
    expect(unshuffled.params).not.toEqual(first.params)
  })

  it.each(OPTIMIZERS.map((spec) => [name(spec), spec] as const))(
    'resumes bit for bit from any step: %s',
    async (_, optimizer) => {
      const batch = optimizer.kind === 'gd' ? undefined : 16
      const options: TrainOptions = {
        optimizer,
        epochs: 3,
        batch,
        seed: 2,
        schedule: { kind: 'cosine', warmup: { steps: 2 } },
        test: set,
      }
      const checkpoints: Checkpoint[] = []
      const whole = await train(held.device, noisy, set, {
        ...options,
        checkpointEvery: 1,
        onCheckpoint: (checkpoint) => void checkpoints.push(checkpoint),
      })
      expect(await train(held.device, noisy, set, options)).toEqual(whole)
      expect(checkpoints.map(({ step }) => step)).toEqual(
        Array.from({ length: whole.steps }, (_, i) => i + 1),
      )
      for (const resume of checkpoints) {
        const rest = await train(held.device, noisy, set, { ...options, resume })
        const { metrics, ...end } = rest
        expect(end).toEqual({ ...whole, metrics: undefined, ...end, params: whole.params })
        expect(rest.checkpoint).toEqual(whole.checkpoint)
        expect(metrics).toEqual(whole.metrics.filter((row) => row.step > resume.step))
      }
    },
  )

  it('goes on with more epochs', async () => {
    const one = await train(held.device, noisy, set, { ...base, epochs: 1 })
    const two = await train(held.device, noisy, set, { ...base, resume: one.checkpoint })
    expect(two.params).toEqual((await train(held.device, noisy, set, base)).params)
  })

  it('refuses the checkpoint of another run, listing what differs', async () => {
    const { checkpoint } = await train(held.device, noisy, set, { ...base, epochs: 1 })
    const resume = { ...base, resume: checkpoint }
    await expect(
      train(held.device, noisy, set, { ...resume, seed: 1, batch: 8 }),
    ).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringMatching(/batch 16 \(now 8\).*seed 4 \(now 1\)/),
    })
  })

  const decay = { ...SGD, weightDecay: 0.1 }
  const frozen = { ...SGD, groups: [{ params: 'layers.0.*', frozen: true }] }
  it.each<[string, Partial<TrainOptions>]>([
    ['optimizer.momentum 0.9 (now 0), 1 moments (now 0)', { optimizer: { kind: 'sgd', lr: 0.05 } }],
    ['optimizer.lr 0.05 (now 0.1)', { optimizer: { ...SGD, lr: 0.1 } }],
    ['optimizer.weightDecay 0 (now 0.1)', { optimizer: decay }],
    ['optimizer.frozen 0 (now [1,1,0,0', { optimizer: frozen }],
    ['loss.smoothing not set (now 0.1)', { loss: { kind: 'cross-entropy', smoothing: 0.1 } }],
    ['schedule.kind "constant" (now "cosine")', { schedule: 'cosine' }],
    ['clipNorm Infinity (now 1)', { clipNorm: 1 }],
  ])('refuses other arithmetic: %s', async (message, options) => {
    const { checkpoint } = await train(held.device, noisy, set, { ...base, epochs: 1 })
    const run = train(held.device, noisy, set, { ...base, resume: checkpoint, ...options })
    const error = { code: 'ERR_ARGUMENT', message: expect.stringContaining(message) }
    await expect(run).rejects.toMatchObject(error)
  })

  it('refuses a model of the same shapes that computes otherwise', async () => {
    const { checkpoint } = await train(held.device, noisy, set, base)
    const other = mlp({ input: 6, hidden: [16], classes: 3, dropout: 0.2, layerNorm: true })
    const run = train(held.device, other, set, { ...base, resume: checkpoint })
    const message = expect.stringContaining('model.dropout 0.3 (now 0.2)')
    await expect(run).rejects.toMatchObject({ code: 'ERR_ARGUMENT', message })
  })

  it('refuses missing moments and long values that differ', async () => {
    const { checkpoint } = await train(held.device, noisy, set, base)
    const bare = { ...checkpoint, moments: [] }
    await expect(train(held.device, noisy, set, { ...base, resume: bare })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringContaining('0 moments'),
    })
    const weighted = (last: number): TrainOptions => {
      const classWeights = [1.123456789012345, 2.123456789012345, 3.123456789012345, last]
      return { ...base, loss: { kind: 'cross-entropy', classWeights: classWeights.slice(1) } }
    }
    const one = await train(held.device, noisy, set, weighted(0.12345678901234))
    const again = { ...weighted(0.12345678901234), epochs: 3, resume: one.checkpoint }
    expect((await train(held.device, noisy, set, again)).steps).toBe(18)
    const other = { ...weighted(0.12345678901235), resume: one.checkpoint }
    await expect(train(held.device, noisy, set, other)).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringContaining('loss.classWeights'),
    })
  })

  it('lets the total change unless the schedule is stretched over it', async () => {
    for (const schedule of ['cosine', 'one-cycle'] as const) {
      const first = await train(held.device, noisy, set, { ...base, schedule })
      const resume = { ...base, schedule, epochs: 4, resume: first.checkpoint }
      await expect(train(held.device, noisy, set, resume)).rejects.toMatchObject({
        code: 'ERR_ARGUMENT',
        message: expect.stringContaining('schedule.steps 12 (now 24)'),
      })
    }
    const schedule = { kind: 'cosine', steps: 12, min: 0.1 } as const
    const first = await train(held.device, noisy, set, { ...base, schedule })
    const longer = { ...base, schedule, epochs: 4 }
    const rest = await train(held.device, noisy, set, { ...longer, resume: first.checkpoint })
    expect(rest.params).toEqual((await train(held.device, noisy, set, longer)).params)
  })
})

describe('aborting', () => {
  const options: TrainOptions = { optimizer: SGD, epochs: 300, batch: 8, seed: 6, test: set }

  async function interrupted(
    abortAfter: (abort: () => void) => Partial<TrainOptions>,
  ): Promise<{ checkpoint: Checkpoint; rows: MetricsRow[] }> {
    const controller = new AbortController()
    const reason = new Error('enough')
    const checkpoints: Checkpoint[] = []
    const rows: MetricsRow[] = []
    const run = train(held.device, noisy, set, {
      ...options,
      signal: controller.signal,
      onCheckpoint: (checkpoint) => void checkpoints.push(checkpoint),
      onMetrics: (row) => void rows.push(row),
      ...abortAfter(() => controller.abort(reason)),
    })
    await expect(run).rejects.toMatchObject({ code: 'ERR_ABORTED', cause: reason })
    expect(checkpoints).toHaveLength(1)
    return { checkpoint: checkpoints[0], rows }
  }

  it('hands over a checkpoint that continues bit for bit, at any moment', async () => {
    const before = live()
    const whole = await train(held.device, noisy, set, options)
    const cuts: ((abort: () => void) => Partial<TrainOptions>)[] = [
      (abort) => ({ onProgress: ({ step }) => step > 50 && abort() }),
      ...[0, 2, 5, 9, 14].map((delay) => (abort: () => void) => {
        setTimeout(abort, delay)
        return {}
      }),
    ]
    for (const cut of cuts) {
      const { checkpoint, rows } = await interrupted(cut)
      expect(checkpoint.step).toBeLessThan(whole.steps)
      const rest = await train(held.device, noisy, set, { ...options, resume: checkpoint })
      expect(rest.params).toEqual(whole.params)
      expect([...rows, ...rest.metrics]).toEqual(whole.metrics)
    }
    await expect.poll(live).toEqual(before)
  })

  it('within onMetrics loses no row', async () => {
    const { checkpoint, rows } = await interrupted((abort) => ({
      onMetrics: () => abort(),
    }))
    expect(rows).toEqual([])
    expect(checkpoint.step).toBe(12)
    expect(checkpoint.epochSums.samples).toBe(0)
  })

  it('by an error in a callback rejects with that error', async () => {
    const before = live()
    const error = new Error('no disk')
    const fail = (): never => {
      throw error
    }
    for (const callback of ['onProgress', 'onMetrics', 'onCheckpoint'] as const) {
      const run = train(held.device, noisy, set, {
        ...options,
        checkpointEvery: 5,
        [callback]: fail,
      })
      await expect(run).rejects.toBe(error)
    }
    await expect.poll(live).toEqual(before)
  })

  it('before it began does nothing', async () => {
    const run = train(held.device, noisy, set, { ...options, signal: AbortSignal.abort() })
    await expect(run).rejects.toMatchObject({ code: 'ERR_ABORTED' })
  })
})

describe('divergence', () => {
  it('is a result', async () => {
    const before = live()
    const values = fromArrays(
      [
        [1, 2],
        [3, -1],
        [0.5, 1],
        [-2, 2],
      ],
      [[1], [2], [3], [-1]],
    )
    const net = mlp({ input: 2, hidden: [8], classes: 1, activation: 'identity' })
    const result = await train(held.device, net, values, {
      optimizer: { kind: 'sgd', lr: 1e6 },
      epochs: 50,
      batch: 2,
    })
    expect(result.status).toBe('diverged')
    expect(result.steps).toBeGreaterThan(0)
    expect(result.steps).toBeLessThan(100)
    expect(Number.isFinite(result.lastFiniteLoss)).toBe(true)
    expect(result.metrics.at(-1)?.step).toBe(result.steps)
    await expect.poll(live).toEqual(before)
  })
})

describe('memory', () => {
  it('holds the parameters, the moments and the data once, no weights of the samples', async () => {
    const large = blobs({ n: 20_000, classes: 2, dim: 1, seed: 1 })
    const net = mlp({ input: 1, hidden: [], classes: 2 })
    const bytes = () => held.device.memory().live.buffer?.bytes ?? 0
    const before = bytes()
    let during = 0
    await train(held.device, net, large, {
      optimizer: SGD,
      batch: 10_000,
      onMetrics: () => {
        during = bytes() - before
      },
    })
    const data = large.inputs.byteLength + large.targets.byteLength
    expect(during).toBeGreaterThanOrEqual(data)
    expect(during).toBeLessThan(data + large.size)
  })
})

describe('misuse', () => {
  it('of a device without memory or that is disposed rejects with a coded error', async () => {
    const { binding } = held.device
    const options: TrainOptions = { optimizer: SGD }
    binding.setMemoryLimit(1)
    try {
      const error = { name: 'LosscapeError', code: 'ERR_OUT_OF_MEMORY' }
      await expect(train(held.device, model, set, options)).rejects.toMatchObject(error)
    } finally {
      binding.setMemoryLimit(0)
    }
    const other = await open({ device: 'cpu', threads: 1 })
    other.dispose()
    const error = { name: 'LosscapeError', code: 'ERR_DISPOSED' }
    await expect(train(other, model, set, options)).rejects.toMatchObject(error)
  })

  it.each<[string, string, Partial<TrainOptions>]>([
    ['ERR_ARGUMENT', 'larger than data set', { batch: 91 }],
    ['ERR_ARGUMENT', 'batch', { batch: 0 }],
    ['ERR_ARGUMENT', 'batch', { batch: 16, optimizer: { kind: 'gd' } }],
    ['ERR_ARGUMENT', 'epochs', { epochs: 0 }],
    ['ERR_ARGUMENT', 'steps', { steps: 1.5 }],
    ['ERR_ARGUMENT', 'both', { steps: 1, epochs: 1 }],
    ['ERR_ARGUMENT', 'seed', { seed: -1 }],
    ['ERR_ARGUMENT', 'precision', { precision: 'f16' as 'f32' }],
    ['ERR_ARGUMENT', 'checkpointEvery', { checkpointEvery: 0 }],
    ['ERR_ARGUMENT', 'clipNorm', { clipNorm: -1 }],
    ['ERR_ARGUMENT', 'Unknown loss', { loss: 'l7' as 'mse' }],
    ['ERR_ARGUMENT', 'needs target values', { loss: 'mse' }],
    ['ERR_SHAPE', 'n = ', { params: [1, 2] }],
    ['ERR_NOT_FINITE', 'layers.0.weight', { params: model.init().fill(Number.NaN) }],
    ['ERR_SHAPE', 'takes samples', { test: blobs({ n: 10, classes: 3, dim: 5 }) }],
    ['ERR_RANGE', 'classes', { test: blobs({ n: 10, classes: 4, dim: 6 }) }],
  ])('%s: %s', async (code, message, options) => {
    const before = live()
    const run = train(held.device, model, set, { optimizer: SGD, ...options })
    await expect(run).rejects.toMatchObject({ code, message: expect.stringContaining(message) })
    await expect.poll(live).toEqual(before)
  })
})
