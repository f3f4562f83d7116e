import { argumentError, requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { elements, sameShape } from './shape.js'
import { currentTrace, emit, Tensor, withTrace } from './tensor.js'
import { DTYPES, formatType, type Program, type TensorType, type Value } from './types.js'

/** A function of tensors that can be traced. */
export type TracedFunction = (...args: Tensor[]) => Tensor | readonly Tensor[]

/** What `trace` takes for an argument: a type, or a shape for f32. */
export type ArgumentType = TensorType | readonly number[]

/** Completes and checks an argument's type. Throws ERR_SHAPE, ERR_DTYPE. */
export function toType(argument: ArgumentType): TensorType {
  const type: TensorType = Array.isArray(argument)
    ? { dtype: 'f32', shape: argument }
    : (argument as TensorType)
  if (typeof type !== 'object' || type === null || !Array.isArray(type.shape)) {
    throw argumentError('trace()', 'an argument type', 'a shape or { dtype, shape }', argument)
  }
  if (!DTYPES.includes(type.dtype)) {
    throw new LosscapeError(
      'ERR_DTYPE',
      `Unknown dtype '${type.dtype}'; expected one of ${DTYPES.join(', ')}.`,
    )
  }
  for (const d of type.shape) {
    if (!Number.isInteger(d) || d < 0) {
      throw new LosscapeError('ERR_SHAPE', `Shape [${type.shape}] must hold non-negative integers.`)
    }
  }
  if (!Number.isSafeInteger(elements(type.shape))) {
    throw new LosscapeError('ERR_SHAPE', `Shape [${type.shape}] has too many elements.`)
  }
  return { dtype: type.dtype, shape: [...type.shape] }
}

/**
 * Writes down what `f` computes as a program with static shapes. `f` runs once.
 *
 * @example
 * const program = trace((x, w) => tanh(matmul(x, w)), [[8, 3], [3, 2]])
 */
export function trace(
  f: TracedFunction,
  argumentTypes: readonly ArgumentType[],
  inputNames?: readonly string[],
): Program {
  requireArguments('trace()', { f, argumentTypes })
  return withTrace((t) => {
    const inputs = argumentTypes.map((type) => t.input(toType(type)))
    return t.finish(outputList(f(...inputs)), inputNames)
  })
}

/** @throws ERR_PROGRAM for anything but a tensor or a list of tensors */
export function outputList(result: Tensor | readonly Tensor[]): readonly Tensor[] {
  const list = Array.isArray(result) ? result : [result]
  if (list.every((t) => t instanceof Tensor)) return list
  throw new LosscapeError(
    'ERR_PROGRAM',
    'A traced function must return a tensor or a list of tensors (and is not asynchronous).',
  )
}

/** Values of a program being rewritten, and the traced tensors that stand for them. */
export class Environment {
  private readonly tensors = new Map<number, Tensor>()

  set(values: readonly Value[], tensors: readonly Tensor[]): void {
    for (const [i, value] of values.entries()) this.tensors.set(value.id, tensors[i])
  }

  get(value: Value): Tensor {
    const tensor = this.tensors.get(value.id)
    if (!tensor) {
      throw new LosscapeError('ERR_PROGRAM', 'A value is used before the operation that makes it.')
    }
    return tensor
  }

  has(value: Value): boolean {
    return this.tensors.has(value.id)
  }

  all(values: readonly Value[]): Tensor[] {
    return values.map((value) => this.get(value))
  }
}

/** Repeats a program's operations in the current trace on these arguments. */
export function inline(program: Program, args: readonly Tensor[]): Tensor[] {
  if (args.length !== program.inputs.length) {
    throw new LosscapeError(
      'ERR_PROGRAM',
      `The program takes ${program.inputs.length} inputs, got ${args.length}.`,
    )
  }
  for (const [i, value] of program.inputs.entries()) {
    if (args[i].dtype !== value.dtype || !sameShape(args[i].shape, value.shape)) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `Argument ${i} must be ${formatType(value)}, got ${formatType(args[i])}.`,
      )
    }
  }
  const environment = new Environment()
  environment.set(program.inputs, args)
  for (const op of program.operations) {
    environment.set(op.outputs, emit(op.name, environment.all(op.inputs), op.attributes))
  }
  return environment.all(program.outputs)
}

/** Traces `f` on the types of `args` into a program of its own (for transforms used inside a trace). */
export function subprogram(f: TracedFunction, args: readonly Tensor[]): Program {
  currentTrace()
  return trace(
    f,
    args.map((t) => t.value),
  )
}
