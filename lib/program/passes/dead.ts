import type { Program } from '../types.js'

/** Removes operations whose results nobody reads. Taps are always read. */
export function eliminateDead(program: Program): Program {
  const live = new Set(program.outputs.map((value) => value.id))
  const operations = [...program.operations]
    .reverse()
    .filter((op) => {
      if (op.name !== 'tap' && !op.outputs.some((value) => live.has(value.id))) return false
      for (const value of op.inputs) live.add(value.id)
      return true
    })
    .reverse()
  return operations.length === program.operations.length ? program : { ...program, operations }
}
