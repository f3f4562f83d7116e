import { argumentError } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { defineOperation, type MaybeTensor } from '../program/registry.js'
import { elements, range, sameShape } from '../program/shape.js'
import { emitOne, Tensor } from '../program/tensor.js'
import { type Attributes, formatType, type Shape, type TensorType } from '../program/types.js'
import { addTerms, type Given } from './convolution-reference.js'
import {
  axesOfFilters,
  type ConvolutionAttributes,
  type ConvolutionOptions,
  type ConvolutionSizes,
  convolutionAttributes,
  dataSizes,
  forwardSizes,
  imageShape,
  type PerAxis,
  perAxis,
  weightSizes,
} from './convolution-shapes.js'
import { sumToShape } from './matmul.js'
import { reshape } from './movement.js'

export type { ConvolutionOptions, ImageLayout, Padding, PerAxis } from './convolution-shapes.js'

/*
 *   convolution          x, w [, c]  -> y   y[n, o, q] = sum_(c, t) x[n, c, q s - b + t d] w[o, c, t]
 *   convolution_data     dy, w [, c] -> x   the same terms, summed for each element of x
 *   convolution_weights  x, dy [, c] -> w   the same terms, summed for each element of w
 *
 * Three bilinear maps of one trilinear form <y, x * w>: each derivative is another of the three, so
 * derivatives exist to any order. The addend c appears when a program is lowered. Operands may have
 * leading axes that broadcast, as those of a matrix product do: vmap makes them.
 */

type Name = 'convolution' | 'convolution_data' | 'convolution_weights'
type SizesOf = (
  name: string,
  types: readonly TensorType[],
  attributes: Attributes,
) => ConvolutionSizes

const layoutOf = (attributes: Attributes): ConvolutionAttributes =>
  attributes as ConvolutionAttributes

const common = (attributes: Attributes): ConvolutionAttributes => {
  const { stride, before, after, dilation, groups, layout } = layoutOf(attributes)
  return { stride, before, after, dilation, groups, layout }
}

/** A product of the family; leading axes of images that share their filters become more images. */
function product(name: Name, a: Tensor, b: Tensor, attributes: Attributes): Tensor {
  const rank = layoutOf(attributes).stride.length + 2
  const lead = a.shape.slice(0, a.rank - rank)
  if (name === 'convolution_weights' || lead.length === 0 || b.rank > rank) {
    return emitOne(name, [a, b], attributes)
  }
  const own = a.shape.slice(lead.length)
  const merged = reshape(a, [elements(lead) * own[0], ...own.slice(1)])
  const y = emitOne(name, [merged, b], attributes)
  return reshape(y, [...lead, own[0], ...y.shape.slice(1)])
}

const spaceOf = (x: Tensor, attributes: Attributes): readonly number[] => {
  const { stride, layout } = layoutOf(attributes)
  const own = x.shape.slice(x.rank - stride.length - 2)
  return layout === 'nhwc' ? own.slice(1, -1) : own.slice(2)
}
const kernelOf = (w: Tensor, attributes: Attributes): Shape =>
  w.shape.slice(w.rank - layoutOf(attributes).stride.length)

/** y of x and w. */
const forward = (x: Tensor, w: Tensor, attributes: Attributes): Tensor =>
  product('convolution', x, w, common(attributes))
/** What y sends back to an x of those axes of space. */
const toData = (dy: Tensor, w: Tensor, attributes: Attributes, size: Shape): Tensor =>
  product('convolution_data', dy, w, { ...common(attributes), size })
/** What y sends back to filters of that kernel. */
const toWeights = (x: Tensor, dy: Tensor, attributes: Attributes, size: Shape): Tensor =>
  product('convolution_weights', x, dy, { ...common(attributes), size })

/** What the three have in common. */
function define(
  name: Name,
  sizesOf: SizesOf,
  given: Given,
  shapeOf: (sizes: ConvolutionSizes, attributes: ConvolutionAttributes) => Shape,
  vjp: (
    [a, b]: readonly Tensor[],
    ct: Tensor,
    attributes: Attributes,
  ) => readonly [() => Tensor, () => Tensor],
): void {
  defineOperation({
    name,
    batching: 'merge',
    type(inputs, attributes) {
      const sizes = sizesOf(name, inputs, attributes)
      const shape = [...sizes.lead, ...shapeOf(sizes, layoutOf(attributes))]
      const type = { dtype: inputs[0].dtype, shape }
      const c = inputs[2]
      if (c && !(c.dtype === type.dtype && sameShape(c.shape, shape))) {
        throw new LosscapeError(
          'ERR_SHAPE',
          `'${name}' accumulates onto ${formatType(type)}, got ${formatType(c)}.`,
        )
      }
      return [type]
    },
    evaluate([a, b, c], types, attributes, [type]) {
      const out = c ? c.slice() : new Float64Array(elements(type.shape))
      addTerms(sizesOf(name, types, attributes), layoutOf(attributes), given, [a, b], out)
      return [out]
    },
    // Nothing is differentiated or mapped any more once there is an addend.
    jvp({ inputs: [a, b], attributes }, [ta, tb]) {
      const terms: Tensor[] = []
      if (ta) terms.push(product(name, ta, b, attributes))
      if (tb) terms.push(product(name, a, tb, attributes))
      return [terms.reduce((s, t) => emitOne('add', [s, t]))]
    },
    vjp({ inputs, attributes }, [ct], needed): MaybeTensor[] {
      if (!ct) return [null, null]
      return vjp(inputs, ct, attributes).map((make, i) =>
        needed[i] ? sumToShape(make(), inputs[i].shape) : null,
      )
    },
    vmap([a, b], batched, attributes) {
      const rank = layoutOf(attributes).stride.length + 2
      // The mapped axis has to stand before the leading axes of the operand with more of them.
      const inner = Math.max(...[a, b].map((x, i) => x.rank - Number(batched[i]) - rank))
      const [left, right] = [a, b].map((x, i) => {
        const missing = inner - (x.rank - 1 - rank)
        const ones = new Array<number>(Math.max(0, missing)).fill(1)
        return batched[i] && missing > 0
          ? reshape(x, [x.shape[0], ...ones, ...x.shape.slice(1)])
          : x
      })
      return [product(name, left, right, attributes)]
    },
  })
}

define(
  'convolution',
  forwardSizes,
  ['x', 'w'],
  ({ batch, filters, output }, { layout }) => imageShape(layout, batch, filters, output),
  ([x, w], ct, attributes) => [
    () => toData(ct, w, attributes, spaceOf(x, attributes)),
    () => toWeights(x, ct, attributes, kernelOf(w, attributes)),
  ],
)

define(
  'convolution_data',
  dataSizes,
  ['y', 'w'],
  ({ batch, channels, input }, { layout }) => imageShape(layout, batch, channels, input),
  ([dy, w], ct, attributes) => [
    () => forward(ct, w, attributes),
    () => toWeights(ct, dy, attributes, kernelOf(w, attributes)),
  ],
)

define(
  'convolution_weights',
  weightSizes,
  ['x', 'y'],
  ({ channels, filters, kernel }, { groups }) => [filters, channels / groups, ...kernel],
  ([x, dy], ct, attributes) => [
    () => toData(dy, ct, attributes, spaceOf(x, attributes)),
    () => forward(x, ct, attributes),
  ],
)

function requireTensors(where: string, tensors: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(tensors)) {
    if (!(value instanceof Tensor)) throw argumentError(where, name, 'a traced tensor', value)
  }
}

/**
 * Convolution (cross-correlation, as in all of deep learning) of images with filters:
 *
 *   y[n, o, q] = sum_(c, t) x[n, c, q stride - before + t dilation] w[o, c, t]
 *
 * over one, two or three axes of space, with zeros outside the image. Output sizes are
 * floor((size + padding - dilation (kernel - 1) - 1) / stride) + 1. `groups` = C is the depthwise
 * convolution.
 *
 * Cost: 2 N |q| O (C / groups) |t| FLOPs. f32 through oneDNN, f64 through matrix products over
 * gathered patches. 'nhwc' needs no copies; 'nchw' may be brought into a blocked layout and back.
 *
 * @param x [N, C, H, W], or [N, H, W, C] with layout 'nhwc'; [N, C, L] and [N, C, D, H, W] likewise
 * @param w [O, C / groups, kh, kw] in either layout
 * @returns [N, O, H', W'] or [N, H', W', O]
 * @throws ERR_SHAPE (ranks, channels, groups that do not divide them, a kernel larger than the padded
 * images), ERR_DTYPE, ERR_ARGUMENT for options
 * @example
 * trace((x, w) => convolution(x, w, { stride: 2, padding: 1, layout: 'nhwc' }), [
 *   { dtype: 'f32', shape: [8, 32, 32, 3] },
 *   { dtype: 'f32', shape: [16, 3, 3, 3] },
 * ]) // f32[8,16,16,16]
 */
export function convolution(x: Tensor, w: Tensor, options: ConvolutionOptions = {}): Tensor {
  requireTensors('convolution()', { x, w })
  const axes = axesOfFilters('convolution()', w, x)
  return emitOne('convolution', [x, w], convolutionAttributes('convolution()', options, axes))
}

export interface ConvolutionTransposeOptions extends ConvolutionOptions {
  /** Elements more after each axis, less than the stride: which of several sizes it gives. Default 0. */
  readonly outputPadding?: PerAxis
}

/**
 * Transposed convolution: the adjoint of `convolution` with the same filters and options, which
 * takes O channels to C. Sizes (size - 1) stride - padding + dilation (kernel - 1) + 1 +
 * outputPadding.
 *
 * @param x [N, C, H, W], or [N, H, W, C] with layout 'nhwc'; one or three axes of space likewise
 * @param w [C, O / groups, kh, kw]
 * @returns [N, O, H', W'] or [N, H', W', O]
 * @throws as `convolution`
 */
export function convolutionTranspose(
  x: Tensor,
  w: Tensor,
  options: ConvolutionTransposeOptions = {},
): Tensor {
  const where = 'convolutionTranspose()'
  requireTensors(where, { x, w })
  const axes = axesOfFilters(where, w, x)
  const attributes = convolutionAttributes(where, options, axes, ['outputPadding'])
  const { stride, before, after, dilation } = attributes
  const extra = perAxis(where, 'outputPadding', options.outputPadding ?? 0, axes, 0)
  const [space, kernel] = [spaceOf(x, attributes), kernelOf(w, attributes)]
  const size = range(axes).map((axis) => {
    if (extra[axis] >= stride[axis]) {
      const what = `less than the stride on each axis ([${stride}])`
      throw argumentError(where, 'outputPadding', what, `[${extra}]`)
    }
    const padding = before[axis] + after[axis]
    const extent = dilation[axis] * (kernel[axis] - 1) + 1
    return (space[axis] - 1) * stride[axis] + extent + extra[axis] - padding
  })
  if (size.some((d) => d < 1)) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `${where} of ${formatType(x)} with filters ${formatType(w)} has results of size [${size}]: pad less.`,
    )
  }
  return emitOne('convolution_data', [x, w], { ...attributes, size })
}
