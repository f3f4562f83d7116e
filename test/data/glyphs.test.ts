import { describe, expect, it } from 'vitest'
import { type DataSet, glyphs, normalizedInputs, statistics } from '../../lib/data/index.js'
import { normals, permutation } from '../../lib/random/index.js'

function fnv(bytes: Iterable<number>): number {
  let hash = 0x811c9dc5
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193)
  return hash >>> 0
}

/** One layer, weights [out, in] with a bias column's worth of zeros kept apart. */
interface Layer {
  inputs: number
  outputs: number
  weight: Float32Array
  bias: Float32Array
}

/** Stochastic gradient descent (batch 1, He initialization, ReLU, softmax); a plain oracle. */
function testAccuracy(
  widths: number[],
  train: DataSet,
  test: DataSet,
  epochs: number,
  rate: number,
) {
  const layers: Layer[] = widths.slice(1).map((outputs, k) => {
    const inputs = widths[k]
    const weight = normals(1, k, 0, inputs * outputs, new Float32Array(inputs * outputs))
    const scale = Math.sqrt(2 / inputs)
    return {
      inputs,
      outputs,
      weight: weight.map((w) => w * scale),
      bias: new Float32Array(outputs),
    }
  })
  const values = widths.map((width) => new Float32Array(width))
  const slopes = widths.map((width) => new Float32Array(width))

  const forward = (x: Float32Array) => {
    values[0].set(x)
    layers.forEach(({ inputs, outputs, weight, bias }, k) => {
      const from = values[k]
      for (let o = 0; o < outputs; o++) {
        let sum = bias[o]
        for (let i = 0, w = o * inputs; i < inputs; i++, w++) sum += weight[w] * from[i]
        values[k + 1][o] = k < layers.length - 1 && sum < 0 ? 0 : sum
      }
    })
    return values[layers.length]
  }
  const step = (label: number, rateNow: number) => {
    const scores = values[layers.length]
    const most = scores.reduce((a, b) => Math.max(a, b))
    const total = scores.reduce((sum, s) => sum + Math.exp(s - most), 0)
    scores.forEach((s, c) => {
      slopes[layers.length][c] = Math.exp(s - most) / total - (c === label ? 1 : 0)
    })
    for (let k = layers.length - 1; k >= 0; k--) {
      const { inputs, outputs, weight, bias } = layers[k]
      const below = slopes[k].fill(0)
      const from = values[k]
      for (let o = 0; o < outputs; o++) {
        const slope = slopes[k + 1][o]
        if (slope === 0) continue
        bias[o] -= rateNow * slope
        for (let i = 0, w = o * inputs; i < inputs; i++, w++) {
          below[i] += weight[w] * slope
          weight[w] -= rateNow * slope * from[i]
        }
      }
      if (k > 0) for (let i = 0; i < inputs; i++) if (from[i] === 0) below[i] = 0
    }
  }

  const x = normalizedInputs(train)
  const xTest = normalizedInputs(test)
  for (let epoch = 0; epoch < epochs; epoch++) {
    const rateNow = rate * (1 - epoch / epochs)
    for (const i of permutation(2, epoch, train.size)) {
      forward(x.subarray(i * 256, (i + 1) * 256))
      step(train.targets[i], rateNow)
    }
  }
  let right = 0
  for (let i = 0; i < test.size; i++) {
    const scores = forward(xTest.subarray(i * 256, (i + 1) * 256))
    if (scores.indexOf(scores.reduce((a, b) => Math.max(a, b))) === test.targets[i]) right++
  }
  return right / test.size
}

describe('glyphs', () => {
  it('makes the same bytes everywhere, from streams of their own for train and test', async () => {
    const train = await glyphs({ n: 200, seed: 5 })
    expect(fnv(train.inputs)).toBe(3158606780)
    expect((await glyphs({ n: 50, seed: 5 })).inputs).toEqual(train.inputs.slice(0, 50 * 256))
    const test = await glyphs({ n: 200, test: 200, seed: 5, split: 'test' })
    expect(test.inputs).not.toEqual(train.inputs)
    expect(train).toMatchObject({ name: 'glyphs', shape: [16, 16], classes: 10 })
    expect(train.classNames).toHaveLength(10)
  })

  it('has the statistics that its normalization states, and 10 balanced classes', async () => {
    const set = await glyphs({ n: 3000 })
    const { mean, std } = statistics(set)
    expect(Math.abs(mean[0] - set.normalization.mean[0])).toBeLessThan(0.01)
    expect(Math.abs(std[0] - set.normalization.std[0])).toBeLessThan(0.01)
    const counts = new Array<number>(10).fill(0)
    for (const label of set.targets) counts[label]++
    expect(counts).toEqual(new Array(10).fill(300))
  })

  it('lets the event loop turn while it draws', async () => {
    let turns = 0
    const timer = setInterval(() => turns++, 1)
    await glyphs({ n: 6000 })
    clearInterval(timer)
    expect(turns).toBeGreaterThan(5)
  })

  it('defeats a linear classifier and yields to a perceptron', { timeout: 180_000 }, async () => {
    const train = await glyphs({ n: 4000 })
    const test = await glyphs({ test: 1000, split: 'test' })
    expect(testAccuracy([256, 10], train, test, 4, 0.002)).toBeLessThan(0.7)
    expect(testAccuracy([256, 64, 32, 10], train, test, 6, 0.01)).toBeGreaterThan(0.95)
  })
})
