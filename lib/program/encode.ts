import { type Attribute, DTYPES, type DType, type Program, type Value } from './types.js'

/** A program in the wire form of native/runtime/program.h. */
export interface EncodedProgram {
  readonly names: string[]
  readonly words: Float64Array
}

const VERSION = 1

/** Attributes that shape rules use and kernels read from the result types instead. */
const IMPLIED = new Set(['dtype'])

/**
 * Writes a lowered program down for the native side.
 *
 * @param precision what `f32` is computed in; f64 turns every f32 tensor of the program into f64.
 * An explicit cast from f64 to f32 rounds in every run.
 */
export function encode(program: Program, precision: 'f32' | 'f64' = 'f32'): EncodedProgram {
  const names: string[] = []
  const nameIndex = new Map<string, number>()
  const intern = (name: string): number => {
    let index = nameIndex.get(name)
    if (index === undefined) {
      index = names.push(name) - 1
      nameIndex.set(name, index)
    }
    return index
  }
  const ids = new Map<number, number>()
  const values: Value[] = []
  const note = (value: Value): void => {
    if (ids.has(value.id)) return
    ids.set(value.id, values.push(value) - 1)
  }
  program.inputs.forEach(note)
  for (const op of program.operations) op.outputs.forEach(note)

  const words: number[] = [VERSION, values.length]
  const id = (value: Value): number => ids.get(value.id) as number
  const list = (items: readonly number[]): void => {
    words.push(items.length)
    for (const item of items) words.push(item)
  }
  for (const value of values) {
    words.push(DTYPES.indexOf(runDtype(value.dtype, precision)))
    list(value.shape)
  }
  list(program.inputs.map(id))
  list(program.outputs.map(id))
  words.push(program.operations.length)
  for (const op of program.operations) {
    words.push(intern(op.name))
    list(op.inputs.map(id))
    list(op.outputs.map(id))
    const attributes = Object.entries(op.attributes).filter(([name]) => !IMPLIED.has(name))
    words.push(attributes.length)
    for (const [name, value] of attributes) {
      words.push(intern(name))
      writeAttribute(words, list, value, intern)
    }
  }
  return { names, words: Float64Array.from(words) }
}

/** The element type that a value has in a run of this precision. */
export function runDtype(dtype: DType, precision: 'f32' | 'f64'): DType {
  return dtype === 'f32' ? precision : dtype
}

function writeAttribute(
  words: number[],
  list: (items: readonly number[]) => void,
  value: Attribute,
  intern: (name: string) => number,
): void {
  const items = typeof value === 'object' ? value : [value]
  const strings = items.length > 0 && typeof items[0] === 'string'
  words.push(strings ? 1 : 0)
  list(strings ? (items as string[]).map(intern) : (items as number[]))
}
