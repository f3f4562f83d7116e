import { LosscapeError } from '../errors.js'
import { elements, sameShape } from '../program/shape.js'
import {
  type Attribute,
  type Attributes,
  formatType,
  isFloat,
  type Shape,
  type TensorType,
} from '../program/types.js'

/** What the operations of the family are told at compile time. */
export interface NormAttributes extends Record<string, Attribute> {
  /** Statistics over the batch, per channel. */
  readonly stage1: 'none' | 'batch' | 'estimate' | 'frozen'
  /** Groups of the statistics over (sample, group); 0 for none. */
  readonly groups: number
  readonly epsilon1: number
  readonly epsilon2: number
  readonly affine1: number
  readonly affine2: 'none' | 'channel' | 'group'
  /** Of 'estimate': whether there is an operand that says that estimates start with this batch. */
  readonly warm: number
  readonly order: 'before' | 'after'
  readonly about: 'old' | 'batch'
  readonly through: number
  readonly relu: number
  readonly residual: number
  readonly layout: 'nchw' | 'nhwc'
  /** Leading axes of every operand: that many independent batches. */
  readonly lead: number
}

/** Sizes of a call: L batches of N samples with C channels of S values, in G groups (0: none). */
export interface NormSizes {
  readonly lead: Shape
  readonly copies: number
  readonly samples: number
  readonly channels: number
  readonly spatial: number
  readonly groups: number
  readonly nhwc: boolean
}

export const attributesOf = (attributes: Attributes): NormAttributes => attributes as NormAttributes

const AFFINE1 = ['scale1', 'shift1']
const AFFINE2 = ['scale2', 'shift2']

/** Names of the operands that every operation of the family begins with. */
export function headNames(attributes: NormAttributes): string[] {
  const { stage1 } = attributes
  return [
    'x',
    ...(stage1 === 'estimate' || stage1 === 'frozen' ? ['mean', 'variance'] : []),
    ...(stage1 === 'estimate' ? ['rate'] : []),
    ...(attributes.warm ? ['warm'] : []),
    ...activeNames(attributes).slice(1),
  ]
}

/** Names of the operands that have tangents and gradients. */
export function activeNames(attributes: NormAttributes): string[] {
  return [
    'x',
    ...(attributes.affine1 ? AFFINE1 : []),
    ...(attributes.affine2 === 'none' ? [] : AFFINE2),
    ...(attributes.residual ? ['residual'] : []),
  ]
}

export function normSizes(x: TensorType, attributes: NormAttributes): NormSizes {
  const { lead: count, layout, groups } = attributes
  const lead = x.shape.slice(0, count)
  const [samples, ...rest] = x.shape.slice(count)
  const nhwc = layout === 'nhwc'
  const channels = (nhwc ? rest.at(-1) : rest[0]) as number
  const spatial = elements(nhwc ? rest.slice(0, -1) : rest.slice(1))
  return { lead, copies: elements(lead), samples, channels, spatial, groups, nhwc }
}

/** The shape of an operand or result by its name. */
export function namedShape(name: string, x: TensorType, attributes: NormAttributes): number[] {
  const { lead, samples, channels, groups } = normSizes(x, attributes)
  switch (name) {
    case 'x':
    case 'residual':
      return [...x.shape]
    case 'rate':
    case 'warm':
      return [...lead]
    case 'moments':
      return [...lead, samples, 3, channels]
    case 'scale2':
    case 'shift2':
      return [...lead, attributes.affine2 === 'group' ? groups : channels]
    default:
      return [...lead, channels]
  }
}

/** Checks the head of an operation. Throws ERR_SHAPE or ERR_DTYPE. */
export function checkHead(
  operation: string,
  inputs: readonly TensorType[],
  attributes: NormAttributes,
): void {
  const [x] = inputs
  const form = attributes.layout === 'nhwc' ? '[N, .., C]' : '[N, C, ..]'
  const fail = (code: 'ERR_SHAPE' | 'ERR_DTYPE', expected: string, got: string): never => {
    throw new LosscapeError(code, `'${operation}' expected ${expected}, got ${got}.`)
  }
  if (!isFloat(x.dtype)) fail('ERR_DTYPE', 'floating-point activations', formatType(x))
  if (x.shape.length < attributes.lead + 2) fail('ERR_SHAPE', `activations ${form}`, formatType(x))
  const { samples, channels, spatial, groups } = normSizes(x, attributes)
  if (channels < 1) fail('ERR_SHAPE', `activations ${form} of one channel or more`, formatType(x))
  if (groups > 0 && channels % groups !== 0) {
    fail(
      'ERR_SHAPE',
      `channels that ${groups} groups divide evenly (choose a divisor of ${channels} as groups)`,
      `${channels} channels in ${formatType(x)}`,
    )
  }
  if (groups > 0 && (channels / groups) * spatial === 1) {
    fail(
      'ERR_SHAPE',
      'two values or more in each (sample, group), whose variance is 0 otherwise (take fewer groups)',
      `${groups} groups of ${formatType(x)}`,
    )
  }
  const values = samples * spatial
  if (attributes.stage1 === 'batch' && values < 2) {
    fail(
      'ERR_SHAPE',
      'two values or more in each channel of the batch, whose variance is not defined otherwise (take frozen or estimated statistics)',
      `${values} in ${formatType(x)}`,
    )
  }
  if (attributes.stage1 === 'estimate' && values < 1) {
    fail('ERR_SHAPE', 'one value or more in each channel', formatType(x))
  }
  for (const [i, name] of headNames(attributes).entries()) {
    expectOperand(operation, name, inputs[i], namedShape(name, x, attributes), x)
  }
}

/** Throws ERR_SHAPE or ERR_DTYPE where an operand is not of x's type with that shape. */
export function expectOperand(
  operation: string,
  what: string,
  got: TensorType,
  shape: Shape,
  x: TensorType,
): void {
  if (got.dtype === x.dtype && sameShape(got.shape, shape)) return
  throw new LosscapeError(
    got.dtype === x.dtype ? 'ERR_SHAPE' : 'ERR_DTYPE',
    `'${operation}' expected ${what} of ${x.dtype}[${shape}] for activations ${formatType(x)}, got ${formatType(got)}.`,
  )
}
