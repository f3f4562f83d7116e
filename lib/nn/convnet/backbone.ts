import * as ops from '../../ops/index.js'
import type { Tensor } from '../../program/tensor.js'
import type { Builder, Layer, Pass } from './builder.js'

/** How residual blocks pass the input of a block that changes its shape. */
export type Shortcut = 'pad' | 'convolution'

/** The part of a residual network before its head. */
export interface BackboneSpec {
  /** Put before all names, `backbone.`. */
  readonly prefix: string
  /** Channels of the images. */
  readonly channels: number
  /** `imagenet`: 7 x 7 of stride 2 and a max pooling; `cifar`: 3 x 3. */
  readonly stem: 'imagenet' | 'cifar'
  readonly block: 'basic' | 'bottleneck'
  /** Blocks of each stage. */
  readonly blocks: readonly number[]
  /** Channels of the stem and of the first stage before its expansion; each stage doubles them. */
  readonly base: number
  /** Channels inside the bottlenecks of the first stage. Default `base`. */
  readonly inner?: number
  /** Groups of the 3 x 3 convolutions of bottlenecks. Default 1. */
  readonly cardinality?: number
  readonly shortcut: Shortcut
  /** Norm and ReLU before convolutions instead of behind them (He et al., arXiv 1603.05027). */
  readonly preactivation: boolean
  /** The last norm of every residual branch begins with scale 0. */
  readonly zeroInit: boolean
  /** Strides of the stages; where it is 1 for a stage after the first, dilation grows instead. */
  readonly strides: readonly number[]
}

export interface Backbone {
  /** Outputs of the stages, the last one ready for a head. */
  readonly features: (x: Tensor, pass: Pass) => Tensor[]
  /** Channels of each. */
  readonly channels: readonly number[]
}

/** Declares a residual backbone; see {@link BackboneSpec}. */
export function backbone(b: Builder, spec: BackboneSpec): Backbone {
  const { prefix, block, blocks, base, inner = base, preactivation } = spec
  const expansion = block === 'bottleneck' ? 4 : 1
  const first = stemOf(b, spec)
  let inputs = base
  let dilation = 1
  const stages = blocks.map((count, s) => {
    const [outputs, width] = [base * 2 ** s * expansion, inner * 2 ** s]
    const stride = spec.strides[s]
    const before = dilation
    if (s > 0 && stride === 1) dilation *= 2
    const layers = Array.from({ length: count }, (_, i) => {
      const unit: Unit = {
        name: `${prefix}layer${s + 1}.${i}`,
        inputs: i === 0 ? inputs : outputs,
        width,
        outputs,
        stride: i === 0 ? stride : 1,
        dilation: i === 0 ? before : dilation,
      }
      return residual(b, spec, unit)
    })
    inputs = outputs
    return layers
  })
  const last = preactivation ? b.normalization(`${prefix}bn`, inputs) : null
  return {
    channels: blocks.map((_, s) => base * 2 ** s * expansion),
    features(x, pass) {
      let y = first(x, pass)
      const outputs = stages.map((layers) => {
        for (const layer of layers) y = layer(y, pass)
        return y
      })
      return last ? [...outputs.slice(0, -1), last(y, pass, { relu: true })] : outputs
    },
  }
}

function stemOf(b: Builder, { prefix, channels, stem, base, preactivation }: BackboneSpec): Layer {
  const options =
    stem === 'imagenet'
      ? { inputs: channels, outputs: base, kernel: 7, stride: 2 }
      : { inputs: channels, outputs: base, kernel: 3 }
  const [name, norm] = [`${prefix}conv1`, `${prefix}bn1`]
  // Before pre-activation blocks the convolution stands alone, its norms being those of the blocks.
  const convolve = preactivation ? b.convolution(name, options) : b.normalized(name, norm, options)
  return (x, pass) => {
    const y = convolve(x, pass, { relu: true })
    return stem === 'imagenet'
      ? ops.maxPool(y, { kernel: 3, stride: 2, padding: 1, layout: 'nhwc' })
      : y
  }
}

interface Unit {
  /** `layer1.0` */
  readonly name: string
  readonly inputs: number
  /** Inside. */
  readonly width: number
  readonly outputs: number
  readonly stride: number
  readonly dilation: number
}

interface Step {
  readonly inputs: number
  readonly outputs: number
  readonly kernel: number
  readonly stride?: number
  readonly dilation?: number
  readonly groups?: number
}

/** Convolutions of a block's branch. */
function steps({ block, cardinality = 1 }: BackboneSpec, unit: Unit): Step[] {
  const { inputs, width, outputs, stride, dilation } = unit
  return block === 'basic'
    ? [
        { inputs, outputs, kernel: 3, stride, dilation },
        { inputs: outputs, outputs, kernel: 3, dilation },
      ]
    : [
        { inputs, outputs: width, kernel: 1 },
        { inputs: width, outputs: width, kernel: 3, stride, dilation, groups: cardinality },
        { inputs: width, outputs, kernel: 1 },
      ]
}

function residual(b: Builder, spec: BackboneSpec, unit: Unit): Layer {
  return spec.preactivation ? preactivated(b, spec, unit) : activated(b, spec, unit)
}

/** relu(branch(x) + shortcut(x)), the sum and the ReLU fused into the last norm. */
function activated(b: Builder, spec: BackboneSpec, unit: Unit): Layer {
  const list = steps(spec, unit)
  const layers = list.map((step, i) =>
    b.normalized(`${unit.name}.conv${i + 1}`, `${unit.name}.bn${i + 1}`, {
      ...step,
      zero: spec.zeroInit && i === list.length - 1,
    }),
  )
  const shortcut = shortcutOf(b, spec, unit)
  return (x, pass) => {
    let y = x
    for (const [i, layer] of layers.entries()) {
      const residual = i === layers.length - 1 ? shortcut(x, pass) : undefined
      y = layer(y, pass, { relu: true, residual })
    }
    return ops.tap(unit.name, y)
  }
}

/** branch(a) + shortcut with a = relu(norm(x)); a shortcut that convolves starts from a. */
function preactivated(b: Builder, spec: BackboneSpec, unit: Unit): Layer {
  const list = steps(spec, unit)
  const layers = list.map((step, i) => {
    const norm = b.normalization(`${unit.name}.bn${i + 1}`, step.inputs)
    // The norm behind the last convolution is the next block's, behind the sum.
    const next = i + 1 < list.length ? `${unit.name}.bn${i + 2}` : undefined
    return { norm, convolve: b.convolution(`${unit.name}.conv${i + 1}`, { ...step, norm: next }) }
  })
  const shortcut = shortcutOf(b, spec, unit)
  return (x, pass) => {
    let y = x
    let start = x
    for (const [i, { norm, convolve }] of layers.entries()) {
      const a = norm(y, pass, { relu: true })
      if (i === 0) start = a
      y = convolve(a, pass)
    }
    const same = unit.inputs === unit.outputs && unit.stride === 1
    const passed = same || spec.shortcut === 'pad' ? x : start
    return ops.tap(unit.name, ops.add(y, shortcut(passed, pass)))
  }
}

function shortcutOf(b: Builder, spec: BackboneSpec, unit: Unit): Layer {
  const { inputs, outputs, stride, name } = unit
  if (inputs === outputs && stride === 1) return (x) => x
  if (spec.shortcut === 'pad') return padded(unit)
  const options = { inputs, outputs, kernel: 1, stride }
  if (spec.preactivation) return b.convolution(`${name}.downsample.0`, options)
  return b.normalized(`${name}.downsample.0`, `${name}.downsample.1`, options)
}

/** Every stride-th pixel, and channels of zeros around: a shortcut without parameters. */
function padded({ inputs, outputs, stride }: Unit): Layer {
  const low = Math.floor((outputs - inputs) / 2)
  return (x) => {
    const picked = stride === 1 ? x : ops.averagePool(x, { kernel: 1, stride, layout: 'nhwc' })
    return ops.pad(picked, [0, 0, 0, low], [0, 0, 0, outputs - inputs - low])
  }
}
