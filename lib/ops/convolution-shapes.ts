import { argumentError } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import { broadcastShapes, elements, sameShape } from '../program/shape.js'
import {
  type Attribute,
  type Attributes,
  formatType,
  type Shape,
  type TensorType,
} from '../program/types.js'

/** Where the channels of images are: [N, C, H, W] or [N, H, W, C], with any number of axes of space. */
export type ImageLayout = 'nchw' | 'nhwc'

/** One number for all axes of space, or one per axis. */
export type PerAxis = number | readonly number[]

/** Elements of zero around the images: one number, one per axis, or [before, after] per axis. */
export type Padding = PerAxis | readonly (readonly [number, number])[]

export interface ConvolutionOptions {
  /** Steps between neighbouring outputs. Default 1. */
  readonly stride?: PerAxis
  /** Default 0. */
  readonly padding?: Padding
  /** Steps between neighbouring elements of a filter. Default 1. */
  readonly dilation?: PerAxis
  /** Output channels in group g see input channels of group g only. Default 1. */
  readonly groups?: number
  /** Default 'nchw'. */
  readonly layout?: ImageLayout
}

/** What all three operations of the family are given. */
export interface ConvolutionAttributes extends Record<string, Attribute> {
  readonly stride: readonly number[]
  readonly before: readonly number[]
  readonly after: readonly number[]
  readonly dilation: readonly number[]
  readonly groups: number
  readonly layout: ImageLayout
}

/** One convolution: images x, filters w and results y, with the axes of space listed in order. */
export interface ConvolutionSizes {
  /** Leading axes of the result, over which the operation is repeated. */
  readonly lead: Shape
  /** Leading axes of the two operands. */
  readonly leads: readonly [Shape, Shape]
  readonly batch: number
  readonly channels: number
  readonly filters: number
  readonly input: readonly number[]
  readonly kernel: readonly number[]
  readonly output: readonly number[]
}

const AXES = 'DHW'
const SPACE_AXES = 3

/** `[N, C, H, W]` or `[N, H, W, C]` for that many axes of space. */
function imageForm(layout: ImageLayout, axes: number, letter = 'C'): string {
  const space = [...AXES.slice(SPACE_AXES - axes)]
  return `[${(layout === 'nhwc' ? ['N', ...space, letter] : ['N', letter, ...space]).join(', ')}]`
}

function filterForm(axes: number): string {
  return `[O, C / groups, ${[...AXES.slice(SPACE_AXES - axes)].map((a) => `k${a.toLowerCase()}`).join(', ')}]`
}

export function imageShape(
  layout: ImageLayout,
  batch: number,
  channels: number,
  space: readonly number[],
): number[] {
  return layout === 'nhwc' ? [batch, ...space, channels] : [batch, channels, ...space]
}

interface Images {
  readonly lead: Shape
  readonly batch: number
  readonly channels: number
  readonly space: readonly number[]
}

function readImages(name: string, type: TensorType, attributes: Attributes): Images {
  const { stride, layout } = attributes as ConvolutionAttributes
  const axes = stride.length
  const rank = type.shape.length
  if (rank < axes + 2) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `'${name}' expected ${imageForm(layout, axes)} (layout '${layout}'), got ${formatType(type)}.`,
    )
  }
  const own = type.shape.slice(rank - axes - 2)
  const [channels, space] =
    layout === 'nhwc' ? [own[axes + 1], own.slice(1, -1)] : [own[1], own.slice(2)]
  return { lead: type.shape.slice(0, rank - axes - 2), batch: own[0], channels, space }
}

interface Filters {
  readonly lead: Shape
  readonly filters: number
  readonly depth: number
  readonly kernel: readonly number[]
}

function readFilters(name: string, type: TensorType, attributes: Attributes): Filters {
  const axes = (attributes as ConvolutionAttributes).stride.length
  const rank = type.shape.length
  if (rank < axes + 2) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `'${name}' expected filters ${filterForm(axes)}, got ${formatType(type)}.`,
    )
  }
  const [filters, depth, ...kernel] = type.shape.slice(rank - axes - 2)
  return { lead: type.shape.slice(0, rank - axes - 2), filters, depth, kernel }
}

function requireNumbers(name: string, a: TensorType, b: TensorType): void {
  if (a.dtype === b.dtype && (a.dtype === 'f32' || a.dtype === 'f64')) return
  throw new LosscapeError(
    'ERR_DTYPE',
    `'${name}' expected two operands of one dtype, f32 or f64, got ${formatType(a)} and ${formatType(b)}.`,
  )
}

function requireChannels(
  name: string,
  channels: number,
  filters: number,
  depth: number | null,
  groups: number,
): void {
  const refuse = (why: string): never => {
    throw new LosscapeError('ERR_SHAPE', `'${name}' ${why}`)
  }
  if (channels < 1 || filters < 1) {
    refuse(`expected one channel or more, got ${channels} in and ${filters} out.`)
  }
  if (channels % groups !== 0 || filters % groups !== 0) {
    refuse(
      `expected groups to divide the channels, got ${groups} groups of ${channels} channels in and ${filters} out.`,
    )
  }
  if (depth !== null && depth * groups !== channels) {
    refuse(
      `expected filters over ${channels / groups} channels (${channels} in ${groups} groups), got filters over ${depth}. Is the layout of the images right?`,
    )
  }
}

/** floor((input + padding - extent of the kernel) / stride) + 1 per axis. Throws ERR_SHAPE. */
function outputSizes(
  name: string,
  input: readonly number[],
  kernel: readonly number[],
  attributes: Attributes,
): number[] {
  const { stride, before, after, dilation } = attributes as ConvolutionAttributes
  return input.map((size, axis) => {
    const padded = size + before[axis] + after[axis]
    const extent = dilation[axis] * (kernel[axis] - 1) + 1
    if (kernel[axis] < 1 || size < 1 || extent > padded) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `'${name}' expected a kernel that fits into the padded images, got a kernel of ${extent} (${kernel[axis]} with dilation ${dilation[axis]}) for ${padded} (${size} with padding ${before[axis]} and ${after[axis]}) on axis ${axis} of space. Pad more, or take a smaller kernel.`,
      )
    }
    return Math.floor((padded - extent) / stride[axis]) + 1
  })
}

function requireOutput(
  name: string,
  expected: readonly number[],
  got: readonly number[],
  type: TensorType,
): void {
  if (sameShape(expected, got)) return
  throw new LosscapeError(
    'ERR_SHAPE',
    `'${name}' expected results of size [${expected}] for these images and filters, got ${formatType(type)}.`,
  )
}

/** x and w of `convolution`. */
export function forwardSizes(
  name: string,
  [x, w]: readonly TensorType[],
  attributes: Attributes,
): ConvolutionSizes {
  requireNumbers(name, x, w)
  const images = readImages(name, x, attributes)
  const { filters, depth, kernel, lead } = readFilters(name, w, attributes)
  requireChannels(name, images.channels, filters, depth, attributes.groups as number)
  return {
    lead: broadcastShapes(images.lead, lead),
    leads: [images.lead, lead],
    batch: images.batch,
    channels: images.channels,
    filters,
    input: images.space,
    kernel,
    output: outputSizes(name, images.space, kernel, attributes),
  }
}

/** dy and w of `convolution_data`; attribute `size` has the axes of space of its result. */
export function dataSizes(
  name: string,
  [dy, w]: readonly TensorType[],
  attributes: Attributes,
): ConvolutionSizes {
  requireNumbers(name, dy, w)
  const images = readImages(name, dy, attributes)
  const { filters, depth, kernel, lead } = readFilters(name, w, attributes)
  const channels = depth * (attributes.groups as number)
  requireChannels(name, channels, images.channels, null, attributes.groups as number)
  if (filters !== images.channels) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `'${name}' expected as many filters as channels of ${formatType(dy)} (${images.channels}), got ${formatType(w)}. Is the layout of the images right?`,
    )
  }
  const input = attributes.size as readonly number[]
  const output = outputSizes(name, input, kernel, attributes)
  requireOutput(name, output, images.space, dy)
  return {
    lead: broadcastShapes(images.lead, lead),
    leads: [images.lead, lead],
    batch: images.batch,
    channels,
    filters,
    input,
    kernel,
    output,
  }
}

/** x and dy of `convolution_weights`; attribute `size` has the axes of space of the filters. */
export function weightSizes(
  name: string,
  [x, dy]: readonly TensorType[],
  attributes: Attributes,
): ConvolutionSizes {
  requireNumbers(name, x, dy)
  const images = readImages(name, x, attributes)
  const results = readImages(name, dy, attributes)
  requireChannels(name, images.channels, results.channels, null, attributes.groups as number)
  if (images.batch !== results.batch) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `'${name}' expected as many images as results, got ${formatType(x)} and ${formatType(dy)}.`,
    )
  }
  const kernel = attributes.size as readonly number[]
  const output = outputSizes(name, images.space, kernel, attributes)
  requireOutput(name, output, results.space, dy)
  return {
    lead: broadcastShapes(images.lead, results.lead),
    leads: [images.lead, results.lead],
    batch: images.batch,
    channels: images.channels,
    filters: results.channels,
    input: images.space,
    kernel,
    output,
  }
}

/** Multiply-adds count twice; what falls on padding is counted as well. */
export function convolutionFlops(sizes: ConvolutionSizes, groups: number): number {
  const { lead, batch, channels, filters, kernel, output } = sizes
  const terms = elements(output) * elements(kernel) * (channels / groups) * filters
  return 2 * elements(lead) * batch * terms
}

const OPTIONS = ['stride', 'padding', 'dilation', 'groups', 'layout'] as const

/** The attributes of `options` for `axes` axes of space. Throws ERR_ARGUMENT. */
export function convolutionAttributes(
  where: string,
  options: ConvolutionOptions,
  axes: number,
  further: readonly string[] = [],
): ConvolutionAttributes {
  requireOptions(where, options, [...OPTIONS, ...further] as (keyof ConvolutionOptions)[])
  const { stride = 1, padding = 0, dilation = 1, groups = 1, layout = 'nchw' } = options
  if (layout !== 'nchw' && layout !== 'nhwc') {
    throw argumentError(where, 'layout', "'nchw' or 'nhwc'", layout)
  }
  if (!Number.isSafeInteger(groups) || groups < 1) {
    throw argumentError(where, 'groups', 'a positive integer', groups)
  }
  const pairs = paddingPairs(where, padding, axes)
  return {
    stride: perAxis(where, 'stride', stride, axes, 1),
    before: pairs.map(([before]) => before),
    after: pairs.map(([, after]) => after),
    dilation: perAxis(where, 'dilation', dilation, axes, 1),
    groups,
    layout,
  }
}

/** One integer per axis of space, each at least `least`. Throws ERR_ARGUMENT. */
export function perAxis(
  where: string,
  name: string,
  value: PerAxis,
  axes: number,
  least: number,
): number[] {
  const list = Array.isArray(value) ? (value as readonly number[]) : new Array(axes).fill(value)
  if (list.length === axes && list.every((v) => Number.isSafeInteger(v) && v >= least)) {
    return [...list]
  }
  const what = `an integer of at least ${least}, or ${axes} of them (one per axis of space)`
  throw argumentError(where, name, what, spelled(value))
}

function paddingPairs(where: string, padding: Padding, axes: number): (readonly number[])[] {
  const list = Array.isArray(padding) ? (padding as readonly unknown[]) : null
  if (!list?.some(Array.isArray)) {
    return perAxis(where, 'padding', padding as PerAxis, axes, 0).map((p) => [p, p])
  }
  const fits =
    list.length === axes &&
    list.every(
      (pair) =>
        Array.isArray(pair) &&
        pair.length === 2 &&
        pair.every((p) => Number.isSafeInteger(p) && p >= 0),
    )
  if (fits) return list as (readonly number[])[]
  const what = `one pair [before, after] of non-negative integers per axis of space (${axes})`
  throw argumentError(where, 'padding', what, spelled(padding))
}

/** Short lists of numbers are told in full: what is wrong is one of them. */
function spelled(value: unknown): unknown {
  return Array.isArray(value) && value.length <= 8 ? JSON.stringify(value) : value
}

/** Axes of space of filters [O, C / groups, k..]. Throws ERR_SHAPE. */
export function axesOfFilters(where: string, w: TensorType, x: TensorType): number {
  const axes = w.shape.length - 2
  if (axes < 1 || axes > SPACE_AXES || x.shape.length !== w.shape.length) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `${where} expected images and filters of one rank, 3, 4 or 5 (1 to 3 axes of space), got ${formatType(x)} and ${formatType(w)}.`,
    )
  }
  return axes
}
