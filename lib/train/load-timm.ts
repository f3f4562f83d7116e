import { requireArguments } from '../arguments.js'
import { readSafetensors } from '../files/safetensors.js'
import type { FloatVector } from '../nn/layout.js'
import type { Model } from '../nn/model.js'
import { fromTimm } from '../nn/timm.js'
import { joinTensors } from './weights.js'

/**
 * Parameters of a vit, convit or swin from a checkpoint of timm (`model.safetensors`), old or new
 * in its names; the configuration has to be the checkpoint's, classes included.
 *
 * @throws ERR_IO; ERR_ARGUMENT for another model; ERR_FORMAT listing every tensor that is missing,
 * extra or of another shape than the model's
 *
 * @example
 * const model = models.vit({ size: 'tiny' })
 * const params = await loadTimm('vit_tiny_patch16_224/model.safetensors', model)
 */
export async function loadTimm(path: string, model: Model): Promise<FloatVector> {
  requireArguments('loadTimm()', { path, model })
  const { tensors } = await readSafetensors(path)
  return joinTensors(path, model.layout, fromTimm(model, tensors))
}
