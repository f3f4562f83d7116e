import { argumentError } from '../../arguments.js'
import { LosscapeError } from '../../errors.js'
import { Model } from '../model.js'
import type { Norm } from './norm-options.js'
import type { Standardization } from './standardize.js'

/** A convolution that takes part in weight standardisation, as a norm follows it. */
export interface Filter {
  /** `layer1.0.conv1.weight` */
  readonly name: string
  readonly bias: boolean
  /** `layer1.0.bn1`, where that stands directly behind. */
  readonly norm?: string
}

/** What a convolutional network is made of, beside its function. */
export interface Structure {
  readonly filters: readonly Filter[]
  readonly norm: Norm
  readonly ws: Standardization | null
  /** The same network without standardisation, or without norms too. */
  readonly rebuild: (change: { readonly norm?: 'none'; readonly ws: false }) => Model
}

const structures = new WeakMap<Model, Structure>()

export function register(model: Model, structure: Structure): void {
  structures.set(model, structure)
}

/** @throws ERR_ARGUMENT for a model that none of the families of convolutional networks built */
export function structureOf(where: string, model: Model): Structure {
  if (!(model instanceof Model)) throw argumentError(where, 'model', 'a model', model)
  const structure = structures.get(model)
  if (structure) return structure
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `${where} knows resnet, resnext, vgg, lenet and segmentation models, not '${model.name}'.`,
  )
}
