import { compileProgram } from '../lib/device/compile.js'
import { type Device, linearizeProgram, type Program } from '../lib/index.js'
import type { NativeBuffer } from '../lib/native.js'
import { elements } from '../lib/program/shape.js'
import type { Value } from '../lib/program/types.js'
import { randomVector } from './inputs.js'

/** A compiled program whose operands and results stay on the device, as the peer's tensors do. */
export interface ResidentProgram {
  run: () => Promise<unknown>
  /** Bytes of the planned arena. */
  arenaBytes: number
  inputs: NativeBuffer[]
  outputs: NativeBuffer[]
  dispose: () => void
}

export interface FillOptions {
  /** Floating-point input i is uniform in [-1, 1) times this. Default 1. */
  scale?: (input: number) => number
  /** Integer inputs count through [0, classes). Default 10. */
  classes?: number
}

export async function resident(
  device: Device,
  program: Program,
  options: FillOptions = {},
): Promise<ResidentProgram> {
  const inputs = await Promise.all(
    program.inputs.map((value, i) => filled(device, value, i, options)),
  )
  const bound = await bind(device, program, inputs)
  return {
    ...bound,
    dispose() {
      for (const handle of inputs) handle.dispose()
      bound.dispose()
    },
  }
}

/**
 * The tangents of a program's outputs with the primal part run once and kept, as a retained graph
 * keeps it: `run` is the linear part.
 */
export async function residentTangents(
  device: Device,
  program: Program,
  selected: readonly boolean[],
  options: FillOptions = {},
): Promise<ResidentProgram> {
  const { primal, linear, inputs: sources } = linearizeProgram(program, selected)
  const kept = await resident(device, primal, options)
  await kept.run()
  const tangents: NativeBuffer[] = []
  const inputs: NativeBuffer[] = []
  for (const [i, { kind, index }] of sources.entries()) {
    if (kind === 'kept') inputs.push(kept.outputs[index])
    else if (kind === 'input') inputs.push(kept.inputs[index])
    else {
      const tangent = await filled(device, linear.inputs[i], 100 + i, {})
      tangents.push(tangent)
      inputs.push(tangent)
    }
  }
  const bound = await bind(device, linear, inputs)
  return {
    ...bound,
    dispose() {
      for (const handle of tangents) handle.dispose()
      bound.dispose()
      kept.dispose()
    },
  }
}

async function bind(
  device: Device,
  program: Program,
  inputs: NativeBuffer[],
): Promise<ResidentProgram> {
  const native = compileProgram(device, program, 'f32')
  const outputs: NativeBuffer[] = []
  for (const { shape } of program.outputs) {
    const zeros = new Float32Array(Math.max(1, elements(shape)))
    const handle = device.binding.createBuffer(zeros.byteLength)
    // Touched now, so that what a run adds to memory is its own.
    await handle.write(0, zeros)
    outputs.push(handle)
  }
  const view = (handle: NativeBuffer) => ({ buffer: handle, offset: 0 })
  const [from, to] = [inputs.map(view), outputs.map(view)]
  return {
    run: () => native.run(from, to, {}),
    arenaBytes: native.arenaBytes,
    inputs,
    outputs,
    dispose() {
      for (const handle of outputs) handle.dispose()
    },
  }
}

async function filled(
  device: Device,
  { dtype, shape }: Value,
  index: number,
  { scale = () => 1, classes = 10 }: FillOptions,
): Promise<NativeBuffer> {
  const size = elements(shape)
  const values =
    dtype === 'i32'
      ? Int32Array.from({ length: size }, (_, i) => i % classes)
      : randomVector(size, index + 1).map((value) => value * scale(index))
  const handle = device.binding.createBuffer(Math.max(4, values.byteLength))
  await handle.write(0, values)
  return handle
}
