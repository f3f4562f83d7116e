import { curvatureProgram } from '../../lib/curvature/programs.js'
import type { CurvatureKind } from '../../lib/curvature/setting.js'
import type { DataSet } from '../../lib/data/dataset.js'
import { type LossSpec, resolveLoss } from '../../lib/nn/loss.js'
import { mlp } from '../../lib/nn/mlp.js'
import { defineModel, type Model } from '../../lib/nn/model.js'
import * as ops from '../../lib/ops/index.js'
import { evaluate } from '../../lib/program/index.js'
import { normals } from '../../lib/random/index.js'
import { denseOracle } from './dense.js'

/** A model, a loss and data; every operator is compared with a dense float64 oracle on each. */
export interface ModelCase {
  readonly name: string
  readonly model: Model
  readonly loss: LossSpec
  readonly set: DataSet
  readonly params: Float64Array
  /** Chunk sizes to go through; the last chunk is uneven for some. */
  readonly batches: readonly number[]
}

function dataSet(
  name: string,
  size: number,
  shape: readonly number[],
  targets: { classes: number } | { targetShape: readonly number[] },
): DataSet {
  const features = shape.reduce((n, d) => n * d, 1)
  const inputs = normals(31, 0, 0, size * features, new Float64Array(size * features))
  const common = { name, size, shape, inputs, normalization: { mean: [0.1], std: [1.3] } }
  if ('classes' in targets) {
    const labels = Int32Array.from({ length: size }, (_, i) => (i * 7 + (i >> 2)) % targets.classes)
    return { ...common, targets: labels, targetShape: [], classes: targets.classes }
  }
  const width = targets.targetShape.reduce((n, d) => n * d, 1)
  return {
    ...common,
    targets: normals(32, 0, 0, size * width, new Float64Array(size * width)),
    targetShape: targets.targetShape,
    classes: null,
  }
}

function modelCase(
  name: string,
  model: Model,
  loss: LossSpec,
  set: DataSet,
  batches: readonly number[] = [set.size, 5],
): ModelCase {
  const params = normals(33, 0, 0, model.size, new Float64Array(model.size)).map((x) => 0.4 * x)
  return { name, model, loss, set, params, batches }
}

export const MODEL_CASES: readonly ModelCase[] = [
  modelCase(
    'softmax regression',
    mlp({ input: 6, hidden: [], classes: 4 }),
    'cross-entropy',
    dataSet('a', 13, [6], { classes: 4 }),
  ),
  modelCase(
    'tanh 4-6-5-3',
    mlp({ input: 4, hidden: [6, 5], classes: 3, activation: 'tanh' }),
    'cross-entropy',
    dataSet('b', 12, [4], { classes: 3 }),
    [12, 7, 1],
  ),
  modelCase(
    'relu without bias, label smoothing',
    mlp({ input: [2, 3], hidden: [9], classes: 3, bias: false }),
    { kind: 'cross-entropy', smoothing: 0.1, classWeights: [1, 2, 0.5] },
    dataSet('c', 11, [2, 3], { classes: 3 }),
  ),
  modelCase(
    'gelu with layer norm',
    mlp({ input: 5, hidden: [7, 6], classes: 3, activation: 'gelu', layerNorm: true }),
    'cross-entropy',
    dataSet('d', 9, [5], { classes: 3 }),
  ),
  modelCase(
    'silu regression',
    mlp({ input: 5, hidden: [8], classes: 2, activation: 'silu' }),
    'mse',
    dataSet('e', 10, [5], { targetShape: [2] }),
  ),
  modelCase(
    'binary logistic, softplus',
    mlp({ input: 3, hidden: [5], classes: 1, activation: 'softplus' }),
    'logistic',
    dataSet('f', 8, [3], { classes: 2 }),
  ),
  modelCase(
    'custom product of parameters',
    defineModel({
      name: 'uv',
      input: [1],
      output: [1],
      parameters: [
        { name: 'u', shape: [1, 1], init: { kind: 'ones' } },
        { name: 'v', shape: [1, 1], init: { kind: 'ones' } },
      ],
      apply: ({ u, v }, x) => ops.mul(x, ops.mul(u, v)),
    }),
    'half-squared-error',
    dataSet('g', 4, [1], { targetShape: [1] }),
  ),
]

/** Every kind of operator; a new one is tested on all cases. */
export const KINDS: readonly CurvatureKind[] = [
  'hessian',
  'gauss-newton',
  'remainder',
  'fisher',
  'fisher-monte-carlo',
  'empirical-fisher',
  'gradient-covariance',
]

/** Product with the mean matrix in float64, without splitting, lowering or the native side. */
export function referenceProduct(
  kind: CurvatureKind,
  test: ModelCase,
  v: Float64Array,
  selected = test.model.layout.names.map(() => true),
): Float64Array {
  const { model, set, params } = test
  const split = curvatureProgram(kind, {
    model,
    loss: resolveLoss(test.loss),
    set,
    batch: set.size,
    selected,
  })
  const theta = model.layout.entries.map((e) => params.subarray(e.offset, e.offset + e.size))
  const primal = [...theta, set.inputs, set.targets, new Float64Array(set.size).fill(1)]
  const kept = evaluate(split.primal, primal)
  let at = 0
  const tangents = model.layout.entries
    .filter((_, i) => selected[i])
    .map((e) => {
      at += e.size
      return v.subarray(at - e.size, at)
    })
  const blocks = evaluate(
    split.linear,
    split.inputs.map(({ kind: from, index }) =>
      from === 'kept' ? kept[index] : from === 'input' ? primal[index] : tangents[index],
    ),
  )
  return Float64Array.from(blocks.flatMap((b) => Array.from(b))).map((x) => x / set.size)
}

/**
 * The mean matrix in float64: from dense Jacobians sample by sample, where the kind is made of
 * them, else column by column.
 */
export function referenceMatrix(kind: CurvatureKind, test: ModelCase): Float64Array {
  if (kind !== 'hessian' && kind !== 'remainder') return denseOracle(kind, test)
  const n = test.model.size
  const matrix = new Float64Array(n * n)
  for (let i = 0; i < n; i++) {
    const unit = new Float64Array(n)
    unit[i] = 1
    matrix.set(referenceProduct(kind, test, unit), i * n)
  }
  return matrix
}
