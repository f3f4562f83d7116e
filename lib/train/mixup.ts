import type { Draws } from '../data/augment/draws.js'
import { type Pixels, toByte } from '../data/augment/image.js'
import type { Box } from '../data/augment/resample.js'
import { checkOption, isRate } from './check.js'

/** Mixing of pairs of samples and of their labels, one way and one ratio for a whole batch. */
export interface MixPlan {
  /** Parameter a of Beta(a, a) for mixup; 0: off. */
  readonly mixup: number
  /** The same for CutMix; 0: off. */
  readonly cutmix: number
  /** With which CutMix is taken where both are on. */
  readonly switchProbability: number
  /** C */
  readonly classes: number
}

/** What happens to one batch: a share `lambda` of every sample stays. */
export type Mix =
  | { readonly kind: 'mixup'; readonly lambda: number }
  | { readonly kind: 'cutmix'; readonly lambda: number; readonly box: Box }

/** @throws ERR_ARGUMENT */
export function checkMixing(mixup: number, cutmix: number): void {
  for (const [name, value] of Object.entries({ mixup, cutmix })) {
    checkOption(isRate(value), 'Training', `${name} to be a number >= 0`, value)
  }
}

/**
 * Draws how a batch of [height, width] images is mixed. mixup (Zhang et al. 2018): λ ~ Beta(a, a).
 * CutMix (Yun et al. 2019): a box of share 1 - λ at a random centre, cut off at the image's border;
 * λ is then what is left of the area.
 */
export function drawMix(plan: MixPlan, draws: Draws, height: number, width: number): Mix {
  const cut = plan.cutmix > 0 && (plan.mixup === 0 || draws.chance(plan.switchProbability))
  if (!cut) return { kind: 'mixup', lambda: draws.symmetricBeta(plan.mixup) }
  const side = Math.sqrt(1 - draws.symmetricBeta(plan.cutmix))
  const [rows, columns] = [Math.floor(height * side), Math.floor(width * side)]
  const range = (centre: number, size: number, length: number): [number, number] => [
    Math.max(0, centre - (size >> 1)),
    Math.min(length, centre + (size >> 1)),
  ]
  const [top, bottom] = range(draws.integer(height), rows, height)
  const [left, right] = range(draws.integer(width), columns, width)
  const box = { top, left, height: bottom - top, width: right - left }
  return { kind: 'cutmix', lambda: 1 - (box.height * box.width) / (height * width), box }
}

/**
 * Mixes sample i with sample count - 1 - i, in place; bytes are rounded.
 *
 * @param x samples [B, channels, height, width], of which the first `count` are mixed
 */
export function mixSamples(
  x: Pixels,
  count: number,
  shape: readonly [channels: number, height: number, width: number],
  mix: Mix,
): void {
  const [channels, height, width] = shape
  const stride = channels * height * width
  for (let i = 0; 2 * i < count - 1; i++) {
    const [a, b] = [i * stride, (count - 1 - i) * stride]
    if (mix.kind === 'mixup') {
      blendPair(x, a, b, stride, mix.lambda)
      continue
    }
    const { box } = mix
    for (let c = 0; c < channels; c++) {
      for (let y = box.top; y < box.top + box.height; y++) {
        const from = (c * height + y) * width + box.left
        swap(x, a + from, b + from, box.width)
      }
    }
  }
}

function blendPair(x: Pixels, a: number, b: number, length: number, lambda: number): void {
  const bytes = x instanceof Uint8Array
  for (let k = 0; k < length; k++) {
    const [p, q] = [x[a + k], x[b + k]]
    const [first, second] = [q + lambda * (p - q), p + lambda * (q - p)]
    x[a + k] = bytes ? toByte(first) : first
    x[b + k] = bytes ? toByte(second) : second
  }
}

function swap(x: Pixels, a: number, b: number, length: number): void {
  const held = x.slice(a, a + length)
  x.copyWithin(a, b, b + length)
  x.set(held, b)
}

/** Targets of mixed samples: λ on a sample's own class, 1 - λ on its partner's; [B, C]. */
export function mixTargets(
  labels: ArrayLike<number>,
  count: number,
  classes: number,
  lambda: number,
  out: Float32Array | Float64Array,
): void {
  out.fill(0)
  for (let i = 0; i < count; i++) {
    out[i * classes + labels[i]] += lambda
    out[i * classes + labels[count - 1 - i]] += 1 - lambda
  }
  // Padding of weight 0 still needs targets that sum to 1.
  for (let i = count; i < out.length / classes; i++) out[i * classes] = 1
}
