import { describe, expect, it } from 'vitest'
import { fromArrays } from '../../lib/data/arrays.js'
import type { DataSet } from '../../lib/data/dataset.js'
import { blobs } from '../../lib/data/synthetic/blobs.js'
import { resolveLoss } from '../../lib/nn/loss.js'
import { mlp } from '../../lib/nn/mlp.js'
import type { Model } from '../../lib/nn/model.js'
import { evaluate } from '../../lib/program/evaluate.js'
import { verify } from '../../lib/program/verify.js'
import { uniforms } from '../../lib/random/index.js'
import { evaluationProgram, type StepSetting, stepProgram } from '../../lib/train/program.js'

const set = blobs({ n: 12, classes: 3, dim: 4, seed: 1 })
const model = mlp({ input: 4, hidden: [5], classes: 3, activation: 'tanh' })

function parameters(model: Model, theta: Float64Array): Float64Array[] {
  return model.layout.names.map((name) => model.layout.view(theta, name))
}

function run(
  setting: StepSetting,
  theta: Float64Array,
  extra: ArrayLike<number>[],
): Float64Array[] {
  const { program } = stepProgram(setting)
  verify(program)
  const { set, model } = setting
  return evaluate(program, [...parameters(model, theta), set.inputs, set.targets, ...extra])
}

/** Mean loss and correct answers of rows, by the evaluation program on a set of these rows. */
function reference(set: DataSet, theta: Float64Array, rows: number[]): [number, number] {
  const loss = resolveLoss('cross-entropy')
  const width = set.inputs.length / set.size
  const x = rows.flatMap((row) => [...set.inputs.subarray(row * width, (row + 1) * width)])
  const y = rows.map((row) => set.targets[row])
  const program = evaluationProgram({ model, loss, set, batch: rows.length })
  const [[total], [correct]] = evaluate(program, [
    ...parameters(model, theta),
    x,
    y,
    rows.map(() => 1),
  ])
  return [total / rows.length, correct]
}

describe('stepProgram', () => {
  const setting = {
    model,
    loss: resolveLoss('cross-entropy'),
    set,
    batch: 4,
    trained: model.layout.names.map(() => true),
  }
  const theta = model.init(5)

  it('takes the mean over the rows of weight 1', () => {
    const outputs = run(setting, theta, [
      [7, 2, 9, 0],
      [1, 1, 1, 0],
    ])
    const [loss, correct] = reference(set, theta, [7, 2, 9])
    expect(outputs[0][0]).toBeCloseTo(loss, 12)
    expect(outputs[1][0]).toBe(correct)
  })

  it('has the gradient of that mean', () => {
    const rows = [7, 2, 9, 0]
    const weights = [1, 1, 1, 0]
    const gradients = run(setting, theta, [rows, weights]).slice(2)
    const direction = uniforms(1, 1, 0, theta.length).map((u) => 2 * u - 1)
    const slope = (h: number): number =>
      reference(
        set,
        theta.map((t, i) => t + h * direction[i]),
        [7, 2, 9],
      )[0]
    const h = 1e-5
    const expected = (slope(h) - slope(-h)) / (2 * h)
    const flat = gradients.flatMap((g) => [...g])
    const actual = flat.reduce((sum, g, i) => sum + g * direction[i], 0)
    // Central differences: error h² |f'''| / 6, far below 1e-8 here.
    expect(actual).toBeCloseTo(expected, 8)
    expect(Math.abs(actual)).toBeGreaterThan(1e-3)
  })

  it('gives gradients to trained tensors only, with their offsets', () => {
    const trained = [false, true, true, false]
    const { program, gradientOffsets } = stepProgram({ ...setting, trained })
    expect(program.outputs).toHaveLength(2 + 2)
    expect(gradientOffsets).toEqual([
      model.layout.entry('layers.0.bias').storageOffset,
      model.layout.entry('layers.1.weight').storageOffset,
    ])
    const all = run(setting, theta, [
      [0, 1, 2, 3],
      [1, 1, 1, 1],
    ])
    const some = run({ ...setting, trained }, theta, [
      [0, 1, 2, 3],
      [1, 1, 1, 1],
    ])
    expect(some.slice(2)).toEqual([all[3], all[4]])
  })

  it('takes the whole set without rows', () => {
    const whole = { ...setting, batch: 12, wholeSet: true }
    expect(stepProgram(whole).inputs.map(({ kind }) => kind)).not.toContain('rows')
    const all = Array.from({ length: 12 }, (_, i) => i)
    const [loss, correct] = run(whole, theta, [all.map(() => 1)])
    const expected = reference(set, theta, all)
    expect(loss[0]).toBeCloseTo(expected[0], 12)
    expect(correct[0]).toBe(expected[1])
  })

  it('takes a key when the model draws, and draws by step', () => {
    const noisy = mlp({ input: 4, hidden: [5], classes: 3, dropout: 0.5 })
    const random = { ...setting, model: noisy }
    expect(stepProgram(random).inputs.at(-1)).toEqual({ kind: 'key', index: 0 })
    const at = (step: number): number =>
      run(random, theta, [
        [0, 1, 2, 3],
        [1, 1, 1, 1],
        [9, 0, step, 0],
      ])[0][0]
    expect(at(0)).toBe(at(0))
    expect(at(0)).not.toBe(at(1))
  })

  it('counts nothing for regression', () => {
    const values = fromArrays([[0], [1]], [[1], [3]], { targetShape: [1] })
    const line = mlp({ input: 1, hidden: [], classes: 1 })
    const [loss, correct] = run(
      {
        model: line,
        loss: resolveLoss('mse'),
        set: values,
        batch: 2,
        trained: [true, true],
      },
      Float64Array.of(1, 0),
      [
        [0, 1],
        [1, 1],
      ],
    )
    expect(loss[0]).toBeCloseTo((1 + 4) / 2, 12)
    expect(correct[0]).toBe(0)
  })
})
