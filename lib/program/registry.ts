import { LosscapeError } from '../errors.js'
import type { Tensor } from './tensor.js'
import type { Attributes, TensorType } from './types.js'

/** What a derivative rule sees: the operation's operands and results as traced tensors. */
export interface RuleContext {
  readonly inputs: readonly Tensor[]
  readonly outputs: readonly Tensor[]
  readonly attributes: Attributes
}

/** null stands for a zero tangent or cotangent that is never materialised. */
export type MaybeTensor = Tensor | null

/**
 * Everything the program layer knows about one operation. Rules are written with operations, so
 * that programs differentiate to any order; a family with a fused kernel throws by name where its
 * derivatives end.
 */
export interface OperationDefinition {
  readonly name: string
  /** Result types; throws ERR_SHAPE or ERR_DTYPE. */
  type(inputs: readonly TensorType[], attributes: Attributes): TensorType[]
  /** The float64 reference: one array of elements per result, in row-major order. */
  evaluate(
    inputs: readonly Float64Array[],
    types: readonly TensorType[],
    attributes: Attributes,
    results: readonly TensorType[],
  ): Float64Array[]
  /** Tangents of the results from tangents of the operands (at least one is not null). */
  jvp?(rule: RuleContext, tangents: readonly MaybeTensor[]): MaybeTensor[]
  /** Cotangents of the operands from cotangents of the results; only where `needed`. */
  vjp?(
    rule: RuleContext,
    cotangents: readonly MaybeTensor[],
    needed: readonly boolean[],
  ): MaybeTensor[]
  /**
   * The operation over a leading axis of `size` that the operands marked `batched` have.
   * Every result has the leading axis.
   */
  vmap?(
    inputs: readonly Tensor[],
    batched: readonly boolean[],
    attributes: Attributes,
    size: number,
  ): Tensor[]
  /** How vmap treats it, for the table in the documentation and the test that counts operations. */
  readonly batching?: 'elementwise' | 'merge' | 'batch' | 'loop'
  /** Element by element: the scalar function, by which fused formulas are evaluated. */
  readonly scalar?: (...args: number[]) => number
  /** Cheap enough to be computed again rather than kept by `linearize`. */
  readonly recompute?: boolean
  /** Results (by index) that only operations of the same family may read. */
  readonly auxiliary?: readonly number[]
  /** Operations of one family may read each other's auxiliary results. */
  readonly family?: string
}

const definitions = new Map<string, OperationDefinition>()

export function defineOperation(definition: OperationDefinition): OperationDefinition {
  if (definitions.has(definition.name)) {
    throw new LosscapeError('ERR_PROGRAM', `Operation '${definition.name}' is defined twice.`)
  }
  definitions.set(definition.name, definition)
  return definition
}

export function definitionOf(name: string): OperationDefinition {
  const definition = definitions.get(name)
  if (!definition) throw new LosscapeError('ERR_PROGRAM', `There is no operation '${name}'.`)
  return definition
}

/** All registered operations, for table-driven tests and documentation. */
export function operationNames(): string[] {
  return [...definitions.keys()].sort()
}
