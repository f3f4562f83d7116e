import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { appendJsonLines, readJsonLines, truncateJsonLines } from '../../lib/files/index.js'
import { rejection, temporaryFolder } from './temporary.js'

const folder = temporaryFolder()

describe('JSON Lines', () => {
  it('reads back what it appends', async () => {
    const path = join(folder.path, 'a.jsonl')
    await appendJsonLines(path, { step: 1, loss: 0.5 })
    await appendJsonLines(path, { step: 2, loss: Number.NaN }, { note: 'ü\n' })
    expect(await readJsonLines(path)).toEqual({
      records: [{ step: 1, loss: 0.5 }, { step: 2, loss: null }, { note: 'ü\n' }],
      torn: false,
    })
  })

  it('leaves out a torn last line wherever it was torn', async () => {
    const whole = '{"step":1}\n{"step":2,"text":"ü"}\n'
    const bytes = Buffer.from(whole)
    const second = bytes.indexOf(10) + 1
    for (let cut = second + 1; cut < bytes.length; cut++) {
      const path = folder.put('torn.jsonl', bytes.subarray(0, cut))
      expect(await readJsonLines(path)).toEqual({ records: [{ step: 1 }], torn: true })
      await truncateJsonLines(path, 100)
      expect(readFileSync(path, 'utf8')).toBe('{"step":1}\n')
    }
  })

  it('reports a bad line in the middle with its number', async () => {
    const path = folder.put('bad.jsonl', '{"a":1}\n[1]\n{"a":2}\n')
    const error = await rejection(readJsonLines(path))
    expect(error.code).toBe('ERR_FORMAT')
    expect(error.message).toContain('line 2: expected a JSON object; got "[1]"')
    expect((await rejection(readJsonLines(join(folder.path, 'none')))).code).toBe('ERR_IO')
  })

  it('after truncating to a step, a resumed run continues as if it had never stopped', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(20), fc.nat(20), fc.nat(30), async (total, stop, torn) => {
        const line = (step: number) => `${JSON.stringify({ step, loss: 1 / (step + 1) })}\n`
        const whole = Array.from({ length: total }, (_, step) => line(step)).join('')
        const path = join(folder.path, 'resume.jsonl')
        writeFileSync(path, whole)
        appendFileSync(path, line(99).slice(0, Math.min(torn, line(99).length - 1)))
        await truncateJsonLines(path, stop)
        for (let step = stop + 1; step < total; step++) appendFileSync(path, line(step))
        expect(readFileSync(path, 'utf8')).toBe(whole)
      }),
      { numRuns: 40 },
    )
    await truncateJsonLines(join(folder.path, 'missing.jsonl'), 3)
  })
})
