import { afterAll, beforeAll } from 'vitest'
import { fromArrays } from '../../lib/data/arrays.js'
import type { DataSet } from '../../lib/data/dataset.js'
import { type Device, open } from '../../lib/device/device.js'
import type { Loss } from '../../lib/nn/loss.js'
import { defineModel, type Model } from '../../lib/nn/model.js'
import * as ops from '../../lib/ops/index.js'
import type { OptimizerSpec } from '../../lib/train/optimizer.js'

/** The device of a test file; closed after its tests, which must have freed what they made. */
export function testDevice(): { readonly device: Device } {
  const held: { device: Device } = { device: undefined as unknown as Device }
  beforeAll(async () => {
    // One thread: test files run side by side, and threads that wait for each other by spinning
    // lose milliseconds at every barrier when there are more of them than cores.
    held.device = await open({ device: 'cpu', threads: 1 })
  })
  afterAll(() => held.device.dispose())
  return held
}

/** Live handles by kind, without executables and their arenas: those belong to the device's cache. */
export function liveHandles(device: Device): Record<string, number> {
  const { live } = device.memory()
  return Object.fromEntries(
    Object.entries(live)
      .filter(([kind, { count }]) => count > 0 && !['executable', 'arena'].includes(kind))
      .map(([kind, { count }]) => [kind, count]),
  )
}

/** L(x) = ½ Σ a_i (x_i - c_i)², as a model that answers x to its only sample. */
export const QUADRATIC: { model: Model; loss: Loss; set: DataSet; start: number[] } = {
  model: defineModel({
    name: 'quadratic',
    input: [1],
    output: [3],
    parameters: [{ name: 'x', shape: [3], init: { kind: 'zeros' } }],
    apply: ({ x }, samples) => ops.broadcastTo(ops.reshape(x, [1, 3]), [samples.shape[0], 3]),
  }),
  loss: {
    name: 'quadratic',
    targets: 'values',
    perSample: (z, c) => {
      const d = ops.sub(z, c)
      const a = ops.constant([1, 3, 0.1], { dtype: z.dtype, shape: [1, 3] })
      return ops.mul(ops.sum(ops.mul(ops.mul(d, d), a), [1]), 0.5)
    },
  },
  set: fromArrays([[0]], Float64Array.of(0.2, 0.4, -1), { targetShape: [3] }),
  start: [1, -2, 0.5],
}

export const OPTIMIZERS: readonly OptimizerSpec[] = [
  { kind: 'sgd', lr: 0.05 },
  { kind: 'sgd', lr: 0.05, momentum: 0.9, weightDecay: 1e-3 },
  { kind: 'sgd', lr: 0.05, momentum: 0.9, nesterov: true },
  { kind: 'adam', lr: 0.01 },
  { kind: 'adamw', lr: 0.01 },
  { kind: 'gd', lr: 0.1 },
]
