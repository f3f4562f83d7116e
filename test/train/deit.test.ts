import { describe, expect, it } from 'vitest'
import { fromArrays } from '../../lib/data/arrays.js'
import { defineModel } from '../../lib/nn/model.js'
import * as ops from '../../lib/ops/index.js'
import { deitRecipe } from '../../lib/train/deit.js'
import { resolvePlan } from '../../lib/train/options.js'

const set = fromArrays(new Uint8Array(1280 * 12), new Int32Array(1280), {
  shape: [3, 2, 2],
  classes: 10,
})
const model = defineModel({
  name: 'small',
  input: [3, 2, 2],
  output: [10],
  parameters: [
    { name: 'head.weight', shape: [10, 12], init: { kind: 'zeros' } },
    { name: 'head.bias', shape: [10], init: { kind: 'zeros' } },
  ],
  apply: (p, x) =>
    ops.add(
      ops.matmul(ops.reshape(x, [x.shape[0], 12]), p['head.weight'], { transB: true }),
      p['head.bias'],
    ),
})

describe('the recipe', () => {
  it('has the learning rates of the protocol', () => {
    const plan = resolvePlan(model, set, deitRecipe(set))
    const rate = (step: number) => plan.optimizer.lr * plan.schedule(step)
    // 10 steps an epoch, 100 epochs: 1.25e-4 at 128, warm-up over 50 steps.
    expect(plan.steps).toBe(1000)
    expect(plan.optimizer.lr).toBeCloseTo(1.25e-4, 12)
    expect(rate(0)).toBeCloseTo(1e-6, 12)
    expect(rate(25)).toBeCloseTo((1e-6 + 1.25e-4) / 2, 12)
    expect(rate(50)).toBeCloseTo(1.25e-4, 12)
    expect(rate(525)).toBeCloseTo((1.25e-4 + 1e-5) / 2, 12)
    expect(rate(1000)).toBeCloseTo(1e-5, 12)
    expect(resolvePlan(model, set, deitRecipe(set, { batch: 32 })).optimizer.lr).toBeCloseTo(
      3.125e-5,
      12,
    )
  })

  it('has its other numbers', () => {
    const { optimizer, feed, ema, setting } = resolvePlan(model, set, deitRecipe(set))
    expect(optimizer).toMatchObject({
      kind: 'adamw',
      native: { beta1: 0.9, beta2: 0.999, epsilon: 1e-6, clipNorm: 1 },
    })
    expect([...optimizer.segments.decay]).toEqual([0.05, 0])
    expect(ema).toEqual({ decay: 0.99992, warmup: false })
    expect(feed).toMatchObject({
      mix: { mixup: 0.8, cutmix: 1, switchProbability: 0.5, classes: 10 },
      augment: {
        resizedCrop: { scale: [0.08, 1], ratio: [0.67, 1.5] },
        flip: 0.5,
        randAugment: { magnitude: 15, count: 2, deviation: 1 },
        colourJitter: { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0 },
      },
    })
    expect(setting.recipe).toMatchObject({ 'loss.smoothing': '0.1', 'ema.decay': '0.99992' })
  })

  it('fits short runs and tiny rates', () => {
    const short = deitRecipe(set, { epochs: 2 })
    expect(short.schedule).toMatchObject({ warmup: { steps: 5 } })
    const plan = resolvePlan(model, set, deitRecipe(set, { batch: 1, epochs: 1 }))
    expect(plan.schedule(0)).toBe(1)
    for (const bad of [{ epochs: 0 }, { batch: 0 }, { lr: 0 }, { warmupEpochs: -1 }, { x: 1 }]) {
      expect(() => deitRecipe(set, bad as object)).toThrow(
        expect.objectContaining({ code: 'ERR_ARGUMENT' }),
      )
    }
  })
})
