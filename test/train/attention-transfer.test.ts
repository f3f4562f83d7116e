import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type DataSet,
  type Device,
  data,
  evaluate,
  models,
  open,
  predictor,
  train,
} from '../../lib/index.js'
import { vit } from '../../lib/nn/vit.js'
import { attentionStudent, attentionTransferSet } from '../../lib/train/attention-transfer.js'

let device: Device
let set: DataSet
beforeAll(async () => {
  device = await open()
  set = await data.glyphs({ n: 10 })
})
afterAll(() => device.dispose())

const sizes = { input: [1, 16, 16], patch: 4, width: 12, depth: 2, heads: 2, classes: 10 }
const code = (code: string) => expect.objectContaining({ code })

describe('attention transfer', () => {
  it('gives a student with the teacher in it the logits of the teacher', async () => {
    for (const attention of ['softmax', 'karat:G2B,r4']) {
      const teacher = vit({ ...sizes, attention })
      const params = teacher.init(3).map((x, i) => x + 0.2 * Math.sin(i))
      const taught = await attentionTransferSet(device, teacher, params, set, { batch: 4 })
      expect(taught.shape).toEqual([256 + 2 * 2 * 17 * 17])
      expect(taught.targets).toEqual(set.targets)
      const student = attentionStudent(teacher, sizes)
      const own = student.init(0)
      for (const { name, offset, size } of student.layout.entries) {
        const values = name.includes('.attn.v.')
        const source = values ? name.replace('.attn.v.', '.attn.qkv.') : name
        const found = teacher.layout.view(params, source)
        // The last third of qkv.
        own.set(values ? found.subarray(found.length - size) : found, offset)
      }
      using a = predictor(device, teacher, params, { set, precision: 'f64' })
      using b = predictor(device, student, own, { set: taught, precision: 'f64' })
      const expected = await a.predictMany(set.inputs)
      const got = await b.predictMany(taught.inputs)
      // The matrices are stored in f32.
      for (const [i, z] of expected.entries()) expect(got[i]).toBeCloseTo(z, 4)
    }
  })

  it('trains without queries and keys, with heads that share a teacher', async () => {
    const teacher = vit({ ...sizes, attention: 'karat:G1B,r3' })
    const taught = await attentionTransferSet(device, teacher, teacher.init(0), set)
    const student = attentionStudent(teacher, { ...sizes, heads: 4, width: 16 })
    expect(student.layout.names.some((name) => name.includes('qkv'))).toBe(false)
    expect(student.layout.names).toContain('blocks.1.attn.v.bias')
    const options = { optimizer: { kind: 'adamw', lr: 3e-3 }, epochs: 40, batch: 10 } as const
    const run = await train(device, student, taught, options)
    const before = await evaluate(device, student, student.init(0), taught)
    const after = await evaluate(device, student, run.params, taught)
    expect(after.loss).toBeLessThan(0.5 * before.loss)
  })

  it('refuses sizes that do not go together', async () => {
    const teacher = vit({ ...sizes, attention: 'karat:G1B,r3' })
    const refused = (over: object) =>
      expect(() => attentionStudent(teacher, { ...sizes, ...over })).toThrow(code('ERR_SHAPE'))
    refused({ depth: 3 })
    refused({ patch: 8 })
    refused({ heads: 3 })
    refused({ input: [1, 20, 20], patch: 5 })
    refused({ input: [3, 16, 16] })
    expect(() => attentionStudent(teacher, { ...sizes, input: [3, 16, 16] })).toThrow(
      /input \[1,16,16\] and pooling 'token'; got \[3,16,16\]/,
    )
    const chosen = { ...sizes, attention: 'softmax' }
    expect(() => attentionStudent(teacher, chosen)).toThrow(/attention to be absent/)
    expect(() => attentionStudent(null as never, sizes)).toThrow(/attentionStudent\(\) .*got null/)
    expect(() => attentionStudent(teacher, null as never)).toThrow(code('ERR_ARGUMENT'))
    const mlp = models.mlp({ input: [16, 16], hidden: [4], classes: 10 })
    expect(() => attentionStudent(mlp, sizes)).toThrow('models.vit()')
    const taught = (params: ArrayLike<number>, options = {}) =>
      attentionTransferSet(device, teacher, params, set, options)
    await expect(taught([1])).rejects.toEqual(code('ERR_SHAPE'))
    await expect(taught(teacher.init(0), { batch: 0 })).rejects.toEqual(code('ERR_ARGUMENT'))
    await expect(taught(teacher.init(0), { batch: 0 })).rejects.toThrow(/batch to be .*got 0/)
    const signal = AbortSignal.abort()
    await expect(taught(teacher.init(0), { signal })).rejects.toEqual(code('ERR_ABORTED'))
  })
})
