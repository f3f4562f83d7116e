import { LosscapeError } from '../errors.js'
import { defineOperation } from '../program/registry.js'
import { elements } from '../program/shape.js'
import { emitOne, type Tensor } from '../program/tensor.js'
import type { DType, Shape } from '../program/types.js'
import { normals, rademacher, uniforms } from '../random/index.js'
import { ge, mul, where } from './elementwise.js'
import { concat, reshape, slice } from './movement.js'

export type RandomKind = 'uniform' | 'normal' | 'rademacher'

const GENERATORS = { uniform: uniforms, normal: normals, rademacher }

defineOperation({
  name: 'random',
  batching: 'loop',
  type([key], { shape, dtype }) {
    if (key.dtype !== 'i32' || key.shape.length !== 1 || key.shape[0] !== 4) {
      throw new LosscapeError(
        'ERR_SHAPE',
        'A random key is an i32[4]: seed low, seed high, step, 0.',
      )
    }
    return [{ dtype: dtype as DType, shape: shape as Shape }]
  },
  evaluate([key], _types, { kind, stream }, [result]) {
    const [seedLow, seedHigh, step] = key.map((word) => word >>> 0)
    const seed = (BigInt(seedHigh) << 32n) | BigInt(seedLow)
    const at = (BigInt(step) << 32n) | BigInt(stream as number)
    return [GENERATORS[kind as RandomKind](seed, at, 0, elements(result.shape))]
  },
  jvp: () => [null],
  vjp: () => [null],
  vmap([keys], _batched, attributes, size) {
    const draws = Array.from({ length: size }, (_, i) => {
      const key = reshape(slice(keys, [i, 0], [1, 4]), [4])
      const draw = emitOne('random', [key], attributes)
      return reshape(draw, [1, ...draw.shape])
    })
    return [concat(draws)]
  },
})

/**
 * Counter-based random numbers: a function of the key, the stream and the element's index only,
 * the same bits on every device. `uniform` in (0, 1), standard `normal`, or `rademacher` (-1, 1).
 *
 * @param key i32[4] operand: seed low, seed high, step, 0
 * @param stream compile-time number that tells the draws of one program apart
 */
export function random(
  key: Tensor,
  shape: Shape,
  options: { kind?: RandomKind; stream: number; dtype?: DType },
): Tensor {
  const { kind = 'uniform', stream, dtype = 'f32' } = options
  return emitOne('random', [key], { shape, kind, stream, dtype })
}

/**
 * Zeroes each element with probability `rate` and scales the rest by 1 / (1 - rate).
 * @throws ERR_ARGUMENT unless 0 <= rate < 1
 */
export function dropout(x: Tensor, rate: number, key: Tensor, stream: number): Tensor {
  if (!(rate >= 0 && rate < 1)) {
    throw new LosscapeError('ERR_ARGUMENT', `dropout() expected 0 <= rate < 1, got ${rate}.`)
  }
  if (rate === 0) return x
  const draw = random(key, x.shape, { stream, dtype: x.dtype })
  return where(ge(draw, rate), mul(x, 1 / (1 - rate)), 0)
}
