import { definitionOf } from '../registry.js'
import { sameShape } from '../shape.js'
import type { Operation, Program } from '../types.js'

export function isElementwise(op: Operation): boolean {
  return op.name === 'cast' || definitionOf(op.name).scalar !== undefined
}

/** One operation, or several elementwise ones of one shape that will become one. */
interface Unit {
  /** Positions of its operations, ascending. */
  members: number[]
  /** Position of the operation that it began with: its bit in the sets of ancestors. */
  readonly index: number
  /** Units that lead to this one, directly or through others; bits of merged units are stale. */
  readonly ancestors: Uint32Array
  /** The last walk that met it. */
  seen: number
}

function has(set: Uint32Array, index: number): boolean {
  return ((set[index >> 5] >> (index & 31)) & 1) === 1
}

function add(set: Uint32Array, index: number): void {
  set[index >> 5] |= 1 << (index & 31)
}

/** What `set` has beyond `known` in the first words, as pairs of word and bits. */
function missing(set: Uint32Array, known: Uint32Array, words: number): number[] {
  const pairs: number[] = []
  for (let word = 0; word < words; word++) {
    const bits = set[word] & ~known[word]
    if (bits !== 0) pairs.push(word, bits)
  }
  return pairs
}

function addPairs(set: Uint32Array, pairs: readonly number[]): void {
  for (let i = 0; i < pairs.length; i += 2) set[pairs[i]] |= pairs[i + 1]
}

/** A formula with more operations than this is cut: registers beyond L1 would not pay. */
const MAX_MEMBERS = 96

/** Readers of one operand that an operation is tried with, the latest: a mask may have thousands. */
const MAX_READERS = 64

/**
 * Partitions a program into units in an order in which they can run. An elementwise operation
 * joins the units of its operands, or one that reads an operand with it, unless a path through
 * other units would then lead from the unit back into itself.
 *
 * Sets of ancestors tell that without a walk: n²/8 bytes and n/32 words per operation for n
 * operations. A merge tells what it adds to a set only to units behind it, which are few where
 * neighbours merge: a fifth of a second for 10,000 operations.
 */
export function formGroups(program: Program): (readonly Operation[])[] {
  const grouping = new Grouping(program)
  for (const position of program.operations.keys()) grouping.place(position)
  return grouping.order()
}

class Grouping {
  private readonly operations: readonly Operation[]
  /** Position of the operation that makes a value. */
  private readonly producers = new Map<number, number>()
  /** Positions of the operations placed so far that read a value, ascending. */
  private readonly readers = new Map<number, number[]>()
  /** Of the operations placed so far. */
  private readonly units: Unit[] = []
  private walks = 0

  constructor({ operations }: Program) {
    this.operations = operations
    for (const [position, op] of operations.entries()) {
      for (const value of op.outputs) this.producers.set(value.id, position)
    }
  }

  place(position: number): void {
    const op = this.operations[position]
    const ancestors = new Uint32Array((this.operations.length + 31) >> 5)
    const own: Unit = { members: [position], index: position, ancestors, seen: 0 }
    this.units.push(own)
    const words = this.words()
    for (const [i, unit] of this.dependencies(own).entries()) {
      if (i === 0) ancestors.set(unit.ancestors.subarray(0, words))
      else for (let word = 0; word < words; word++) ancestors[word] |= unit.ancestors[word]
      add(ancestors, unit.index)
    }
    const candidates = isElementwise(op) ? this.candidates(position) : []
    this.addReader(position)
    for (const candidate of candidates) {
      const current = this.units[position]
      if (candidate === current || !this.compatible(candidate, op)) continue
      if (candidate.members.length + current.members.length > MAX_MEMBERS) continue
      if (this.wouldCycle(candidate, current)) continue
      this.merge(candidate, current)
    }
  }

  /** Words of the sets in which units so far may have a bit. */
  private words(): number {
    return (this.units.length + 31) >> 5
  }

  /** Units of operands first; then units that read one of the same operands. */
  private candidates(position: number): Set<Unit> {
    const { inputs } = this.operations[position]
    const found = new Set<Unit>()
    for (const value of inputs) {
      const producer = this.producers.get(value.id)
      if (producer !== undefined) found.add(this.units[producer])
    }
    for (const value of inputs) {
      const recent = this.readers.get(value.id)?.slice(-MAX_READERS) ?? []
      for (const reader of recent) found.add(this.units[reader])
    }
    return found
  }

  private addReader(position: number): void {
    for (const { id } of this.operations[position].inputs) {
      const list = this.readers.get(id)
      if (list) list.push(position)
      else this.readers.set(id, [position])
    }
  }

  private compatible({ members: [first] }: Unit, op: Operation): boolean {
    const member = this.operations[first]
    return isElementwise(member) && sameShape(member.outputs[0].shape, op.outputs[0].shape)
  }

  private merge(into: Unit, from: Unit): void {
    for (const position of from.members) this.units[position] = into
    const first = Math.min(into.members[0], from.members[0])
    const placed = from.members.length === 1
    into.members = [...into.members, ...from.members].sort((a, b) => a - b)
    // Whatever comes behind one of them has that one's ancestors already.
    const forInto = missing(from.ancestors, into.ancestors, this.words())
    const forFrom = placed ? [] : missing(into.ancestors, from.ancestors, this.words())
    addPairs(into.ancestors, forInto)
    // Nothing reads the operation that is being placed; most merges end here.
    if (placed && forInto.length === 0) return
    into.seen = ++this.walks
    // A unit behind one of them has an operation behind their first.
    for (let position = first + 1; position < this.units.length; position++) {
      const unit = this.units[position]
      if (unit.seen === this.walks) continue
      unit.seen = this.walks
      const { ancestors } = unit
      if (has(ancestors, into.index)) addPairs(ancestors, forInto)
      if (has(ancestors, from.index)) {
        add(ancestors, into.index)
        addPairs(ancestors, forFrom)
      }
    }
  }

  /** Does a path leave a or b, pass through another unit, and come back into one of them? */
  private wouldCycle(a: Unit, b: Unit): boolean {
    const through = (from: Unit, to: Unit): boolean =>
      to.members.some((position) =>
        this.operations[position].inputs.some((value) => {
          const producer = this.producers.get(value.id)
          if (producer === undefined) return false
          const unit = this.units[producer]
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
          out.push(frame.unit.members.map((position) => this.operations[position]))
          stack.pop()
        } else if (!state.has(next)) {
          state.set(next, 'open')
          stack.push({ unit: next, next: this.dependencies(next) })
        }
      }
    }
    for (const unit of this.units) if (!state.has(unit)) visit(unit)
    return out
  }

  private dependencies(unit: Unit): Unit[] {
    const found = new Set<Unit>()
    for (const position of unit.members) {
      for (const value of this.operations[position].inputs) {
        const producer = this.producers.get(value.id)
        if (producer !== undefined) found.add(this.units[producer])
      }
    }
    found.delete(unit)
    return [...found]
  }
}
