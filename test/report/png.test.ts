import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { svgToPng } from '../../lib/report/png.js'
import { renderSvg } from '../../lib/report/svg.js'

const picture = (body: string) =>
  `<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20" viewBox="0 0 40 20">${body}</svg>`

describe('svgToPng', () => {
  it('draws at the scale asked for', async () => {
    const png = Buffer.from(await svgToPng(picture('<circle r="5"/>'), { scale: 3 }))
    expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([120, 60])
  })

  it('has the glyphs of both bundled weights', async () => {
    const empty = await svgToPng(picture(''))
    for (const weight of [400, 700]) {
      for (const letter of ['λ', '⁻', '⁹', '±', 'A']) {
        const text = `<text y="15" font-family="Arimo" font-weight="${weight}">${letter}</text>`
        expect((await svgToPng(picture(text))).length).toBeGreaterThan(empty.length)
      }
    }
  })

  it('answers a fault of the renderer with an error, and goes on', async () => {
    await expect(svgToPng('not a picture')).rejects.toMatchObject({ code: 'ERR_FORMAT' })
    // Coordinates far beyond any pixel: unreachable code in the renderer.
    const fault = picture(
      '<clipPath id="c"><rect width="9" height="9"/></clipPath>' +
        '<g clip-path="url(#c)"><rect x="-60273" width="5781" height="20"/></g>',
    )
    await expect(svgToPng(fault)).rejects.toMatchObject({ code: 'ERR_FORMAT' })
    expect((await svgToPng(picture(''))).length).toBeGreaterThan(50)
  })
})

describe('renderSvg', () => {
  it('does not read data files', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'losscape-svg-'))
    try {
      const values = [{ a: 1 }, { a: 2 }]
      await writeFile(join(folder, 'data.json'), JSON.stringify(values))
      const points = async (data: object) => {
        const svg = await renderSvg({
          data,
          mark: 'point',
          encoding: { x: { field: 'a', type: 'quantitative' } },
        })
        return svg.match(/aria-roledescription="point"/g)?.length ?? 0
      }
      expect(await points({ values })).toBe(2)
      for (const url of [join(folder, 'data.json'), `file://${join(folder, 'data.json')}`]) {
        expect(await points({ url })).toBe(0)
      }
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('answers a specification that makes no sense with an error', async () => {
    await expect(renderSvg({ mark: 'nonsense' })).rejects.toMatchObject({ code: 'ERR_FORMAT' })
  })

  it('prefixes ids', async () => {
    const svg = await renderSvg(
      {
        data: { values: [{ a: 1 }] },
        mark: { type: 'point', clip: true },
        encoding: { x: { field: 'a', type: 'quantitative' } },
      },
      { idPrefix: 'left-' },
    )
    expect(svg).toMatch(/id="left-clip/)
    expect(svg).toMatch(/url\(#left-clip/)
  })
})
