import { compileProgram } from '../device/compile.js'
import type { Device } from '../device/device.js'
import type { NativeOperator, NativeView } from '../native.js'
import type { ParameterLayout } from '../nn/layout.js'
import { type Linearized, splitLinear } from '../program/linearize.js'
import { simplify } from '../program/passes/index.js'
import type { Program } from '../program/types.js'
import type { Precision } from './operator.js'

export interface DataSumOptions {
  readonly precision: Precision
  readonly sideBySide: boolean
  /** Factor of the sum. */
  readonly scale: number
  /** Where the last input of the program lies, when it is shared by all chunks: an i32 [1]. */
  readonly selector?: NativeView
  /** Bytes that may be kept of what does not depend on the selector. Default 0. */
  readonly keepBytes?: number
}

/**
 * scale Σ over chunks of a program's outputs, one per parameter tensor of `layout`, accumulated in
 * float64: an operator that does not read its vector. Whoever applies it changes the selector
 * before, in queue order.
 *
 * @param inputs per chunk, one view per input of the program but the selector
 */
export function dataSum(
  device: Device,
  program: Program,
  layout: ParameterLayout,
  inputs: NativeView[][],
  options: DataSumOptions,
): NativeOperator {
  const { precision, selector } = options
  const compileOptions = options.sideBySide ? { threads: 1 } : {}
  const split: Linearized = selector
    ? splitLinear(
        program,
        program.inputs.map((_, i) => i === program.inputs.length - 1),
      )
    : whole(program)
  const shared = inputs[0].length
  return device.binding.createOperator({
    dtype: precision,
    storage: layout.storage,
    segments: layout.segments(),
    scale: options.scale,
    primal:
      split.kept.length > 0
        ? compileProgram(device, split.primal, precision, compileOptions)
        : undefined,
    primalInputs: inputs,
    linear: [
      { tangents: 1, executable: compileProgram(device, split.linear, precision, compileOptions) },
    ],
    linearInputs: split.inputs.map(({ kind, index }) => {
      if (kind === 'kept') return { kind, index }
      return { kind: 'chunk', index: kind === 'input' ? index : shared }
    }),
    chunkInputs: selector ? inputs.map((views) => [...views, selector]) : inputs,
    linearOutputs: layout.entries.map((entry) => entry.storageOffset),
    keepBytes: options.keepBytes ?? 0,
    sideBySide: options.sideBySide,
  })
}

/** Nothing of it is worth keeping. */
function whole(program: Program): Linearized {
  const linear = simplify(program)
  return {
    primal: { inputs: linear.inputs, operations: [], outputs: [] },
    linear,
    inputs: linear.inputs.map((_, index) => ({ kind: 'input', index })),
    kept: [],
  }
}
