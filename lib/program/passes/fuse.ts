import { LosscapeError } from '../../errors.js'
import { sameShape, stridesOf } from '../shape.js'
import type { Attributes, DType, Operation, Program, Value } from '../types.js'
import { uniformValue } from './fold.js'
import { isGelu, writeGelu } from './gelu.js'
import { formGroups, isElementwise } from './groups.js'
import { producersOf } from './rewrite.js'
import { collapseAxes, isViewOperation, type View, viewOf } from './views.js'

/** Axes that the native machine walks, after neighbours that all operands share were merged. */
const MAX_RANK = 8

/**
 * Elementwise fusion: every group of elementwise operations of one shape becomes one `fused`
 * operation that reads each operand once, broadcasts, slices and transposes in place, and keeps
 * what lies between in registers. Its attributes are those of native/runtime/program.h.
 */
export function fuseElementwise(program: Program): Program {
  const producers = producersOf(program)
  const units = formGroups(program)
  const readers = externalReaders(program, units)
  const operations: Operation[] = []
  for (const unit of units) {
    const [op] = unit
    if (isElementwise(op)) operations.push(fuse(unit, producers, readers))
    else if (isViewOperation(op)) {
      if (readers.has(op.outputs[0].id)) operations.push(copyView(op, producers))
    } else if (!(op.name === 'constant' && !readers.has(op.outputs[0].id))) operations.push(op)
  }
  return { ...program, operations }
}

/** Values that must exist in memory: outputs, and what is read other than through a fused view. */
function externalReaders(program: Program, units: readonly (readonly Operation[])[]): Set<number> {
  const producers = producersOf(program)
  const read = new Set(program.outputs.map((value) => value.id))
  const readBase = (value: Value): void => {
    if (uniformValue(value, producers) === undefined) read.add(viewOf(value, producers).base.id)
  }
  for (const unit of units) {
    const inside = new Set(unit.flatMap((op) => op.outputs.map((value) => value.id)))
    const fused = isElementwise(unit[0])
    for (const op of unit) {
      for (const value of op.inputs) {
        if (inside.has(value.id)) continue
        // A view operation that is itself needed reads its base too; noting it always is harmless.
        if (fused || isViewOperation(op)) readBase(value)
        else read.add(value.id)
      }
    }
  }
  return read
}

class Formula {
  readonly views: View[] = []
  private readonly names: string[] = []
  private readonly constants: number[] = []
  private readonly code: number[][] = []
  private readonly registers = new Map<number, number>()
  private readonly constantRegisters = new Map<number, number>()
  private readonly parts = new Map<string, number>()

  /** Instruction results are numbered after the inputs, which are all known only at the end. */
  private static readonly RESULT = 1 << 20

  constructor(private readonly producers: ReadonlyMap<number, Operation>) {}

  operand(value: Value): number {
    const known = this.registers.get(value.id)
    if (known !== undefined) return known
    const number = uniformValue(value, this.producers as Map<number, Operation>)
    const register = number === undefined ? this.input(value) : this.constant(number)
    this.registers.set(value.id, register)
    return register
  }

  private input(value: Value): number {
    const view = viewOf(value, this.producers)
    const twin = this.views.findIndex(
      (v) =>
        v.base.id === view.base.id &&
        v.offset === view.offset &&
        sameShape(v.strides, view.strides),
    )
    if (twin >= 0) return twin
    this.views.push(view)
    return this.views.length - 1
  }

  constant(number: number): number {
    // Map keys treat -0 as 0, which division tells apart.
    const known = Object.is(number, -0) ? undefined : this.constantRegisters.get(number)
    if (known !== undefined) return known
    const register = this.instruction('const', this.constants.push(number) - 1)
    this.constantRegisters.set(number, register)
    return register
  }

  /** The register that `write` fills, once for each key. */
  once(key: string, write: () => number): number {
    const known = this.parts.get(key)
    if (known !== undefined) return known
    const register = write()
    this.parts.set(key, register)
    return register
  }

  instruction(name: string, a: number, b = -1, c = -1): number {
    let index = this.names.indexOf(name)
    if (index < 0) index = this.names.push(name) - 1
    this.code.push([index, a, b, c])
    return Formula.RESULT + this.code.length - 1
  }

  assign(value: Value, register: number): void {
    this.registers.set(value.id, register)
  }

  finish(shape: readonly number[], results: readonly Value[]): Attributes {
    const shift = (r: number): number =>
      r >= Formula.RESULT ? r - Formula.RESULT + this.views.length : r
    const collapsed = collapseAxes(shape, [
      ...this.views.map((v) => v.strides),
      ...results.map((v) => stridesOf(v.shape)),
    ])
    if (collapsed.shape.length > MAX_RANK) {
      throw new LosscapeError(
        'ERR_PROGRAM',
        `A formula over shape [${shape}] needs ${collapsed.shape.length} axes; at most ${MAX_RANK} are possible.`,
      )
    }
    return {
      shape: collapsed.shape,
      strides: collapsed.strides.slice(0, this.views.length).flat(),
      offsets: this.views.map((v) => v.offset),
      ops: this.names,
      consts: this.constants,
      code: this.code.flatMap(([op, a, b, c]) =>
        this.names[op] === 'const' ? [op, a, b, c] : [op, shift(a), shift(b), shift(c)],
      ),
      results: results.map((value) => shift(this.operand(value))),
    }
  }
}

function fuse(
  unit: readonly Operation[],
  producers: ReadonlyMap<number, Operation>,
  readers: ReadonlySet<number>,
): Operation {
  const formula = new Formula(producers)
  for (const op of unit) {
    const [a, b, c] = op.inputs.map((value) => formula.operand(value))
    formula.assign(op.outputs[0], write(formula, op, a, b, c))
  }
  const outputs = unit.map((op) => op.outputs[0]).filter((value) => readers.has(value.id))
  const attributes = formula.finish(unit[0].outputs[0].shape, outputs)
  return { name: 'fused', inputs: formula.views.map((v) => v.base), outputs, attributes }
}

function write(formula: Formula, op: Operation, a: number, b?: number, c?: number): number {
  if (op.name === 'cast') {
    const dtype = op.attributes.dtype as DType
    // Widening changes no number: registers are as wide as the widest operand, stores round.
    const rounds = dtype !== 'f64' && (dtype !== 'f32' || op.inputs[0].dtype === 'f64')
    return rounds ? formula.instruction(`cast_${dtype}`, a) : a
  }
  // The machine has no ReLU of its own; its max propagates NaN as ReLU does.
  if (op.name === 'relu') return formula.instruction('max', a, formula.constant(0))
  if (isGelu(op.name)) return writeGelu(formula, op.name, a)
  return formula.instruction(op.name, a, b, c)
}

/** A broadcast, slice or transpose that somebody needs in memory. */
function copyView(op: Operation, producers: ReadonlyMap<number, Operation>): Operation {
  const view = viewOf(op.outputs[0], producers)
  if (op.name === 'transpose' && view.base.id === op.inputs[0].id) return op
  const formula = new Formula(producers)
  formula.operand(op.outputs[0])
  const attributes = formula.finish(op.outputs[0].shape, op.outputs)
  return {
    name: 'fused',
    inputs: formula.views.map((v) => v.base),
    outputs: op.outputs,
    attributes,
  }
}
