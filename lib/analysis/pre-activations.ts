import { attributesOf, headNames, normSizes } from '../ops/channel-norm-shapes.js'
import { add } from '../ops/elementwise.js'
import { emit, type Tensor } from '../program/tensor.js'
import { Environment, trace } from '../program/trace.js'
import type { Operation, Program, Value } from '../program/types.js'

/** A layer of channels inside a network. */
export interface PreActivation {
  /** The norm's, `layer1.0.bn1`; of a ReLU without norm `relu.K`. */
  readonly name: string
  /** A ReLU follows, directly or behind the sum with a shortcut. */
  readonly relu: boolean
  /** A shortcut is added between norm and ReLU. */
  readonly residual: boolean
  /** Groups of the norm's statistics over channels; 0 without. */
  readonly groups: number
  readonly axis: number
}

/**
 * The program with other results: what its ReLUs see ('relu'), or what its norms give before
 * shortcut and ReLU ('norm'), in order. Fused norms never hold these values, so each is computed
 * once more without what is fused behind it.
 *
 * @param names of the program's first inputs, the parameters
 * @param layout where the channels of a ReLU without norm are
 */
export function preActivations(
  program: Program,
  names: readonly string[],
  at: 'relu' | 'norm',
  layout: 'nchw' | 'nhwc',
): { program: Program; layers: PreActivation[] } {
  const layers: PreActivation[] = []
  const inputNames = new Map(program.inputs.map((value, i) => [value.id, names[i] ?? '']))
  const norms = new Map<number, Operation>()
  const made = new Map<number, Operation>()
  let count = 0
  const traced = trace((...args) => {
    const values: Tensor[] = []
    const environment = new Environment()
    environment.set(program.inputs, args)
    for (const op of program.operations) {
      const inputs = environment.all(op.inputs)
      environment.set(op.outputs, emit(op.name, inputs, op.attributes))
      for (const value of op.outputs) made.set(value.id, op)
      if (op.name === 'channel_norm') {
        norms.set(op.outputs[0].id, op)
        const { relu, residual } = attributesOf(op.attributes)
        if (at === 'relu' && !relu) continue
        const bare = withoutEnd(op, inputs)
        const shortcut = residual ? inputs[headNames(attributesOf(op.attributes)).length - 1] : null
        values.push(at === 'relu' && shortcut ? add(bare, shortcut) : bare)
        layers.push(normLayer(op, nameOf(op, made, inputNames) ?? `norm.${norms.size - 1}`))
      } else if (op.name === 'relu' && at === 'relu') {
        const [x] = inputs
        const norm = norms.get(source(op.inputs[0], made).id)
        const rank = x.shape.length
        values.push(x)
        layers.push({
          name: (norm && nameOf(norm, made, inputNames)) ?? `relu.${count++}`,
          relu: true,
          residual: false,
          groups: norm ? attributesOf(norm.attributes).groups : 0,
          axis: layout === 'nchw' || rank === 2 ? 1 : rank - 1,
        })
      }
    }
    return values
  }, program.inputs)
  return { program: traced, layers }
}

/** The norm's result without shortcut and ReLU. */
function withoutEnd(op: Operation, inputs: readonly Tensor[]): Tensor {
  const attributes = attributesOf(op.attributes)
  const head = attributes.residual ? inputs.slice(0, -1) : inputs
  return emit(op.name, head, { ...attributes, relu: 0, residual: 0 })[0]
}

function normLayer(op: Operation, name: string): PreActivation {
  const attributes = attributesOf(op.attributes)
  const { nhwc, groups } = normSizes(op.inputs[0], attributes)
  const rank = op.inputs[0].shape.length
  return {
    name,
    relu: attributes.relu === 1,
    residual: attributes.residual === 1,
    groups,
    axis: nhwc ? rank - 1 : attributes.lead + 1,
  }
}

/** The name of the parameter that scales last, without `.weight`. */
function nameOf(
  op: Operation,
  made: ReadonlyMap<number, Operation>,
  inputNames: ReadonlyMap<number, string>,
): string | undefined {
  const head = headNames(attributesOf(op.attributes))
  const at = Math.max(head.indexOf('scale1'), head.indexOf('scale2'))
  if (at < 0) return undefined
  return inputNames.get(source(op.inputs[at], made).id)?.replace(/\.weight$/, '')
}

/** Where a value comes from, through operations that only change its form. */
function source(value: Value, made: ReadonlyMap<number, Operation>): Value {
  const op = made.get(value.id)
  const passes = op && ['tap', 'reshape', 'broadcast', 'cast'].includes(op.name)
  return passes ? source(op.inputs[0], made) : value
}
