import type { Operation, Program } from '../types.js'
import { rewrite } from './rewrite.js'

/** Common subexpressions: an operation on the same operands with the same attributes is done once. */
export function eliminateCommon(program: Program): Program {
  const seen = new Map<string, Operation>()
  return rewrite(program, (op) => {
    if (op.name === 'tap') return null
    const key = `${op.name}(${op.inputs.map((value) => value.id)})${attributesKey(op)}`
    const twin = seen.get(key)
    if (twin) return twin.outputs
    seen.set(key, op)
    return null
  })
}

/** -0 differs from 0 (JSON and join() write both as 0). */
function spell(item: number | string): string {
  return Object.is(item, -0) ? '-0' : String(item)
}

function attributesKey(op: Operation): string {
  return Object.entries(op.attributes)
    .map(
      ([name, value]) =>
        `${name}=${typeof value === 'object' ? value.map(spell).join() : spell(value)}`,
    )
    .join(';')
}
