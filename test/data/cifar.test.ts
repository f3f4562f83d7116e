import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { readCifar } from '../../lib/data/index.js'
import { rejection, surviveCorruption, temporaryFolder } from '../files/temporary.js'

const folder = temporaryFolder()

function sub(name: string): string {
  mkdirSync(join(folder.path, name), { recursive: true })
  return join(folder.path, name)
}

/** Records whose pixels all equal the last label byte. */
function batch(...labels: number[][]): Uint8Array {
  return Uint8Array.from(labels.flatMap((l) => [...l, ...new Array(3072).fill(l[l.length - 1])]))
}

describe('readCifar', () => {
  it('joins the batches of cifar10 in order, plain and gzip', async () => {
    const path = sub('ten')
    folder.put('ten/data_batch_2.bin.gz', gzipSync(batch([7])))
    folder.put('ten/data_batch_1.bin', batch([3], [4]))
    folder.put('ten/data_batch_10.bin', batch([9]))
    folder.put('ten/test_batch.bin.gz', gzipSync(batch([0])))
    const set = await readCifar(path, 'train')
    expect(set).toMatchObject({ name: 'cifar10', size: 4, shape: [3, 32, 32], classes: 10 })
    expect([...set.targets]).toEqual([3, 4, 7, 9])
    expect([set.inputs[0], set.inputs[3072], set.inputs[4 * 3072 - 1]]).toEqual([3, 4, 9])
    expect(set.classNames?.[3]).toBe('cat')
    expect((await readCifar(path, 'test')).size).toBe(1)
    expect((await readCifar(path, 'train', { limit: 2 })).size).toBe(2)
  })

  it('uses the fine label of cifar100', async () => {
    const path = sub('hundred')
    folder.put('hundred/train.bin', batch([1, 99], [2, 50]))
    const set = await readCifar(path, 'train', { kind: 'cifar100' })
    expect([...set.targets]).toEqual([99, 50])
    expect(set.classes).toBe(100)
  })

  it('refuses partial records, labels out of range, empty files and missing ones', async () => {
    const path = sub('bad')
    expect((await rejection(readCifar(path, 'train'))).code).toBe('ERR_IO')
    expect((await rejection(readCifar(path, 'test'))).message).toMatch(/test_batch\.bin/)
    folder.put('bad/data_batch_1.bin', batch([1], [2]).subarray(0, 5000))
    const cut = await rejection(readCifar(path, 'train'))
    expect(cut.code).toBe('ERR_FORMAT')
    expect(cut.message).toMatch(/byte 3073: expected a whole number of 3073-byte records/)
    folder.put('bad/data_batch_1.bin', batch([1], [10]))
    const label = await rejection(readCifar(path, 'train'))
    expect(label.message).toMatch(/byte 3073: expected a label from 0 to 9; got 10/)
    folder.put('bad/data_batch_1.bin', new Uint8Array(0))
    expect((await rejection(readCifar(path, 'train'))).code).toBe('ERR_FORMAT')
  })

  it('survives random damage', async () => {
    const path = sub('damaged')
    await surviveCorruption(
      gzipSync(batch([1], [2])),
      (bytes) => {
        folder.put('damaged/test_batch.bin.gz', bytes)
        return readCifar(path, 'test')
      },
      { numRuns: 60 },
    )
  })
})
