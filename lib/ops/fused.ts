import { defineOperation, definitionOf } from '../program/registry.js'
import { stridedOffsets } from '../program/shape.js'
import type { DType } from '../program/types.js'
import { rounding } from './elementwise.js'

/**
 * The result of elementwise fusion: a formula over an iteration space. It is made by a pass and
 * has no derivatives; here it is only evaluated, which tests the pass.
 */
defineOperation({
  name: 'fused',
  type() {
    throw new TypeError('fused operations are made by the fusion pass with known result types')
  },
  evaluate(inputs, _types, attributes, results) {
    const shape = attributes.shape as readonly number[]
    const strides = attributes.strides as readonly number[]
    const offsets = attributes.offsets as readonly number[]
    const names = attributes.ops as readonly string[]
    const code = attributes.code as readonly number[]
    const constants = attributes.consts as readonly number[]
    const rank = shape.length
    const registers: Float64Array[] = inputs.map((x, i) => {
      const at = stridedOffsets(shape, strides.slice(i * rank, (i + 1) * rank), offsets[i])
      return Float64Array.from(at, (k) => x[k])
    })
    const count = shape.reduce((n, d) => n * d, 1)
    for (let pc = 0; pc < code.length; pc += 4) {
      const name = names[code[pc]]
      const [a, b, c] = code.slice(pc + 1, pc + 4)
      if (name === 'const') {
        registers.push(new Float64Array(count).fill(constants[a]))
        continue
      }
      const f = scalarOf(name)
      const [x, y, z] = [registers[a], registers[b], registers[c]]
      registers.push(Float64Array.from({ length: count }, (_, i) => f(x[i], y?.[i], z?.[i])))
    }
    return (attributes.results as readonly number[]).map((r, i) =>
      registers[r].map(rounding(results[i].dtype)),
    )
  },
})

function scalarOf(name: string): (...args: number[]) => number {
  if (name.startsWith('cast_')) return rounding(name.slice(5) as DType)
  return definitionOf(name).scalar as (...args: number[]) => number
}
