import { requireArguments } from '../arguments.js'
import { type Attribute, formatType, type Operation, type Program, type Value } from './types.js'

/** The text of a program: one line per operation, values numbered in order of appearance. */
export function formatProgram(program: Program): string {
  requireArguments('formatProgram()', { program })
  const names = new Map<number, string>()
  const name = (value: Value): string => {
    const known = names.get(value.id)
    if (known) return known
    const fresh = `%${names.size}`
    names.set(value.id, fresh)
    return fresh
  }
  const inputs = program.inputs.map((value, i) => {
    const label = program.inputNames?.[i]
    return `${name(value)}: ${formatType(value)}${label ? ` ${label}` : ''}`
  })
  const lines = program.operations.map((op) => `  ${formatOperation(op, name)}`)
  return [
    `program(${inputs.join(', ')})`,
    ...lines,
    `  return ${program.outputs.map(name).join(', ')}`,
  ].join('\n')
}

/** `%3: f32[2,2] = matmul %0 %1 {transA: 0, transB: 1}` */
export function formatOperation(
  op: Operation,
  name: (value: Value) => string = (value) => `%${value.id}`,
): string {
  const operands = op.inputs.map((value) => ` ${name(value)}`).join('')
  const results = op.outputs.map((value) => `${name(value)}: ${formatType(value)}`).join(', ')
  return `${results} = ${op.name}${operands}${formatAttributes(op)}`
}

function formatAttributes(op: Operation): string {
  const entries = Object.entries(op.attributes)
  if (entries.length === 0) return ''
  return ` {${entries.map(([key, value]) => `${key}: ${formatAttribute(value)}`).join(', ')}}`
}

function formatAttribute(value: Attribute): string {
  if (typeof value !== 'object') return String(value)
  const shown = value.slice(0, 12).join(',')
  return value.length > 12 ? `[${shown},.. ${value.length}]` : `[${shown}]`
}
