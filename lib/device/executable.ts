import { argumentError, isVector, requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import type { NativeBuffer, NumericArray, OperationProfile } from '../native.js'
import { requireOptions } from '../options.js'
import { runDtype } from '../program/encode.js'
import { lower } from '../program/passes/index.js'
import { formatProgram } from '../program/print.js'
import { elements } from '../program/shape.js'
import { type DType, formatType, type Program, type Value } from '../program/types.js'
import { verify } from '../program/verify.js'
import { compileProgram } from './compile.js'
import type { Device } from './device.js'
import { withSignal } from './native-call.js'

export interface ExecutableOptions {
  /** Precision of the floating-point values. Default 'f32'. */
  readonly precision?: 'f32' | 'f64'
}

/** What {@link Executable.inspect} tells. */
export interface ExecutableReport {
  /** The lowered program, one line per operation. */
  readonly program: string
  /** One line per operation: index, name, arena offset and bytes of its results. */
  readonly plan: readonly string[]
  /** Bytes of the arena after liveness planning, and without any reuse. */
  readonly arenaBytes: number
  readonly unplannedBytes: number
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
   * @param options.anomaly check every operation's result for NaN (slow)
   * @throws ERR_SHAPE; ERR_RANGE for a number that an integer input cannot hold, naming input and
   * element; ERR_DISPOSED, ERR_ABORTED; with `anomaly` ERR_NOT_FINITE naming the first operation
   * that made a NaN
   */
  async run(
    inputs: readonly ArrayLike<number>[],
    options: { signal?: AbortSignal; anomaly?: boolean } = {},
  ): Promise<NumericArray[]> {
    return (await this.execute(inputs, options)).results
  }

  /**
   * Runs the program once and times every operation of its lowered form; see {@link chromeTrace}.
   *
   * @throws as `run` does
   */
  async profile(
    inputs: readonly ArrayLike<number>[],
    options: { signal?: AbortSignal } = {},
  ): Promise<readonly OperationProfile[]> {
    return (await this.execute(inputs, { ...options, profile: true })).profile ?? []
  }

  /** What was compiled: the lowered program, the place of every result, bytes of the arena. */
  inspect(): ExecutableReport {
    if (this.disposed) throw new LosscapeError('ERR_DISPOSED', 'The executable has been disposed.')
    return {
      program: formatProgram(lower(this.program)),
      plan: this.native.describe(),
      arenaBytes: this.native.arenaBytes,
      unplannedBytes: this.native.unplannedBytes,
    }
  }

  private async execute(
    inputs: readonly ArrayLike<number>[],
    options: { signal?: AbortSignal; anomaly?: boolean; profile?: boolean },
  ): Promise<{ results: NumericArray[]; profile?: OperationProfile[] }> {
    if (this.disposed) throw new LosscapeError('ERR_DISPOSED', 'The executable has been disposed.')
    requireArguments('run()', { inputs })
    requireOptions('run()', options, ['signal', 'anomaly', 'profile'])
    const { signal, anomaly, profile } = options
    const arrays = this.typedInputs(inputs)
    const results = this.program.outputs.map((value) =>
      allocate(runDtype(value.dtype, this.precision), elements(value.shape)),
    )
    const timings = await withSignal(this.device.binding, signal, async (token) => {
      // Queued together and in order, so that overlapping runs do not see each other's buffers.
      const written = arrays.map((array, i) => this.inputs[i].write(0, array, { token }))
      const ran = this.native.run(this.inputs.map(view), this.outputs.map(view), {
        token,
        anomaly,
        profile,
      })
      const read = results.map((array, i) => this.outputs[i].read(0, array, { token }))
      const [timed] = await Promise.all([ran, ...written, ...read])
      return timed
    })
    return { results, profile: timings ?? undefined }
  }

  dispose(): void {
    this.disposed = true
    for (const buffer of [...this.inputs.splice(0), ...this.outputs.splice(0)]) buffer.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
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
  requireArguments('compile()', { device, program })
  requireOptions('compile()', options, ['precision'])
  verify(program)
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
  if (!isVector(input)) {
    throw argumentError('run()', `input ${index}`, 'an array of numbers', input)
  }
  if (input.length !== size) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `Input ${index} is ${formatType(value)}, got ${input.length} elements.`,
    )
  }
  const dtype = runDtype(value.dtype, precision)
  const array = allocate(dtype, size)
  array.set(input)
  if (dtype === 'i32' || dtype === 'u8') requireKept(input, array, `Input ${index}`, value)
  return array
}

/** Integer arrays wrap what does not fit and cut fractions off. */
function requireKept(
  input: ArrayLike<number>,
  stored: NumericArray,
  name: string,
  value: Value,
): void {
  if (input.constructor === stored.constructor) return
  for (let i = 0; i < stored.length; i++) {
    if (stored[i] === input[i]) continue
    const [least, most] = value.dtype === 'u8' ? [0, 255] : [-(2 ** 31), 2 ** 31 - 1]
    throw new LosscapeError(
      'ERR_RANGE',
      `${name} is ${formatType(value)}: element ${i} must be an integer from ${least} to ${most}, got ${String(input[i])}.`,
    )
  }
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
