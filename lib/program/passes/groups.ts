import { definitionOf } from '../registry.js'
import { sameShape } from '../shape.js'
import type { Operation, Program } from '../types.js'

export function isElementwise(op: Operation): boolean {
  return op.name === 'cast' || definitionOf(op.name).scalar !== undefined
}

/** One operation, or several elementwise ones of one shape that will become one. */
interface Unit {
  readonly members: Operation[]
  /** Position of the operation that it began with: its bit in the sets of ancestors. */
  readonly index: number
  /** Units that lead to this one, directly or through others; bits of merged units are stale. */
  readonly ancestors: Uint32Array
}

function has(set: Uint32Array, index: number): boolean {
  return ((set[index >> 5] >> (index & 31)) & 1) === 1
}

function add(set: Uint32Array, index: number): void {
  set[index >> 5] |= 1 << (index & 31)
}

function addAll(set: Uint32Array, other: Uint32Array): void {
  for (let word = 0; word < set.length; word++) set[word] |= other[word]
}

/** A formula with more operations than this is cut: registers beyond L1 would not pay. */
const MAX_MEMBERS = 96

/**
 * Partitions a program into units in an order in which they can run. An elementwise operation
 * joins the units of its operands, or one that reads an operand with it, unless a path through
 * other units would then lead from the unit back into itself.
 *
 * Sets of ancestors tell that without a walk: n²/8 bytes and O(n²/32) words per merge at most for n
 * operations, a quarter of a second for 5,000.
 */
export function formGroups(program: Program): (readonly Operation[])[] {
  const grouping = new Grouping(program)
  for (const [position, op] of program.operations.entries()) grouping.place(op, position)
  return grouping.order()
}

class Grouping {
  private readonly producers = new Map<number, Operation>()
  private readonly readers = new Map<number, Operation[]>()
  private readonly positions = new Map<Operation, number>()
  private readonly units = new Map<Operation, Unit>()
  private readonly live = new Set<Unit>()

  constructor(private readonly program: Program) {
    for (const [position, op] of program.operations.entries()) {
      this.positions.set(op, position)
      for (const value of op.outputs) this.producers.set(value.id, op)
      for (const value of op.inputs) {
        const list = this.readers.get(value.id)
        if (list) list.push(op)
        else this.readers.set(value.id, [op])
      }
    }
  }

  place(op: Operation, position: number): void {
    const words = (this.program.operations.length + 31) >> 5
    const own: Unit = { members: [op], index: position, ancestors: new Uint32Array(words) }
    this.units.set(op, own)
    this.live.add(own)
    for (const unit of this.dependencies(own)) {
      add(own.ancestors, unit.index)
      addAll(own.ancestors, unit.ancestors)
    }
    if (!isElementwise(op)) return
    for (const candidate of this.candidates(op, position)) {
      const current = this.units.get(op) as Unit
      if (candidate === current || !this.compatible(candidate, op)) continue
      if (candidate.members.length + current.members.length > MAX_MEMBERS) continue
      if (this.wouldCycle(candidate, current)) continue
      this.merge(candidate, current)
    }
  }

  /** Units of operands first; then units that read one of the same operands. */
  private candidates(op: Operation, position: number): Unit[] {
    const found = new Set<Unit>()
    for (const value of op.inputs) {
      const producer = this.producers.get(value.id)
      if (producer) found.add(this.units.get(producer) as Unit)
    }
    for (const value of op.inputs) {
      for (const reader of this.readers.get(value.id) ?? []) {
        if ((this.positions.get(reader) as number) < position) {
          found.add(this.units.get(reader) as Unit)
        }
      }
    }
    return [...found]
  }

  private compatible(unit: Unit, op: Operation): boolean {
    const [member] = unit.members
    return isElementwise(member) && sameShape(member.outputs[0].shape, op.outputs[0].shape)
  }

  private merge(into: Unit, from: Unit): void {
    for (const op of from.members) this.units.set(op, into)
    into.members.push(...from.members)
    into.members.sort(
      (a, b) => (this.positions.get(a) as number) - (this.positions.get(b) as number),
    )
    this.live.delete(from)
    addAll(into.ancestors, from.ancestors)
    for (const unit of this.live) {
      const { ancestors } = unit
      if (unit === into || !(has(ancestors, into.index) || has(ancestors, from.index))) continue
      add(ancestors, into.index)
      addAll(ancestors, into.ancestors)
    }
  }

  /** Does a path leave a or b, pass through another unit, and come back into one of them? */
  private wouldCycle(a: Unit, b: Unit): boolean {
    const through = (from: Unit, to: Unit): boolean =>
      to.members.some((op) =>
        op.inputs.some((value) => {
          const producer = this.producers.get(value.id)
          if (!producer) return false
          const unit = this.units.get(producer) as Unit
          return unit !== from && unit !== to && has(unit.ancestors, from.index)
        }),
      )
    return through(a, b) || through(b, a)
  }

  /** Units in an order in which every operand exists before it is read. */
  order(): (readonly Operation[])[] {
    const out: (readonly Operation[])[] = []
    const state = new Map<Unit, 'open' | 'done'>()
    const visit = (start: Unit): void => {
      const stack: { unit: Unit; next: Unit[] }[] = [
        { unit: start, next: this.dependencies(start) },
      ]
      state.set(start, 'open')
      while (stack.length > 0) {
        const frame = stack[stack.length - 1]
        const next = frame.next.pop()
        if (!next) {
          state.set(frame.unit, 'done')
          out.push(frame.unit.members)
          stack.pop()
        } else if (!state.has(next)) {
          state.set(next, 'open')
          stack.push({ unit: next, next: this.dependencies(next) })
        }
      }
    }
    for (const op of this.program.operations) {
      const unit = this.units.get(op) as Unit
      if (!state.has(unit)) visit(unit)
    }
    return out
  }

  private dependencies(unit: Unit): Unit[] {
    const found = new Set<Unit>()
    for (const op of unit.members) {
      for (const value of op.inputs) {
        const producer = this.producers.get(value.id)
        if (producer) found.add(this.units.get(producer) as Unit)
      }
    }
    found.delete(unit)
    return [...found]
  }
}
