import type { Device } from '../device/device.js'
import type { NativeBuffer, NativeView } from '../native.js'
import type { ParameterLayout } from '../nn/layout.js'
import { type DataSumOptions, dataSum } from './data-sum.js'
import { allocate } from './operator.js'
import { gradientProgram } from './programs.js'
import type { CurvatureSetting } from './setting.js'

/**
 * ḡ = (1/N) Σ g_i in device storage, computed by the queue before whatever is queued later: a sum
 * over chunks of a program without tangents.
 */
export function meanGradient(
  device: Device,
  setting: CurvatureSetting,
  layout: ParameterLayout,
  inputs: NativeView[][],
  run: Pick<DataSumOptions, 'precision' | 'sideBySide'>,
): NativeBuffer {
  const program = gradientProgram(setting)
  const gradient = { ...program, outputs: program.outputs.slice(1) }
  const scale = 1 / setting.set.size
  const native = dataSum(device, gradient, layout, inputs, { ...run, scale })
  // NaN until the gradient is there: if its job fails, no product passes for a result.
  const unknown = allocate(run.precision, layout.storage).fill(Number.NaN)
  const mean = device.binding.createBuffer(unknown.byteLength)
  const view = { buffer: mean, offset: 0 }
  mean.write(0, unknown).catch(() => {})
  native.apply(inputs[0][0], view, 1).catch(() => {})
  native.dispose()
  return mean
}
