import { totalmem } from 'node:os'
import { type DataSet, subset } from '../data/index.js'
import type { Device } from '../device/device.js'
import { evaluate } from '../train/evaluate.js'
import { resolvePlan } from '../train/options.js'
import { train } from '../train/train.js'
import { checkpointSteps, type PreparedTraining } from './train-run.js'

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

/** Bytes per second of a checkpoint with its flush to the disk, and milliseconds of any file. */
const DISK_RATE = 300e6
const FILE_MS = 5

/**
 * Times a few steps and a test pass on a part of the data and extrapolates. What the first ones take
 * longer than the next (tracing, compiling, first use of libraries) counts once.
 */
export async function estimateTraining(
  device: Device,
  prepared: PreparedTraining,
  signal: AbortSignal,
): Promise<Estimate> {
  const { model, set, test, recipe, seed } = prepared
  const { epochs, ...options } = recipe
  const full = recipe.optimizer.kind === 'gd'
  const most = (recipe.batch ?? 128) * (recipe.accumulate ?? 1)
  const batch = full ? set.size : Math.min(most, set.size)
  const part = full ? set : subset(set, { limit: Math.min(set.size, 4 * batch) })
  const time = async (steps: number): Promise<number> => {
    const begin = performance.now()
    await train(device, model, part, { ...options, seed, steps, signal })
    return performance.now() - begin
  }
  const [few, more] = full ? [1, 3] : [2, 18]
  const first = await time(few)
  const [longer, shorter] = [await time(more), await time(few)]
  // Steps shorter than the noise: the set-up is then part of the estimate, an upper bound.
  const perStep = longer > shorter ? (longer - shorter) / (more - few) : longer / more
  const setUp = Math.max(0, first - few * perStep)
  const tests = test ? await timeTests(device, prepared, test, signal) : { first: 0, next: 0 }
  const steps = epochs * Math.ceil(set.size / batch)
  const { optimizer } = resolvePlan(model, set, { ...recipe, seed })
  const saves = Math.floor(steps / checkpointSteps(set.size, batch))
  const vector = model.size * (recipe.precision === 'f64' ? 8 : 4)
  const saved = vector * (1 + saves * (1 + optimizer.moments))
  const bytes = (a: { inputs: ArrayBufferView; targets: ArrayBufferView }): number =>
    a.inputs.byteLength + a.targets.byteLength
  const missing = bytes(set) - bytes(part) + (test ? bytes(test) : 0)
  return describeEstimate({
    n: model.size,
    samples: set.size,
    steps,
    memory_bytes: device.memory().peakBytes + missing,
    time_ms:
      setUp +
      perStep * steps +
      tests.first +
      tests.next * (epochs - 1) +
      FILE_MS * (saves + 3) +
      (1000 * saved) / DISK_RATE,
  })
}

/** Bytes of vectors of n numbers from which a training says so before it begins. */
const LARGE = 2 ** 30

/**
 * What to tell about a model whose vectors alone are large: the start vector, which is float64, and
 * weights, gradient, moments and average on the device. Null for others.
 */
export function sizeWarning({ model, set, recipe, seed }: PreparedTraining): string | null {
  const { optimizer, ema } = resolvePlan(model, set, { ...recipe, seed })
  const stored = (2 + optimizer.moments + (ema ? 1 : 0)) * (recipe.precision === 'f64' ? 8 : 4)
  const bytes = model.size * (8 + stored)
  if (bytes < LARGE) return null
  const gib = (amount: number): string => `${(amount / 2 ** 30).toFixed(1)} GiB`
  return (
    `${model.name} has ${model.size.toLocaleString('en-US')} parameters: its vectors alone take ` +
    `${gib(bytes)} (this machine has ${gib(totalmem())}), and every checkpoint is large. ` +
    '--dry-run estimates memory and time.'
  )
}

/** Samples of the test split that are timed at most. */
const TEST_SAMPLES = 4096

async function timeTests(
  device: Device,
  { model, recipe, seed }: PreparedTraining,
  test: DataSet,
  signal: AbortSignal,
): Promise<{ first: number; next: number }> {
  const { loss, precision } = recipe
  const part = test.size > TEST_SAMPLES ? subset(test, { limit: TEST_SAMPLES }) : test
  const params = await model.initAsync(seed, { signal })
  const times: number[] = []
  for (let i = 0; i < 2; i++) {
    const begin = performance.now()
    await evaluate(device, model, params, part, { loss, precision, signal })
    times.push(performance.now() - begin)
  }
  const next = (times[1] * test.size) / part.size
  return { first: next + Math.max(0, times[0] - times[1]), next }
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
