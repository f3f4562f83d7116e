import { LosscapeError } from '../../errors.js'
import type { Model } from '../model.js'
import { COUNTER } from './norms.js'
import { structureOf } from './structure.js'

/** What training scripts put before all names. */
const WRAPPERS = /^(module\.|_orig_mod\.)+/

/** A tensor of a file: its shape is rewritten, its numbers are not. */
interface Named {
  readonly shape: readonly number[]
}

/** What CIFAR networks often call the convolution of a shortcut. */
const SHORTCUT = /\.shortcut\.(\d)\./

/**
 * Tensors of a checkpoint of torchvision, timm or the published code of WS and BCN under the names
 * of our models, which are torchvision's. Counters of batches and auxiliary classifiers are dropped;
 * gains [O, 1, 1, 1] and scales of groups [1, G, 1] become vectors.
 *
 * @throws ERR_ARGUMENT for a model that is no convolutional network of this package, and for a
 * checkpoint of another norm, naming both
 */
export function fromTorchvision<T extends Named>(
  model: Model,
  tensors: ReadonlyMap<string, T>,
): Map<string, T> {
  const { norm } = structureOf('loadTorchvision()', model)
  const result = new Map<string, T>()
  for (const [full, tensor] of tensors) {
    const name = full.replace(WRAPPERS, '').replace(SHORTCUT, '.downsample.$1.')
    if (name.endsWith(COUNTER) || name.startsWith('aux_classifier.')) continue
    const known = shapeOf(model, name)
    const same = known && elements(known) === elements(tensor.shape)
    const flat = tensor.shape.filter((d) => d !== 1).join() === known?.filter((d) => d !== 1).join()
    result.set(name, same && flat ? { ...tensor, shape: known } : tensor)
  }
  requireNorm(model, norm.kind, result)
  return result
}

const elements = (shape: readonly number[]): number => shape.reduce((n, d) => n * d, 1)

function shapeOf(model: Model, name: string): readonly number[] | undefined {
  const all = [...model.layout.entries, ...model.stateLayout.entries]
  return all.find((entry) => entry.name === name)?.shape
}

/** The norm that a checkpoint was trained with, by its tensors. */
function normOf(names: readonly string[]): string {
  if (names.some((name) => /\.pbn\.running_mean$/.test(name))) return 'bcn'
  if (names.some((name) => /\.running_mean$/.test(name))) return 'bn'
  if (names.some((name) => /(^|\.)(bn\d*|downsample\.1)\.weight$/.test(name))) return 'gn, ln or in'
  return 'none'
}

function requireNorm(model: Model, kind: string, tensors: ReadonlyMap<string, unknown>): void {
  const found = normOf([...tensors.keys()])
  const fits = kind === 'bcn-micro' ? found === 'bcn' : found.split(/, | or /).includes(kind)
  // VGG and heads without such names are left to the comparison of all tensors.
  if (fits || found === 'none') return
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `The checkpoint is of a network with norm ${found}, '${model.name}' has '${kind}'; ` +
      'build the model with the norm that the checkpoint was trained with.',
  )
}
