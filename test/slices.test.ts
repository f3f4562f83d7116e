import { describe, expect, it } from 'vitest'
import { data, models, open, train } from '../lib/index.js'
import { atOnce, inSlices, ranges, type Slices } from '../lib/slices.js'

/** Turns that the event loop makes while something runs. */
async function turns(run: () => Promise<unknown>): Promise<number> {
  let count = 0
  let running = true
  const tick = (): void => {
    count++
    if (running) setImmediate(tick)
  }
  setImmediate(tick)
  await run()
  running = false
  return count
}

const large = models.mlp({ input: 784, hidden: [1024, 512], classes: 10, init: 'kaiming-normal' })

describe('the event loop turns', () => {
  it.each([
    'blobs?n=60000',
    'moons?n=200000',
    'spirals?n=200000',
    'circles?n=200000',
    'teacher?n=40000',
    'glyphs?n=1500',
  ])('while %s is made', async (spec) => {
    expect(await turns(() => data.load(spec))).toBeGreaterThan(4)
  })

  it('while a large model is initialised', async () => {
    expect(await turns(() => large.initAsync(1))).toBeGreaterThan(4)
  })
})

it('slices change no number', async () => {
  expect(await large.initAsync(3)).toEqual(large.init(3))
  const makers = { ...data } as unknown as Record<string, (options: object) => unknown>
  for (const kind of ['blobs', 'moons', 'spirals', 'circles', 'teacher', 'glyphs']) {
    const sliced = await data.load(
      `${kind}?n=20000&seed=5`.replace('glyphs?n=20000', 'glyphs?n=99'),
    )
    const n = sliced.size
    expect(sliced).toEqual(await makers[kind]({ n, seed: 5 }))
  }
})

describe('an abort in the middle', () => {
  const stopAfter = (ms: number): AbortSignal => AbortSignal.timeout(ms)

  it('ends the making of a set', async () => {
    const making = data.load('teacher?n=10000000&dim=2', { signal: stopAfter(30) })
    await expect(making).rejects.toMatchObject({ code: 'ERR_ABORTED' })
  })

  it('ends a start vector, also that of a training', async () => {
    const huge = models.mlp({ input: 4096, hidden: [4096], classes: 10 })
    await expect(huge.initAsync(0, { signal: stopAfter(20) })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    })
    const device = await open({ threads: 1 })
    const set = data.blobs({ n: 4, dim: 4096, classes: 10 })
    const training = train(device, huge, set, {
      optimizer: { kind: 'sgd', lr: 1 },
      signal: stopAfter(20),
    })
    await expect(training).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    device.dispose()
  })
})

describe('slices', () => {
  function* work(log: number[]): Slices<string> {
    for (const [from, to] of ranges(10, 4)) {
      log.push(to - from)
      yield
    }
    return 'done'
  }

  it('give the same at once and one by one', async () => {
    const [first, second]: number[][] = [[], []]
    expect(atOnce(work(first))).toBe('done')
    expect(await inSlices(work(second))).toBe('done')
    expect(first).toEqual([4, 4, 2])
    expect(second).toEqual(first)
  })

  it('pass on what is thrown', async () => {
    // biome-ignore lint/correctness/useYield: it fails before its first pause.
    function* failing(): Slices<never> {
      throw new Error('mine')
    }
    expect(() => atOnce(failing())).toThrow('mine')
    await expect(inSlices(failing())).rejects.toThrow('mine')
  })
})
