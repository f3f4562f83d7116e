import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readImageFolder } from '../../lib/data/image-folder.js'
import { type ImageDecoder, sharpDecoder } from '../../lib/data/images.js'
import { load } from '../../lib/data/load.js'

let root: string

/** A picture of one colour, but for its first pixel, which is black. */
async function paint(path: string, width: number, height: number, colour: number[]): Promise<void> {
  const pixels = Buffer.from(
    Array(width * height)
      .fill(colour)
      .flat(),
  )
  pixels.fill(0, 0, colour.length)
  const file = join(root, path)
  await mkdir(dirname(file), { recursive: true })
  const channels = colour.length as 3 | 4
  const picture = sharp(pixels, { raw: { width, height, channels } })
  await (path.endsWith('.jpg') ? picture.jpeg({ quality: 100 }) : picture.png()).toFile(file)
}

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'losscape-images-'))
  await paint('a/train/cat/1.png', 4, 3, [10, 20, 30])
  await paint('a/train/cat/2.png', 4, 3, [11, 21, 31, 128])
  await paint('a/train/dog/1.PNG.png', 4, 3, [200, 100, 50])
  await paint('a/val/cat/1.png', 4, 3, [1, 2, 3])
  await paint('a/val/dog/1.jpg', 4, 3, [100, 100, 100])
  await paint('flat/x/1.png', 2, 2, [1, 1, 1])
  await paint('flat/y/1.png', 4, 2, [2, 2, 2])
  await paint('flat/y/2.png', 2, 4, [3, 3, 3])
  await writeFile(join(root, 'a/train/cat/notes.txt'), 'no image')
  await paint('broken/x/1.png', 2, 2, [1, 1, 1])
  await writeFile(join(root, 'broken/x/2.png'), 'not a picture')
  await mkdir(join(root, 'empty/x'), { recursive: true })
  await mkdir(join(root, 'none'))
})
afterAll(() => rm(root, { recursive: true }))

describe('image folders', () => {
  it('become planes of bytes, labels by the order of the names', async () => {
    const set = await load(`images:${root}/a`)
    expect(set).toMatchObject({
      size: 3,
      shape: [3, 3, 4],
      classes: 2,
      classNames: ['cat', 'dog'],
      normalization: { mean: [0.485, 0.456, 0.406] },
    })
    // Classes take turns.
    expect([...set.targets]).toEqual([0, 1, 0])
    expect([...set.inputs.subarray(0, 4)]).toEqual([0, 10, 10, 10])
    expect([...set.inputs.subarray(36, 38)]).toEqual([0, 200])
    // Transparency is dropped, not blended.
    expect([set.inputs[72 + 1], set.inputs[72 + 12 + 1]]).toEqual([11, 21])
    const test = await load(`images:${root}/a`, { split: 'test' })
    expect([...test.targets]).toEqual([0, 1])
    expect((await load(`images:${root}/a`, { limit: 2 })).size).toBe(2)
  })

  it('are brought to one size, and to grey, when asked to', async () => {
    const set = await load(`images:${root}/flat?size=2&channels=1`)
    expect(set).toMatchObject({ size: 3, shape: [1, 2, 2], normalization: { mean: [0.449] } })
    const part = await load(`images:${root}/flat?size=2&test=0.4`, { split: 'test' })
    expect(part.size).toBe(1)
  })

  it.each<[string, string, string]>([
    ['ERR_FORMAT', 'flat', '2.png'],
    ['ERR_FORMAT', 'broken', '2.png'],
    ['ERR_ARGUMENT', 'empty', 'at least one image'],
    ['ERR_ARGUMENT', 'none', 'one folder per class'],
    ['ERR_IO', 'absent', 'absent'],
  ])('%s for a folder that is %s', async (code, folder, message) => {
    const read = folder === 'flat' ? `images:${root}/flat` : `images:${root}/${folder}?size=2`
    await expect(load(read)).rejects.toMatchObject({
      code,
      message:
        folder === 'flat'
          ? expect.stringContaining('Pass a size')
          : expect.stringContaining(message),
    })
  })

  it('refuse bad options', async () => {
    for (const bad of [{ channels: 2 }, { size: 0 }, { limit: 0 }, { colour: true }]) {
      const read = readImageFolder(`${root}/flat`, null, bad as object)
      await expect(read).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    }
    await expect(load(`images:${root}/flat?crop=2`)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    const controller = new AbortController()
    controller.abort()
    const aborted = readImageFolder(`${root}/flat`, null, { size: 2, signal: controller.signal })
    await expect(aborted).rejects.toMatchObject({ code: 'ERR_ABORTED' })
  })

  it('take a decoder in place of sharp, and check what it gives', async () => {
    const decoder: ImageDecoder = async (_, channels) => ({
      width: 2,
      height: 1,
      channels,
      data: new Uint8Array(2 * channels).fill(7),
    })
    const set = await readImageFolder(`${root}/flat`, null, { decoder })
    expect(set.inputs.every((value) => value === 7)).toBe(true)
    const wrong: ImageDecoder = async () => ({
      width: 1,
      height: 1,
      channels: 2,
      data: new Uint8Array(2),
    })
    await expect(readImageFolder(`${root}/flat`, null, { decoder: wrong })).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringContaining('2 channels'),
    })
  })

  it('say how to install sharp where it is missing', async () => {
    const missing = sharpDecoder(() => Promise.reject(new Error("Cannot find package 'sharp'")))
    await expect(missing).rejects.toMatchObject({
      code: 'ERR_IO',
      message: expect.stringContaining('npm install sharp'),
    })
  })
})
