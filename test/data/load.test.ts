import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { kinds, load, normalizedInputs, statistics } from '../../lib/data/index.js'
import { encodeNpy } from '../../lib/data/npy.js'
import { rejection, temporaryFolder } from '../files/temporary.js'
import { zipFile } from './zip-file.js'

const folder = temporaryFolder()
const f4 = (shape: number[], ...values: number[]) =>
  encodeNpy({ shape, data: Float32Array.from(values) })
const i8 = (...values: bigint[]) =>
  encodeNpy({ shape: [values.length], data: BigInt64Array.from(values) })

describe('load', () => {
  it('takes options of procedural sets from the description', async () => {
    const set = await load('blobs?n=40&classes=4&dim=3&std=1&seed=9')
    expect(set).toMatchObject({ name: 'blobs', size: 40, shape: [3], classes: 4 })
    for (const kind of ['circles', 'moons', 'spirals', 'teacher']) {
      expect((await load(`${kind}?n=12`, { split: 'test' })).size).toBe(12)
    }
    expect((await load('glyphs?n=30&test=20', { split: 'test' })).size).toBe(20)
  })

  it('limits to the first samples in file order', async () => {
    const whole = await load('moons?n=50')
    const some = await load('moons?n=50', { limit: 7 })
    expect(some.inputs).toEqual(whole.inputs.slice(0, 14))
    expect((await load('moons?n=50', { limit: 1000 })).size).toBe(50)
  })

  it('standardizes the test split with the statistics of the whole training split', async () => {
    const options = { normalization: 'standardize' as const }
    const train = await load('circles?n=60&seed=2', options)
    const test = await load('circles?n=60&seed=2', { ...options, split: 'test', limit: 5 })
    expect(test.normalization).toEqual(train.normalization)
    expect(train.normalization).toEqual(statistics(train))
    const x = normalizedInputs(train)
    expect(Math.abs(x.filter((_, i) => i % 2 === 0).reduce((a, b) => a + b, 0))).toBeLessThan(1e-3)
    const given = { mean: [3], std: [2] }
    expect((await load('circles?n=5', { normalization: given })).normalization).toEqual(given)
    expect((await load('glyphs?n=10', { normalization: 'none' })).normalization.mean).toEqual([0])
  })

  it.each([
    ['mnits:DIR', /Unknown data set 'mnits:DIR'. Did you mean 'mnist'\? Known are mnist:DIR, /],
    ['glyph', /Did you mean 'glyphs'/],
    ['toString', /Unknown data set/],
    ['', /Unknown data set/],
    ['blobs?clases=3', /Unknown option 'clases' of 'blobs'.*Did you mean 'classes'/],
    ['blobs?n=many', /'n' of 'blobs' must be a number; got 'many'/],
    ['blobs?n=0', /n must be an integer of at least 1/],
    ['blobs?n=5&n=6', /each once; got 'n=6'/],
    ['blobs?n', /KEY=VALUE/],
    ['blobs?std=-1', /std must be finite and not negative/],
    ['blobs:DIR', /'blobs' takes no path/],
    ['mnist', /'mnist' needs a path: mnist:DIR/],
    ['mnist:DIR?n=3', /it takes none/],
    ['npy:only-one', /two files/],
    ['teacher?classes=1', /at least two classes/],
    ['csv:x.csv?task=both', /'task' of 'csv' must be one of/],
    ['csv:x.csv?label=%zz', /no valid escape/],
  ])('refuses %s', async (spec, message) => {
    const error = await rejection(load(spec))
    expect(error.code).toBe('ERR_ARGUMENT')
    expect(error.message).toMatch(message)
  })

  it('refuses a bad limit, a bad split and an aborted signal', async () => {
    expect((await rejection(load('moons', { limit: 0 }))).code).toBe('ERR_ARGUMENT')
    expect((await rejection(load('moons', { split: 'dev' as 'test' }))).message).toMatch(/'dev'/)
    const signal = AbortSignal.abort()
    expect((await rejection(load('moons', { signal }))).code).toBe('ERR_ABORTED')
    const controller = new AbortController()
    const slow = load('glyphs', { signal: controller.signal })
    setTimeout(() => controller.abort(), 5)
    expect((await rejection(slow)).code).toBe('ERR_ABORTED')
  })

  it('lists every kind', () => {
    expect(kinds().map((usage) => usage.split(/[:[]/)[0])).toEqual([
      'mnist',
      'fashion-mnist',
      'idx',
      'cifar10',
      'cifar100',
      'images',
      'csv',
      'npz',
      'npy',
      'blobs',
      'circles',
      'moons',
      'spirals',
      'teacher',
      'glyphs',
      'shapes',
    ])
  })
})

describe('load from files', () => {
  it('splits a CSV file at random when told how', async () => {
    const rows = Array.from({ length: 20 }, (_, i) => `${i},${i % 2 ? 'odd' : 'even'}\n`).join('')
    const path = folder.put('n.csv', `number,parity\n${rows}`)
    const spec = `csv:${path}?label=parity&test=0.25&seed=3`
    const train = await load(spec)
    const test = await load(spec, { split: 'test' })
    expect([train.size, test.size]).toEqual([15, 5])
    expect([...train.inputs, ...test.inputs].sort((a, b) => a - b)).toEqual([...Array(20).keys()])
    expect((await load(`csv:${path}`)).size).toBe(20)
    expect((await rejection(load(`csv:${path}`, { split: 'test' }))).message).toMatch(/\?test=0\.2/)
  })

  it('finds the arrays of an npz file, and counts classes over both splits', async () => {
    const path = folder.put(
      'a.npz',
      zipFile([
        { name: 'x_train.npy', data: f4([2, 2, 1], 1, 2, 3, 4) },
        { name: 'y_train.npy', data: i8(0n, 2n) },
        { name: 'x_test.npy', data: f4([1, 2, 1], 5, 6) },
        { name: 'y_test.npy', data: i8(1n) },
      ]),
    )
    const train = await load(`npz:${path}`)
    expect(train).toMatchObject({ name: 'npz', size: 2, shape: [2, 1], classes: 3 })
    const test = await load(`npz:${path}`, { split: 'test' })
    expect(test).toMatchObject({ size: 1, classes: 3 })
    expect([...test.inputs]).toEqual([5, 6])
    const named = await load(`npz:${path}?x=x_test&y=y_test&classes=5`)
    expect(named).toMatchObject({ size: 1, classes: 5 })
    const error = await rejection(load(`npz:${path}?x=x_test&y=nothing`))
    expect(error.message).toMatch(/expected arrays x_test and nothing; got x_train, y_train/)
    const typo = await rejection(load(`npz:${path}?clases=5`, { split: 'test' }))
    expect(typo.message).toMatch(/Did you mean 'classes'/)
  })

  it('reads two npy files, real targets making a regression', async () => {
    const x = folder.put('x.npy', f4([3, 2], 1, 2, 3, 4, 5, 6))
    const y = folder.put('y.npy', f4([3, 1], 0.5, 1, 2))
    const set = await load(`npy:${x},${y}`)
    expect(set).toMatchObject({ name: 'npy', size: 3, classes: null, targetShape: [] })
    const labelled = await load(`npy:${x},${folder.put('l.npy', i8(0n, 1n, 1n))}`)
    expect(labelled).toMatchObject({ classes: 2, size: 3 })
    const short = folder.put('s.npy', i8(0n, 1n))
    const error = await rejection(load(`npy:${x},${short}`))
    expect(error.code).toBe('ERR_SHAPE')
    expect(error.message).toMatch(/\[3,2\] and targets \[2\] must agree/)
    const negative = folder.put('m.npy', i8(0n, -1n, 0n))
    expect((await rejection(load(`npy:${x},${negative}`))).code).toBe('ERR_RANGE')
    const nan = folder.put('nan.npy', f4([3, 1], 1, Number.NaN, 2))
    expect((await rejection(load(`npy:${nan},${y}`))).message).toMatch(/sample 1/)
  })

  it('reports missing files', async () => {
    const missing = join(folder.path, 'missing')
    for (const kind of ['mnist', 'idx', 'cifar10', 'cifar100', 'csv', 'npz']) {
      expect((await rejection(load(`${kind}:${missing}`))).code).toBe('ERR_IO')
    }
  })
})
