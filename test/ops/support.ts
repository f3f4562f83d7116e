import { elements } from '../../lib/program/shape.js'
import { isFloat, type Program } from '../../lib/program/types.js'
import { uniforms } from '../../lib/random/index.js'
import type { OperationCase } from './cases.js'

/** Random operands of a case, in its domain. */
export function draw(test: OperationCase, seed: number): Float64Array[] {
  const [low, high] = test.domain ?? [-2, 2]
  return test.inputs.map((type, i) => {
    const u = uniforms(seed, i, 0, elements(type.shape))
    return isFloat(type.dtype)
      ? u.map((x) => low + (high - low) * x)
      : u.map((x) => Math.floor(x * (test.integers ?? 1)))
  })
}

/** Random tangents, zero for integer inputs. */
export function tangentsFor(program: Program, seed: number): Float64Array[] {
  return program.inputs.map((value, i) =>
    isFloat(value.dtype)
      ? uniforms(seed, 100 + i, 0, elements(value.shape)).map((u) => 2 * u - 1)
      : new Float64Array(elements(value.shape)),
  )
}

export const floats = (program: Program, arrays: Float64Array[]): Float64Array[] =>
  arrays.filter((_, i) => isFloat(program.inputs[i].dtype))
