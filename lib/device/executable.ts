import { LosscapeError } from '../errors.js'
import type { NativeBuffer, NumericArray } from '../native.js'
import { runDtype } from '../program/encode.js'
import { elements } from '../program/shape.js'
import { type DType, formatType, type Program, type Value } from '../program/types.js'
import { compileProgram } from './compile.js'
import type { Device } from './device.js'
import { withSignal } from './native-call.js'

export interface ExecutableOptions {
  /** Precision of the floating-point values. Default 'f32'. */
  readonly precision?: 'f32' | 'f64'
}

/** A program of one's own, ready to run on a device; see {@link compile}. */
export class Executable {
  private readonly inputs: NativeBuffer[] = []
  private readonly outputs: NativeBuffer[] = []
  private disposed = false

  constructor(
    private readonly device: Device,
    readonly program: Program,
    readonly precision: 'f32' | 'f64',
    private readonly native = compileProgram(device, program, precision),
  ) {
    try {
      for (const bytes of native.inputBytes) this.inputs.push(createBuffer(device, bytes))
      for (const bytes of native.outputBytes) this.outputs.push(createBuffer(device, bytes))
    } catch (error) {
      this.dispose()
      throw error
    }
  }

  /**
   * Runs the program: one array of numbers (row-major) per input, one typed array per output
   * (Float32Array or Float64Array by the precision, Int32Array, Uint8Array). Runs may overlap.
   *
   * @throws ERR_SHAPE, ERR_DISPOSED, ERR_ABORTED
   */
  async run(
    inputs: readonly ArrayLike<number>[],
    options: { signal?: AbortSignal } = {},
  ): Promise<NumericArray[]> {
    if (this.disposed) throw new LosscapeError('ERR_DISPOSED', 'The executable has been disposed.')
    const arrays = this.typedInputs(inputs)
    const results = this.program.outputs.map((value) =>
      allocate(runDtype(value.dtype, this.precision), elements(value.shape)),
    )
    await withSignal(this.device.binding, options.signal, async (token) => {
      // Queued together and in order, so that overlapping runs do not see each other's buffers.
      await Promise.all([
        ...arrays.map((array, i) => this.inputs[i].write(0, array, { token })),
        this.native.run(this.inputs.map(view), this.outputs.map(view), { token }),
        ...results.map((array, i) => this.outputs[i].read(0, array, { token })),
      ])
    })
    return results
  }

  dispose(): void {
    this.disposed = true
    for (const buffer of [...this.inputs.splice(0), ...this.outputs.splice(0)]) buffer.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  private typedInputs(inputs: readonly ArrayLike<number>[]): NumericArray[] {
    const expected = this.program.inputs
    if (inputs.length !== expected.length) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `The program takes ${expected.length} inputs, got ${inputs.length}.`,
      )
    }
    return expected.map((value, i) => typedInput(value, inputs[i], i, this.precision))
  }
}

/**
 * Compiles a traced program for a device.
 *
 * @example
 * const program = trace((x) => ops.sum(ops.mul(x, x)), [[3]])
 * using square = compile(device, program)
 * const [y] = await square.run([[1, 2, 3]])   // Float32Array [14]
 *
 * @throws ERR_PROGRAM, ERR_DTYPE, ERR_OUT_OF_MEMORY
 */
export function compile(
  device: Device,
  program: Program,
  options: ExecutableOptions = {},
): Executable {
  return new Executable(device, program, options.precision ?? 'f32')
}

function createBuffer(device: Device, bytes: number): NativeBuffer {
  return device.binding.createBuffer(Math.max(1, bytes))
}

function view(buffer: NativeBuffer): { buffer: NativeBuffer; offset: number } {
  return { buffer, offset: 0 }
}

function typedInput(
  value: Value,
  input: ArrayLike<number>,
  index: number,
  precision: 'f32' | 'f64',
): NumericArray {
  const size = elements(value.shape)
  if (input.length !== size) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `Input ${index} is ${formatType(value)}, got ${input.length} elements.`,
    )
  }
  const array = allocate(runDtype(value.dtype, precision), size)
  array.set(input)
  return array
}

function allocate(dtype: DType, size: number): NumericArray {
  switch (dtype) {
    case 'f32':
      return new Float32Array(size)
    case 'f64':
      return new Float64Array(size)
    case 'i32':
      return new Int32Array(size)
    case 'u8':
      return new Uint8Array(size)
    default:
      throw new LosscapeError(
        'ERR_DTYPE',
        `Arrays of ${dtype} cannot be exchanged with JavaScript.`,
      )
  }
}
