import { describe, expect, it } from 'vitest'
import { fromArrays } from '../../lib/data/arrays.js'
import { image } from '../../lib/data/augment/image.js'
import { centreCrop } from '../../lib/data/augment/resample.js'
import { withSize } from '../../lib/data/resize.js'
import { subset } from '../../lib/data/select.js'
import { defineModel } from '../../lib/nn/model.js'
import * as ops from '../../lib/ops/index.js'
import { integers } from '../../lib/random/index.js'
import { evaluate } from '../../lib/train/evaluate.js'
import { predictor } from '../../lib/train/predict.js'
import { testDevice } from './cases.js'

const SHAPE = [3, 6, 8] as const
const CELLS = 144
const pixels = Uint8Array.from(integers(4, 0, 0, 2 * CELLS, 256))
const normalization = { mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.4] }
const set = fromArrays(pixels, new Float64Array(2 * 3 * 49), {
  shape: SHAPE,
  targetShape: [147],
  normalization,
})

/** Answers its samples. */
const identity = defineModel({
  name: 'identity',
  input: [3, 7, 7],
  output: [147],
  parameters: [{ name: 'scale', shape: [1], init: { kind: 'ones' } }],
  apply: ({ scale }, x) => ops.mul(ops.reshape(x, [x.shape[0], 147]), scale),
})

describe('images in another size', () => {
  const held = testDevice()

  it.each(['bilinear', 'bicubic'] as const)(
    'are resized on the device as on paper, %s',
    async (interpolation) => {
      const sized = withSize(set, 7, { cropRatio: 0.9, interpolation })
      const reals = Float64Array.from(pixels.subarray(0, CELLS), (v) => v / 255)
      const expected = centreCrop(image(reals, ...SHAPE), [7, 7], 0.9, interpolation)
      const normalized = Array.from(expected.data, (v, i) => {
        const c = Math.floor(i / 49)
        return (v - normalization.mean[c]) / normalization.std[c]
      })
      const answers = await predictor(held.device, identity, [1], { set: sized, precision: 'f64' })
      try {
        const seen = await answers.predict(pixels.subarray(0, CELLS))
        for (let i = 0; i < 147; i++) expect(seen[i]).toBeCloseTo(normalized[i], 10)
      } finally {
        answers.dispose()
      }
      // The loss against zeros is the mean square, so evaluation sees the same numbers.
      const first = subset(sized, { limit: 1 })
      const { loss } = await evaluate(held.device, identity, [1], first, { precision: 'f64' })
      const square = normalized.reduce((sum, v) => sum + v * v, 0) / 147
      expect(loss).toBeCloseTo(square, 10)
    },
  )

  it('refuse bad sizes, and models of another', async () => {
    for (const bad of [0, [7], [7, 1.5], 'large']) {
      expect(() => withSize(set, bad as number)).toThrow(
        expect.objectContaining({ code: 'ERR_ARGUMENT' }),
      )
    }
    for (const bad of [{ cropRatio: 0 }, { cropRatio: 2 }, { interpolation: 'box' }, { crop: 1 }]) {
      expect(() => withSize(set, 7, bad as object)).toThrow(
        expect.objectContaining({ code: 'ERR_ARGUMENT' }),
      )
    }
    const rows = fromArrays([[1, 2]], Int32Array.of(0))
    expect(() => withSize(rows, 7)).toThrow(expect.objectContaining({ code: 'ERR_SHAPE' }))
    await expect(evaluate(held.device, identity, [1], withSize(set, 8))).rejects.toMatchObject({
      code: 'ERR_SHAPE',
    })
  })
})
