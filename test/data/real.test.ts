import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { load, statistics } from '../../lib/data/index.js'

const root = process.env.LOSSCAPE_DATA ?? resolve(import.meta.dirname, '../../../shared/data')
const mnist = join(root, 'mnist')
const cifar = join(root, 'cifar-10')
for (const folder of [mnist, cifar]) {
  if (!existsSync(folder)) {
    console.warn(`${folder} is absent: its tests are left out. Set LOSSCAPE_DATA to the data root.`)
  }
}

describe.runIf(existsSync(mnist))('MNIST', () => {
  it('holds 60,000 training images, the first a 5, with the known statistics', async () => {
    const set = await load(`mnist:${mnist}`)
    expect(set).toMatchObject({ size: 60_000, shape: [28, 28], classes: 10 })
    expect([...set.targets.slice(0, 10)]).toEqual([5, 0, 4, 1, 9, 2, 1, 3, 1, 4])
    const { mean, std } = statistics(set)
    expect(Math.abs(mean[0] - 0.1307)).toBeLessThan(1e-3)
    expect(Math.abs(std[0] - 0.3081)).toBeLessThan(1e-3)
  })

  it('holds 10,000 test images, the first a 7', async () => {
    const set = await load(`mnist:${mnist}`, { split: 'test', limit: 3 })
    expect([...set.targets]).toEqual([7, 2, 1])
  })
})

describe.runIf(existsSync(cifar))('CIFAR-10', () => {
  it('holds colour images of ten classes near the published means', async () => {
    const set = await load(`cifar10:${cifar}`, { split: 'test' })
    expect(set).toMatchObject({ shape: [3, 32, 32], classes: 10 })
    const { mean, std } = statistics(set)
    // A part of the set, decoded from JPEG copies: close to the constants, not equal.
    for (let c = 0; c < 3; c++) {
      expect(Math.abs(mean[c] - set.normalization.mean[c])).toBeLessThan(0.02)
      expect(Math.abs(std[c] - set.normalization.std[c])).toBeLessThan(0.02)
    }
    expect(new Set(set.targets).size).toBe(10)
  })
})
