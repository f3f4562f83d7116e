import { elements, stridedOffsets, stridesOf } from '../program/shape.js'
import type { Shape } from '../program/types.js'
import type { ConvolutionAttributes, ConvolutionSizes, ImageLayout } from './convolution-shapes.js'

export type Factor = 'x' | 'w' | 'y'

/** The operands of an operation by what they are to a term, in order; its result is the third. */
export type Given = readonly [Factor, Factor]

/**
 * The float64 reference of the family, term by term: y[n, o, q] = sum x[n, c, p] w[o, c, t] over
 * all (p, t, q) with p = q stride - before + t dilation; `data` and `weights` sum the same terms
 * into x and w.
 *
 * @param out elements of the result, onto which terms are added
 */
export function addTerms(
  sizes: ConvolutionSizes,
  attributes: ConvolutionAttributes,
  given: Given,
  operands: readonly Float64Array[],
  out: Float64Array,
): void {
  const { batch, channels, filters, lead, leads } = sizes
  const { groups, layout } = attributes
  const [depth, width] = [channels / groups, filters / groups]
  const [inputs, taps, outputs] = [sizes.input, sizes.kernel, sizes.output].map(elements)
  const whole: Record<Factor, number> = {
    x: batch * channels * inputs,
    w: filters * depth * taps,
    y: batch * filters * outputs,
  }
  const result = (['x', 'w', 'y'] as const).find((factor) => !given.includes(factor))
  const repeats = elements(lead)
  const starts = given.map((factor, i) => leadOffsets(leads[i], lead, whole[factor]))
  const [strideX, strideY] = [
    imageStrides(layout, channels, inputs),
    imageStrides(layout, filters, outputs),
  ]
  const terms = spaceTerms(sizes, attributes)
  for (let r = 0; r < repeats; r++) {
    const factor = (name: Factor): Float64Array => {
      const i = given.indexOf(name)
      const [array, at] = i < 0 ? [out, r * whole[name]] : [operands[i], starts[i][r]]
      return array.subarray(at, at + whole[name])
    }
    const [x, w, y] = [factor('x'), factor('w'), factor('y')]
    for (let n = 0; n < batch; n++) {
      for (let o = 0; o < filters; o++) {
        const group = Math.floor(o / width)
        for (let c = 0; c < depth; c++) {
          const fromX = n * channels * inputs + (group * depth + c) * strideX.channel
          const fromY = n * filters * outputs + o * strideY.channel
          const fromW = (o * depth + c) * taps
          for (let k = 0; k < terms.length; k += 3) {
            const i = fromX + terms[k] * strideX.point
            const j = fromW + terms[k + 1]
            const q = fromY + terms[k + 2] * strideY.point
            if (result === 'y') y[q] += x[i] * w[j]
            else if (result === 'x') x[i] += y[q] * w[j]
            else w[j] += x[i] * y[q]
          }
        }
      }
    }
  }
}

function imageStrides(layout: ImageLayout, channels: number, points: number) {
  return layout === 'nhwc' ? { channel: 1, point: channels } : { channel: points, point: 1 }
}

/** Where each repetition finds an operand whose leading axes broadcast. */
function leadOffsets(own: Shape, lead: Shape, size: number): Int32Array {
  const strides = stridesOf(own)
  const skip = lead.length - own.length
  return stridedOffsets(
    lead,
    lead.map((_, i) => (i < skip || own[i - skip] === 1 ? 0 : size * strides[i - skip])),
  )
}

/** Triples of flat positions (in x, in the kernel, in y) of all terms inside the images. */
function spaceTerms(sizes: ConvolutionSizes, attributes: ConvolutionAttributes): number[] {
  const { input, kernel, output } = sizes
  const { stride, before, dilation } = attributes
  let terms = [0, 0, 0]
  for (const axis of input.keys()) {
    const longer: number[] = []
    for (let k = 0; k < terms.length; k += 3) {
      for (let q = 0; q < output[axis]; q++) {
        for (let t = 0; t < kernel[axis]; t++) {
          const p = q * stride[axis] - before[axis] + t * dilation[axis]
          if (p < 0 || p >= input[axis]) continue
          longer.push(
            terms[k] * input[axis] + p,
            terms[k + 1] * kernel[axis] + t,
            terms[k + 2] * output[axis] + q,
          )
        }
      }
    }
    terms = longer
  }
  return terms
}
