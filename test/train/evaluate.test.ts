import { describe, expect, it } from 'vitest'
import { fromArrays } from '../../lib/data/arrays.js'
import { blobs } from '../../lib/data/synthetic/blobs.js'
import { mlp } from '../../lib/nn/mlp.js'
import { evaluate } from '../../lib/train/evaluate.js'
import { liveHandles, testDevice } from './cases.js'

const held = testDevice()
const set = blobs({ n: 101, classes: 3, dim: 4, seed: 2 })
const model = mlp({ input: 4, hidden: [], classes: 3, dropout: 0.5 })
const theta = model.init(1)

/** Softmax cross-entropy of a linear model, by hand. */
function byHand(): { loss: number; accuracy: number } {
  const w = model.layout.view(theta, 'layers.0.weight')
  const b = model.layout.view(theta, 'layers.0.bias')
  let loss = 0
  let right = 0
  for (let i = 0; i < set.size; i++) {
    const z = [0, 1, 2].map((c) =>
      [0, 1, 2, 3].reduce((sum, k) => sum + w[c * 4 + k] * set.inputs[i * 4 + k], b[c]),
    )
    loss += Math.log(z.reduce((sum, v) => sum + Math.exp(v), 0)) - z[set.targets[i]]
    if (z.indexOf(Math.max(...z)) === set.targets[i]) right++
  }
  return { loss: loss / set.size, accuracy: right / set.size }
}

describe('evaluate', () => {
  it('is the mean over all samples, for any chunk size', async () => {
    const { loss, accuracy } = byHand()
    for (const batch of [1, 7, 50, 101, 4096]) {
      const result = await evaluate(held.device, model, theta, set, { batch, precision: 'f64' })
      expect(result.loss).toBeCloseTo(loss, 12)
      expect(result).toMatchObject({ accuracy, samples: 101 })
    }
    const single = await evaluate(held.device, model, theta, set)
    expect(Math.abs(single.loss - loss) / loss).toBeLessThan(1e-6)
  })

  it('normalises pixels', async () => {
    const pixels = fromArrays(Uint8Array.of(0, 255, 51, 102), Float64Array.of(0, 0), {
      shape: [2],
      targetShape: [1],
      normalization: { mean: [0.2, 0.4], std: [0.5, 0.25] },
    })
    const sum = mlp({ input: 2, hidden: [], classes: 1, bias: false })
    const z = [(0 - 0.2) / 0.5 + (1 - 0.4) / 0.25, 0]
    const { loss, accuracy } = await evaluate(held.device, sum, [1, 1], pixels, {
      precision: 'f64',
    })
    expect(loss).toBeCloseTo((z[0] ** 2 + z[1] ** 2) / 2, 12)
    expect(accuracy).toBeNull()
  })

  it('frees everything, also when aborted', async () => {
    const before = liveHandles(held.device)
    await evaluate(held.device, model, theta, set)
    const signal = AbortSignal.abort()
    await expect(evaluate(held.device, model, theta, set, { signal })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    })
    await expect.poll(() => liveHandles(held.device)).toEqual(before)
  })

  it('reports samples done, and rejects with what the callback throws', async () => {
    const seen: number[] = []
    const onProgress = (done: number, total: number): void => {
      expect(total).toBe(101)
      seen.push(done)
    }
    const plain = await evaluate(held.device, model, theta, set, { batch: 30 })
    expect(await evaluate(held.device, model, theta, set, { batch: 30, onProgress })).toEqual(plain)
    expect(seen).toEqual([26, 52, 78, 101])

    const before = liveHandles(held.device)
    const error = Object.assign(new Error('no terminal'), { code: 'ERR_ABORTED' })
    let calls = 0
    const failing = evaluate(held.device, model, theta, set, {
      batch: 1,
      signal: new AbortController().signal,
      onProgress: () => {
        calls++
        throw error
      },
    })
    await expect(failing).rejects.toBe(error)
    expect(calls).toBe(1)
    await expect.poll(() => liveHandles(held.device)).toEqual(before)

    const signal = AbortSignal.abort('enough')
    await expect(
      evaluate(held.device, model, theta, set, { signal, onProgress }),
    ).rejects.toMatchObject({ code: 'ERR_ABORTED', cause: 'enough' })
  })

  it('refuses what does not fit', async () => {
    const cases: [string, Promise<unknown>][] = [
      ['ERR_SHAPE', evaluate(held.device, model, [1], set)],
      [
        'ERR_NOT_FINITE',
        evaluate(
          held.device,
          model,
          theta.map(() => Number.NaN),
          set,
        ),
      ],
      ['ERR_ARGUMENT', evaluate(held.device, model, theta, set, { batch: 0 })],
      ['ERR_ARGUMENT', evaluate(held.device, model, theta, set, { loss: 'mse' })],
    ]
    for (const [code, promise] of cases) await expect(promise).rejects.toMatchObject({ code })
  })
})
