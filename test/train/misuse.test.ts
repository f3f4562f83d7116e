import { describe, expect, it } from 'vitest'
import { fromArrays } from '../../lib/data/arrays.js'
import type { DataSet } from '../../lib/data/dataset.js'
import { withSize } from '../../lib/data/resize.js'
import { mlp } from '../../lib/nn/mlp.js'
import { evaluate } from '../../lib/train/evaluate.js'
import type { TrainOptions } from '../../lib/train/options.js'
import { train } from '../../lib/train/train.js'
import { testDevice } from './cases.js'

const held = testDevice()
const pixels = Uint8Array.from({ length: 12 * 48 }, (_, i) => (i * 37) % 256)
const labels = Int32Array.from({ length: 12 }, (_, i) => i % 3)
const images = fromArrays(pixels, labels, { shape: [3, 4, 4], classes: 3 })
const vectors = fromArrays(pixels, labels, { shape: [48], classes: 3 })
const model = mlp({ input: [3, 4, 4], hidden: [4], classes: 3 })
const sgd: TrainOptions = { optimizer: { kind: 'sgd', lr: 0.1 }, epochs: 1, batch: 4 }

const attempt = (options: object, set: DataSet = images) =>
  train(held.device, model, set, { ...sgd, ...options } as TrainOptions)

describe('a set whose arrays are not what it says', () => {
  const short = { ...images, inputs: pixels.subarray(48) }
  const message = /12 samples of shape \[3,4,4\] need 576 inputs; got 528/

  it.each([
    ['plain training', () => attempt({}, short)],
    ['training with workers', () => attempt({ augment: { flip: true } }, short)],
    ['mixed batches', () => attempt({ mixup: 0.8, workers: 1 }, short)],
    ['the test rows', () => attempt({ test: short })],
    ['evaluation', () => evaluate(held.device, model, model.init(), short)],
  ])('is refused before %s', async (_, call) => {
    const error = await call().then(
      () => null,
      (reason: unknown) => reason,
    )
    expect(error).toMatchObject({
      code: 'ERR_SHAPE',
      message: expect.stringMatching(message),
    })
  })

  it('is refused for its targets too', async () => {
    const few = { ...images, targets: labels.subarray(1) }
    await expect(attempt({ augment: {} }, few)).rejects.toMatchObject({
      code: 'ERR_SHAPE',
      message: expect.stringContaining('12 targets; got 11'),
    })
  })
})

describe('training refuses', () => {
  it.each<[object, string, RegExp]>([
    [{ shuffle: 'x' }, 'ERR_ARGUMENT', /shuffle to be true or false, got x/],
    [{ dropLast: 1 }, 'ERR_ARGUMENT', /dropLast to be true or false, got 1/],
    [{ augment: null }, 'ERR_ARGUMENT', /augment .*an object, got null/],
    [{ augment: true }, 'ERR_ARGUMENT', /augment .*an object, got true/],
    [{ augment: { randAugment: 'm100' } }, 'ERR_ARGUMENT', /magnitude .*from 0 to 30, got 100/],
    [{ augment: { randAugment: { most: 99 } } }, 'ERR_ARGUMENT', /most .*from 0 to 30, got 99/],
    [{ augment: { size: [0, 4] } }, 'ERR_ARGUMENT', /size .*got \[0, 4\]/],
  ])('%o', async (options, code, message) => {
    await expect(attempt(options)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })

  it.each(['mixup', 'cutmix'])('%s of what is no image, saying so', async (name) => {
    await expect(attempt({ [name]: 1 }, vectors)).rejects.toMatchObject({
      code: 'ERR_SHAPE',
      message: expect.stringMatching(/mixup and cutmix mix images .*\[48\] are none/),
    })
  })
})

describe('withSize', () => {
  it.each<[unknown, string]>([
    [1e9, '1000000000'],
    [[4, 1e9], '[4, 1000000000]'],
    [[3, 0.5], '[3, 0.5]'],
    [[1, 2, 3], '[1, 2, 3]'],
  ])('refuses %o and says what came', (size, got) => {
    expect(() => withSize(images, size as number)).toThrow(
      expect.objectContaining({
        code: 'ERR_ARGUMENT',
        message: expect.stringMatching(
          new RegExp(`up to 16384, or \\[height, width\\].*got ${got.replace(/[[\]]/g, '\\$&')}`),
        ),
      }),
    )
  })
})
