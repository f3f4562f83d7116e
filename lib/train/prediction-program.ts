import { argumentError, isShape } from '../arguments.js'
import {
  checkNormalization,
  type DataSet,
  type Normalization,
  sampleShape,
} from '../data/dataset.js'
import { LosscapeError } from '../errors.js'
import { normalizeBatch } from '../nn/batch.js'
import type { Model } from '../nn/model.js'
import * as ops from '../ops/index.js'
import { simplify } from '../program/passes/index.js'
import { elements } from '../program/shape.js'
import type { Tensor } from '../program/tensor.js'
import { trace } from '../program/trace.js'
import type { Program, TensorType } from '../program/types.js'

/** What the samples look like that a predictor is given. */
export interface SampleOptions {
  /** Samples come raw, as this set stores them: its shape, pixel scale and normalization. */
  readonly set?: Pick<DataSet, 'shape' | 'inputs' | 'normalization' | 'resize'>
  /** Without `set`: x' = (x - mean) / std. Default: samples are taken as they come. */
  readonly normalization?: Normalization
  /** Without `set`: samples are bytes 0 to 255 that count as x / 255. Default false. */
  readonly pixels?: boolean
}

/** How samples come, without the data of the set that they resemble. */
export type SampleFormat = Pick<DataSet, 'shape' | 'inputs' | 'normalization' | 'resize'>

/** @throws ERR_SHAPE, ERR_ARGUMENT when the samples or their normalization do not fit */
export function sampleFormat(model: Model, options: SampleOptions): SampleFormat {
  const { set } = options
  if (set !== undefined) requireSamplesOf(set)
  const shape = set?.shape ?? model.input
  const seen = sampleShape({ shape, resize: set?.resize })
  if (elements(seen) !== elements(model.input)) {
    throw new LosscapeError(
      'ERR_SHAPE',
      `Model '${model.name}' takes samples of [${model.input}], the set has [${seen}].`,
    )
  }
  const given = set?.normalization ?? options.normalization ?? { mean: [0], std: [1] }
  checkNormalization('predictor()', given, shape)
  const bytes = set ? set.inputs instanceof Uint8Array : options.pixels
  return {
    shape: [...shape],
    inputs: bytes ? new Uint8Array() : new Float32Array(),
    normalization: { mean: [...given.mean], std: [...given.std] },
    ...(set?.resize && { resize: set.resize }),
  }
}

/** Only these fields of a set are used. */
function requireSamplesOf(set: NonNullable<SampleOptions['set']>): void {
  if (isShape(set?.shape) && ArrayBuffer.isView(set.inputs)) return
  throw argumentError('predictor()', 'set', 'a data set', set)
}

/** From θ.., σ.. and samples x [batch, ..] as they come to the answers. */
export function predictionProgram(
  model: Model,
  batch: number,
  format: SampleFormat,
  output: 'logits' | 'probabilities',
): Program {
  const samples: DataSet = {
    ...format,
    name: 'samples',
    size: batch,
    targets: new Int32Array(),
    targetShape: [],
    classes: null,
  }
  const x: TensorType = { dtype: 'f32', shape: [batch, ...samples.shape] }
  return simplify(
    trace(
      (...args) => {
        const inputs = normalizeBatch(args[args.length - 1], samples, model)
        const z = model.apply(args.slice(0, -1), inputs, { training: false, key: null })
        return output === 'probabilities' ? probabilities(z, elements(model.output)) : z
      },
      [...model.tensorTypes, x],
    ),
  )
}

function probabilities(z: Tensor, scores: number): Tensor {
  return scores === 1 ? ops.sigmoid(z) : ops.softmax(z)
}
