import { requireArguments } from '../arguments.js'
import { readSafetensors } from '../files/safetensors.js'
import { COUNTER } from '../nn/convnet/norms.js'
import { fromTorchvision } from '../nn/convnet/torchvision.js'
import type { FloatVector } from '../nn/layout.js'
import type { Model } from '../nn/model.js'
import { joinParts, requireFinite } from './weights.js'

/** θ and σ of a checkpoint. */
export interface LoadedNetwork {
  readonly params: FloatVector
  /** Running statistics; empty for norms without. */
  readonly state: FloatVector
}

/**
 * Parameters and running statistics of a convolutional network from a checkpoint of torchvision,
 * timm or the published code of weight standardisation and batch-channel norm, as safetensors; the
 * configuration has to be the checkpoint's, classes and norm included. Estimates count as
 * initialised, so that no warm start replaces them.
 *
 * @throws ERR_IO; ERR_ARGUMENT for other models, or a checkpoint of another norm; ERR_FORMAT listing
 * every tensor that is missing, extra or of another shape than the model's
 *
 * @example
 * const model = models.resnet({ depth: 50 })
 * const { params, state } = await loadTorchvision('resnet50.safetensors', model)
 */
export async function loadTorchvision(path: string, model: Model): Promise<LoadedNetwork> {
  requireArguments('loadTorchvision()', { path, model })
  const { tensors } = await readSafetensors(path)
  const named = fromTorchvision(model, tensors)
  if (model.stateLayout.size > 0) {
    named.set(COUNTER, { dtype: 'F32', shape: [], data: Float32Array.of(1) })
  }
  const [params, state] = joinParts(path, named, [
    { prefix: '', layout: model.layout },
    { prefix: '', layout: model.stateLayout },
  ])
  requireFinite(path, model.stateLayout, state)
  return { params, state }
}
