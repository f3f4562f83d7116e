import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { load } from '../../lib/data/load.js'
import { labelNoise } from '../../lib/data/select.js'
import { blobs } from '../../lib/data/synthetic/blobs.js'
import { glyphs } from '../../lib/data/synthetic/glyphs.js'
import { spirals } from '../../lib/data/synthetic/planar.js'
import { mlp } from '../../lib/nn/mlp.js'
import { evaluate } from '../../lib/train/evaluate.js'
import type { OptimizerSpec } from '../../lib/train/optimizer.js'
import { train } from '../../lib/train/train.js'
import { testDevice } from './cases.js'

const held = testDevice()

describe('the embedded images', () => {
  it('need hidden layers: an MLP passes 95 % on the test set, a linear model stays below 70 %', async () => {
    const set = await glyphs()
    const test = await glyphs({ split: 'test' })
    const accuracy = async (hidden: number[], optimizer: OptimizerSpec): Promise<number> => {
      const model = mlp({ input: set.shape, hidden, classes: 10 })
      const run = await train(held.device, model, set, {
        optimizer,
        schedule: 'cosine',
        epochs: 6,
        batch: 64,
        seed: 1,
        test,
      })
      return run.metrics.at(-1)?.accuracy as number
    }
    expect(await accuracy([128, 64], { kind: 'adam', lr: 2e-3 })).toBeGreaterThan(0.95)
    const linear = await accuracy([], { kind: 'adam', lr: 2e-3 })
    expect(linear).toBeGreaterThan(0.2)
    expect(linear).toBeLessThan(0.7)
  })
})

describe('small sets', () => {
  it.each<OptimizerSpec>([
    { kind: 'sgd', lr: 0.1, momentum: 0.9 },
    { kind: 'adam', lr: 0.01 },
    { kind: 'adamw', lr: 0.01 },
  ])('spirals are learnt by %o', async (optimizer) => {
    const set = spirals({ n: 400, seed: 1 })
    const model = mlp({ input: 2, hidden: [32, 32], classes: 2, activation: 'tanh' })
    const { metrics } = await train(held.device, model, set, {
      optimizer,
      epochs: 150,
      batch: 40,
      seed: 1,
    })
    expect(metrics.at(-1)?.accuracy).toBeGreaterThan(0.95)
  })

  it('label noise is memorised, and costs accuracy on clean labels', async () => {
    const clean = blobs({ n: 150, classes: 3, dim: 20, seed: 3 })
    const noisy = labelNoise(clean, 0.4, 1)
    const model = mlp({ input: 20, hidden: [128], classes: 3 })
    const { params } = await train(held.device, model, noisy, {
      optimizer: { kind: 'adam', lr: 5e-3 },
      epochs: 150,
      batch: 30,
    })
    const fit = await evaluate(held.device, model, params, noisy)
    const truth = await evaluate(held.device, model, params, clean)
    expect(fit.accuracy).toBeGreaterThan(0.97)
    expect(truth.accuracy).toBeLessThan(0.85)
  })
})

const root = process.env.LOSSCAPE_DATA ?? resolve(import.meta.dirname, '../../../shared/data')
const mnist = join(root, 'mnist')
if (!existsSync(mnist)) {
  console.warn(`${mnist} is absent: its tests are left out. Set LOSSCAPE_DATA to the data root.`)
}

describe.runIf(existsSync(mnist))('MNIST', () => {
  it('passes 96 % after one epoch', async () => {
    const set = await load(`mnist:${mnist}`)
    const test = await load(`mnist:${mnist}`, { split: 'test' })
    const model = mlp({ input: set.shape, hidden: [256, 256], classes: 10 })
    const { metrics } = await train(held.device, model, set, {
      optimizer: { kind: 'sgd', lr: 0.1, momentum: 0.9 },
      schedule: 'one-cycle',
      epochs: 1,
      batch: 128,
      seed: 1,
      test,
    })
    expect(metrics.at(-1)).toMatchObject({ split: 'test', epoch: 1 })
    expect(metrics.at(-1)?.accuracy).toBeGreaterThan(0.96)
  })
})
