import { colourJitter } from './colour.js'
import { flip, paddedCrop, randomPart } from './crop.js'
import type { Draws } from './draws.js'
import type { Image } from './image.js'
import type { AugmentPlan } from './options.js'
import { randAugment } from './rand-augment.js'
import { resized, resizedPart } from './resample.js'

/** One image as training sees it: crop, size, flip, RandAugment, colours, in this order. */
export function augmentImage(source: Image, plan: AugmentPlan, draws: Draws): Image {
  let held = sized(source, plan, draws)
  if (plan.flip > 0 && draws.chance(plan.flip)) {
    held = flip(held === source ? { ...held, data: held.data.slice() } : held)
  }
  if (plan.randAugment) held = randAugment(held, plan.randAugment, draws, plan.fill)
  if (plan.colourJitter) held = colourJitter(held, plan.colourJitter, draws)
  return held
}

function sized(source: Image, plan: AugmentPlan, draws: Draws): Image {
  const { size, interpolation, resizedCrop } = plan
  if (resizedCrop) {
    const box = randomPart(draws, source.height, source.width, resizedCrop.scale, resizedCrop.ratio)
    return resizedPart(source, box, size, interpolation)
  }
  let held = source
  if (plan.paddedCrop) {
    const { padding, border } = plan.paddedCrop
    const top = draws.integer(2 * padding + 1)
    const left = draws.integer(2 * padding + 1)
    held = paddedCrop(source, padding, top, left, border)
  }
  const fits = held.height === size[0] && held.width === size[1]
  return fits ? held : resized(held, size, interpolation)
}
