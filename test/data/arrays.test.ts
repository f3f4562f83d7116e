import { describe, expect, it } from 'vitest'
import { fromArrays, fromIterable, normalizedInputs, oneHot } from '../../lib/data/index.js'
import { LosscapeError } from '../../lib/errors.js'
import { rejection } from '../files/temporary.js'

function thrown(run: () => unknown): LosscapeError {
  try {
    run()
  } catch (error) {
    if (error instanceof LosscapeError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('fromArrays', () => {
  it('takes rows and integer labels', () => {
    const set = fromArrays(
      [
        [0, 0],
        [0, 1],
        [1, 0],
        [1, 1],
      ],
      Int32Array.of(0, 1, 1, 0),
    )
    expect(set).toMatchObject({ size: 4, shape: [2], classes: 2, targetShape: [], name: 'arrays' })
    expect([...set.inputs]).toEqual([0, 0, 0, 1, 1, 0, 1, 1])
  })

  it('keeps typed arrays without a copy and infers the shape', () => {
    const x = new Float64Array(12)
    const y = Int32Array.of(0, 1, 2)
    const set = fromArrays(x, y)
    expect(set.inputs).toBe(x)
    expect(set.targets).toBe(y)
    expect(set.shape).toEqual([4])
  })

  it('tells labels from regression targets', () => {
    const x = new Float32Array(6)
    expect(fromArrays(x, Uint8Array.of(0, 4), {}).classes).toBe(5)
    expect(fromArrays(x, [0, 1], { classes: 3 }).targets).toEqual(Int32Array.of(0, 1))
    expect(fromArrays(x, Float32Array.of(0.5, 1)).classes).toBeNull()
    expect(fromArrays(x, [1, 2], { targetShape: [] }).targets).toEqual(Float32Array.of(1, 2))
    const rows = fromArrays(x, [
      [1, 2],
      [3, 4],
    ])
    expect(rows).toMatchObject({ size: 2, shape: [3], targetShape: [2], classes: null })
    expect(thrown(() => fromArrays(x, [0, 1])).message).toMatch(/`classes`.*`targetShape`/)
  })

  it('names the sample at fault', () => {
    const x = Float32Array.of(1, 2, 3, Number.NaN, 5, 6)
    const nan = thrown(() => fromArrays(x, Int32Array.of(0, 1, 0)))
    expect(nan.code).toBe('ERR_NOT_FINITE')
    expect(nan.message).toContain('sample 1, element 1 is NaN')
    const clean = new Float32Array(6)
    const infinite = thrown(() =>
      fromArrays(clean, Float32Array.of(0, 1, Number.POSITIVE_INFINITY)),
    )
    expect([infinite.code, /sample 2/.test(infinite.message)]).toEqual(['ERR_NOT_FINITE', true])
    const label = thrown(() => fromArrays(clean, Int32Array.of(0, 3, 0), { classes: 3 }))
    expect(label.code).toBe('ERR_RANGE')
    expect(label.message).toContain('sample 1 has 3')
    expect(thrown(() => fromArrays(clean, Int32Array.of(0, -1, 0))).code).toBe('ERR_RANGE')
    expect(thrown(() => fromArrays(clean, [0, 0.5, 0], { classes: 2 })).code).toBe('ERR_RANGE')
  })

  it('refuses empty sets and lengths that disagree', () => {
    expect(thrown(() => fromArrays([], Int32Array.of())).code).toBe('ERR_ARGUMENT')
    expect(thrown(() => fromArrays(new Float32Array(0), Int32Array.of())).code).toBe('ERR_ARGUMENT')
    const x = new Float32Array(6)
    expect(thrown(() => fromArrays(x, Int32Array.of(0, 1, 0, 1))).code).toBe('ERR_SHAPE')
    expect(thrown(() => fromArrays(x, Int32Array.of(0, 1), { shape: [2] })).code).toBe('ERR_SHAPE')
    expect(thrown(() => fromArrays([[1, 2], [3]], Int32Array.of(0, 1))).code).toBe('ERR_SHAPE')
    expect(thrown(() => fromArrays(x, [0, 1, 0], { classes: 2, classNames: ['one'] })).code).toBe(
      'ERR_ARGUMENT',
    )
  })

  it('standardizes every feature, and leaves a constant one at zero', () => {
    const set = fromArrays(
      [
        [1, 7, 100],
        [3, 7, 300],
      ],
      Int32Array.of(0, 1),
      { normalization: 'standardize' },
    )
    expect(set.normalization).toEqual({ mean: [2, 7, 200], std: [1, 1, 100] })
    expect([...normalizedInputs(set)]).toEqual([-1, 0, -1, 1, 0, 1])
    const bad = { mean: [0, 0], std: [1, 1] }
    const refuse = () => fromArrays([[1, 2, 3]], Int32Array.of(0), { normalization: bad })
    expect(thrown(refuse).message).toMatch(/one for each of 3 channels/)
    expect(
      thrown(() => fromArrays([[1]], Int32Array.of(0), { normalization: { mean: [0], std: [0] } }))
        .code,
    ).toBe('ERR_ARGUMENT')
  })
})

describe('fromIterable', () => {
  async function* samples(count: number) {
    for (let i = 0; i < count; i++) yield { input: [i, -i], target: i % 2 }
  }

  it('collects samples, and closes the source at the limit', async () => {
    let closed = false
    async function* source() {
      try {
        for (let i = 0; ; i++) yield { input: [i], target: i % 3 }
      } finally {
        closed = true
      }
    }
    const set = await fromIterable(source(), { classes: 3, limit: 5 })
    expect(closed).toBe(true)
    expect(set).toMatchObject({ size: 5, shape: [1], classes: 3, name: 'iterable' })
    expect([...set.inputs]).toEqual([0, 1, 2, 3, 4])
    expect([...set.targets]).toEqual([0, 1, 2, 0, 1])
  })

  it('takes vectors as targets and synchronous sources', async () => {
    const set = await fromIterable([
      { input: [1, 2], target: [3, 4] },
      { input: [5, 6], target: [7, 8] },
    ])
    expect(set).toMatchObject({ size: 2, targetShape: [2], classes: null })
    expect([...set.targets]).toEqual([3, 4, 7, 8])
  })

  it('refuses ragged samples, nothing at all, and an aborted signal', async () => {
    const ragged = [
      { input: [1, 2], target: 0 },
      { input: [1], target: 0 },
    ]
    const error = await rejection(fromIterable(ragged, { classes: 1 }))
    expect([error.code, /sample 1 has 1/.test(error.message)]).toEqual(['ERR_SHAPE', true])
    expect((await rejection(fromIterable(samples(0), { classes: 2 }))).code).toBe('ERR_ARGUMENT')
    expect((await rejection(fromIterable(samples(3)))).message).toMatch(/`classes`/)
    const controller = new AbortController()
    async function* aborting() {
      yield { input: [1], target: 0 }
      controller.abort()
      yield { input: [2], target: 0 }
    }
    const aborted = fromIterable(aborting(), { classes: 1, signal: controller.signal })
    expect((await rejection(aborted)).code).toBe('ERR_ABORTED')
  })
})

describe('oneHot', () => {
  it('gives rows with a one, or smoothed ones that sum to one', () => {
    const set = fromArrays(new Float32Array(2), Int32Array.of(2, 0), { classes: 4 })
    expect([...oneHot(set)]).toEqual([0, 0, 1, 0, 1, 0, 0, 0])
    expect([...oneHot(set, 0.2).slice(0, 4)].map((v) => Math.round(v * 1e6) / 1e6)).toEqual([
      0.05, 0.05, 0.85, 0.05,
    ])
    const regression = fromArrays(new Float32Array(2), Float32Array.of(2, 0))
    expect(thrown(() => oneHot(regression)).code).toBe('ERR_ARGUMENT')
    expect(thrown(() => oneHot(set, 1)).code).toBe('ERR_ARGUMENT')
  })
})
