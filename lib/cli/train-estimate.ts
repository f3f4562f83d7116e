import { subset } from '../data/index.js'
import type { Device } from '../device/device.js'
import { train } from '../train/train.js'
import type { PreparedTraining } from './train-run.js'

/** What `--dry-run` tells. */
export interface Estimate {
  value: {
    n: number
    samples: number
    memory_bytes: number
    time_ms: number
    [key: string]: number
  }
  text: string
}

/** Times a few steps on a part of the data and extrapolates. */
export async function estimateTraining(
  device: Device,
  { model, set, test, recipe, seed }: PreparedTraining,
  signal: AbortSignal,
): Promise<Estimate> {
  const { epochs, ...options } = recipe
  const full = recipe.optimizer.kind === 'gd'
  const batch = full ? set.size : Math.min(recipe.batch ?? 128, set.size)
  const part = full ? set : subset(set, { limit: Math.min(set.size, 4 * batch) })
  const time = async (steps: number): Promise<number> => {
    const begin = performance.now()
    await train(device, model, part, { ...options, seed, steps, signal })
    return performance.now() - begin
  }
  const [few, more] = full ? [1, 3] : [2, 18]
  await time(few)
  const [longer, shorter] = [await time(more), await time(few)]
  // Steps shorter than the noise: the set-up is then part of the estimate, an upper bound.
  const perStep = longer > shorter ? (longer - shorter) / (more - few) : longer / more
  const steps = epochs * Math.ceil(set.size / batch)
  // A test pass is a forward pass, a third of a step, over its samples after every epoch.
  const testSteps = test ? (epochs * test.size) / batch / 3 : 0
  const bytes = (a: { inputs: ArrayBufferView; targets: ArrayBufferView }): number =>
    a.inputs.byteLength + a.targets.byteLength
  const missing = bytes(set) - bytes(part) + (test ? bytes(test) : 0)
  return describeEstimate({
    n: model.size,
    samples: set.size,
    steps,
    memory_bytes: device.memory().peakBytes + missing,
    time_ms: perStep * (steps + testSteps),
  })
}

export function describeEstimate(value: Estimate['value']): Estimate {
  const { n, memory_bytes: bytes, time_ms: time, ...counts } = value
  const lines = [
    ['n', n.toLocaleString('en-US')],
    ...Object.entries(counts).map(([name, count]) => [name, count.toLocaleString('en-US')]),
    ['memory', `${(bytes / 2 ** 20).toFixed(1)} MiB`],
    [
      'time',
      time < 120_000
        ? `about ${(time / 1000).toFixed(1)} s`
        : `about ${Math.round(time / 60_000)} min`,
    ],
  ]
  return { value, text: lines.map(([name, text]) => `${name.padEnd(10)} ${text}`).join('\n') }
}
