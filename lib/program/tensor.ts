import { argumentError } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { definitionOf } from './registry.js'
import {
  type Attributes,
  type DType,
  formatType,
  newValue,
  type Operation,
  type Program,
  type Shape,
  type TensorType,
  type Value,
} from './types.js'

/** A traced value: stands for a tensor while a program is being written down. */
export class Tensor implements TensorType {
  constructor(
    readonly value: Value,
    /** The trace it belongs to. */
    readonly trace: Trace,
  ) {}

  get shape(): Shape {
    return this.value.shape
  }

  get dtype(): DType {
    return this.value.dtype
  }

  get rank(): number {
    return this.value.shape.length
  }

  toString(): string {
    return `Tensor ${formatType(this)}`
  }
}

/** A program under construction. */
export class Trace {
  readonly inputs: Value[] = []
  readonly operations: Operation[] = []

  input(type: TensorType): Tensor {
    const value = newValue(type)
    this.inputs.push(value)
    return new Tensor(value, this)
  }

  finish(outputs: readonly Tensor[], inputNames?: readonly string[]): Program {
    return {
      inputs: this.inputs,
      operations: this.operations,
      outputs: outputs.map((t) => this.own(t, 'output').value),
      inputNames,
    }
  }

  emit(name: string, inputs: readonly Tensor[], attributes: Attributes): Tensor[] {
    const values = inputs.map((t) => this.own(t, name).value)
    const outputs = definitionOf(name).type(values, attributes).map(newValue)
    this.operations.push({ name, inputs: values, outputs, attributes })
    return outputs.map((value) => new Tensor(value, this))
  }

  private own(tensor: Tensor, where: string): Tensor {
    if (!(tensor instanceof Tensor)) {
      throw new LosscapeError(
        'ERR_PROGRAM',
        `'${where}' expected a traced tensor, got ${typeof tensor}. Turn numbers and arrays into tensors with constant().`,
      )
    }
    if (tensor.trace !== this) {
      throw new LosscapeError(
        'ERR_PROGRAM',
        `'${where}' got a ${formatType(tensor)} of another trace. Pass values in as arguments of the traced function.`,
      )
    }
    return tensor
  }
}

/** @throws ERR_ARGUMENT naming what is no traced tensor */
export function requireTensors(where: string, values: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(values)) {
    if (!(value instanceof Tensor)) throw argumentError(where, name, 'a traced tensor', value)
  }
}

const traces: Trace[] = []

/** The trace that operations are written to. Throws ERR_PROGRAM outside `trace`. */
export function currentTrace(): Trace {
  const trace = traces.at(-1)
  if (!trace) {
    throw new LosscapeError(
      'ERR_PROGRAM',
      'Operations on tensors can only be used inside a traced function: see trace().',
    )
  }
  return trace
}

/** Runs `body` with a trace of its own on top of the stack. */
export function withTrace<T>(body: (trace: Trace) => T): T {
  const trace = new Trace()
  traces.push(trace)
  try {
    return body(trace)
  } finally {
    traces.pop()
  }
}

/** Appends an operation to the current trace. */
export function emit(
  name: string,
  inputs: readonly Tensor[],
  attributes: Attributes = {},
): Tensor[] {
  return currentTrace().emit(name, inputs, attributes)
}

export function emitOne(name: string, inputs: readonly Tensor[], attributes?: Attributes): Tensor {
  return emit(name, inputs, attributes)[0]
}
