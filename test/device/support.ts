import { compileProgram } from '../../lib/device/compile.js'
import type { Device } from '../../lib/device/device.js'
import type { NativeBuffer, NativeExecutable, NativeView, NumericArray } from '../../lib/native.js'
import { matmul, tanh } from '../../lib/ops/index.js'
import { encode, lower, type Program, trace } from '../../lib/program/index.js'

export const view = (buffer: NativeBuffer, offset = 0): NativeView => ({ buffer, offset })

/** y = tanh(... tanh(x w) w ...), `steps` products of n x n matrices: milliseconds to seconds. */
export function chain(n: number, steps: number): Program {
  return trace(
    (x, w) => {
      let y = x
      for (let i = 0; i < steps; ++i) y = tanh(matmul(y, w))
      return y
    },
    [
      [n, n],
      [n, n],
    ],
  )
}

export interface Task {
  readonly executable: NativeExecutable
  readonly inputs: NativeView[]
  readonly outputs: NativeView[]
  dispose(): void
}

/** A program with zero-filled storage of its own. */
export function task(device: Device, program: Program): Task {
  const executable = compileProgram(device, program)
  const buffers = (bytes: number[]) => bytes.map((b) => device.binding.createBuffer(b))
  const inputs = buffers(executable.inputBytes)
  const outputs = buffers(executable.outputBytes)
  return {
    executable,
    inputs: inputs.map((buffer) => view(buffer)),
    outputs: outputs.map((buffer) => view(buffer)),
    dispose: () => {
      for (const buffer of [...inputs, ...outputs]) buffer.dispose()
    },
  }
}

/** A program in the form that the addon takes, for workers that load it directly. */
export function encoded(program: Program): { names: string[]; words: Float64Array } {
  return encode(lower(program))
}

export async function read<T extends NumericArray>(buffer: NativeBuffer, target: T): Promise<T> {
  await buffer.read(0, target)
  return target
}

export const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'resolved',
    (error: { code?: string }) => error.code ?? String(error),
  )
