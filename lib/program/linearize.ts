import { jvpProgram, selectInputs } from './jvp.js'
import { simplify } from './passes/index.js'
import { stripMarkers } from './passes/strip.js'
import { definitionOf } from './registry.js'
import type { Operation, Program, Value } from './types.js'

/** Where an input of a linear program comes from. */
export type LinearInput =
  /** Output `index` of the primal program. */
  | { readonly kind: 'kept'; readonly index: number }
  /** Input `index` of the program that was split. */
  | { readonly kind: 'input'; readonly index: number }
  /** Tangent number `index`. */
  | { readonly kind: 'tangent'; readonly index: number }

/** A program split into what does not depend on the tangents and the linear rest. */
export interface Linearized {
  /** From the non-tangent inputs (all of them, in order) to the kept tensors. */
  readonly primal: Program
  /** From `inputs` to the outputs of the program that was split. */
  readonly linear: Program
  readonly inputs: readonly LinearInput[]
  /** The kept tensors, in order. */
  readonly kept: readonly Value[]
}

/**
 * Splits the derivative of `program`: `primal` runs once per point, `linear` once per tangent,
 * and gives the tangents of the floating-point outputs.
 */
export function linearizeProgram(program: Program, wrt?: readonly boolean[]): Linearized {
  const selected = selectInputs(program, wrt)
  const derivative = jvpProgram(program, selected)
  const tangentsOnly = {
    ...derivative,
    outputs: derivative.outputs.slice(program.outputs.length),
  }
  return splitLinear(
    tangentsOnly,
    derivative.inputs.map((_, i) => i >= program.inputs.length),
  )
}

/**
 * Splits a program that is linear in the inputs marked `tangent`. Kept are the results of
 * products, reductions and the like, and the operands of such operations; elementwise values that
 * only elementwise consumers need are computed again inside them, which costs no memory traffic.
 * Taps are dropped: ask for them before splitting.
 */
export function splitLinear(program: Program, tangent: readonly boolean[]): Linearized {
  const source = simplify(stripMarkers(program))
  const dependent = dependentValues(source, tangent)
  const linearOps = source.operations.filter((op) => dependsOn(op, dependent))
  const producers = new Map<number, Operation>()
  for (const op of source.operations) for (const value of op.outputs) producers.set(value.id, op)

  const plan = new KeepPlan(producers, new Set(source.inputs.map((value) => value.id)))
  // First what has to exist in memory in any case; recomputation may then start from it.
  for (const op of linearOps) {
    if (definitionOf(op.name).scalar) continue
    for (const value of op.inputs) if (!dependent.has(value.id)) plan.keep(value)
  }
  for (const value of source.outputs) if (!dependent.has(value.id)) plan.keep(value)
  for (const op of linearOps) {
    for (const value of op.inputs) if (!dependent.has(value.id)) plan.need(value)
  }

  const primalInputs = source.inputs.filter((_, i) => !tangent[i])
  const kept = plan.keptValues()
  const inputs: LinearInput[] = []
  const values: Value[] = []
  for (const [index, value] of kept.entries()) {
    inputs.push({ kind: 'kept', index })
    values.push(value)
  }
  for (const [index, value] of primalInputs.entries()) {
    if (!plan.usesInput(value)) continue
    inputs.push({ kind: 'input', index })
    values.push(value)
  }
  for (const [index, value] of source.inputs.filter((_, i) => tangent[i]).entries()) {
    inputs.push({ kind: 'tangent', index })
    values.push(value)
  }
  return {
    primal: simplify({
      inputs: primalInputs,
      operations: source.operations.filter((op) => !dependsOn(op, dependent)),
      outputs: kept,
    }),
    linear: simplify({
      inputs: values,
      operations: source.operations.filter((op) => plan.recomputes(op) || dependsOn(op, dependent)),
      outputs: source.outputs,
    }),
    inputs,
    kept,
  }
}

function dependentValues(program: Program, tangent: readonly boolean[]): Set<number> {
  const dependent = new Set<number>()
  for (const [i, value] of program.inputs.entries()) if (tangent[i]) dependent.add(value.id)
  for (const op of program.operations) {
    if (dependsOn(op, dependent)) for (const value of op.outputs) dependent.add(value.id)
  }
  return dependent
}

function dependsOn(op: Operation, values: ReadonlySet<number>): boolean {
  return op.inputs.some((value) => values.has(value.id))
}

/** Decides for every value that the linear part needs: keep it, or compute it again. */
class KeepPlan {
  private readonly kept = new Map<number, Value>()
  private readonly again = new Set<Operation>()
  private readonly usedInputs = new Set<number>()

  constructor(
    private readonly producers: ReadonlyMap<number, Operation>,
    private readonly inputs: ReadonlySet<number>,
  ) {}

  keep(value: Value): void {
    if (this.inputs.has(value.id)) this.usedInputs.add(value.id)
    else if (this.isFree(value)) this.need(value)
    else this.kept.set(value.id, value)
  }

  need(value: Value): void {
    if (this.kept.has(value.id)) return
    if (this.inputs.has(value.id)) {
      this.usedInputs.add(value.id)
      return
    }
    const op = this.producers.get(value.id)
    if (!op || !definitionOf(op.name).recompute) {
      this.kept.set(value.id, value)
      return
    }
    if (this.again.has(op)) return
    this.again.add(op)
    for (const input of op.inputs) this.need(input)
  }

  /** Constants, and views of them or of inputs, cost nothing to have again. */
  private isFree(value: Value): boolean {
    const op = this.producers.get(value.id)
    if (!op) return this.inputs.has(value.id)
    if (op.name === 'constant') return true
    return (
      (op.name === 'reshape' || op.name === 'broadcast') && op.inputs.every((v) => this.isFree(v))
    )
  }

  keptValues(): Value[] {
    return [...this.kept.values()]
  }

  usesInput(value: Value): boolean {
    return this.usedInputs.has(value.id)
  }

  recomputes(op: Operation): boolean {
    return this.again.has(op)
  }
}
