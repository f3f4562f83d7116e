import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseCsv } from '../../lib/data/csv.js'
import { readCsv } from '../../lib/data/index.js'
import { rejection, surviveCorruption, temporaryFolder } from '../files/temporary.js'

const folder = temporaryFolder()
const put = (text: string) => folder.put('table.csv', text)

describe('parseCsv', () => {
  it('reads back any fields that were quoted, or need no quotes', () => {
    const field = fc.string({ unit: fc.constantFrom('a', '1', ' ', ',', '"', '\n', '\r\n', 'ü') })
    fc.assert(
      fc.property(fc.array(fc.array(field, { minLength: 2, maxLength: 4 })), (rows) => {
        const quote = (f: string) => (/[",\n\r]/.test(f) ? `"${f.replaceAll('"', '""')}"` : f)
        const text = rows.map((row) => `${row.map(quote).join(',')}\r\n`).join('')
        expect([...parseCsv(text)].map(({ fields }) => fields)).toEqual(rows)
      }),
    )
  })

  it('counts lines through quoted line ends and skips empty lines', () => {
    const records = [...parseCsv('a,"x\ny"\n\nb,c')]
    expect(records).toEqual([
      { line: 1, fields: ['a', 'x\ny'] },
      { line: 4, fields: ['b', 'c'] },
    ])
  })
})

describe('readCsv', () => {
  it('finds the header, takes the last column as label, and names classes in order', async () => {
    const set = await readCsv(put('width,height,kind\n1,2,dog\n3,4.5,cat\n-5e-1,.5,dog\n'))
    expect(set).toMatchObject({ name: 'csv', size: 3, shape: [2], classes: 2 })
    expect(set.classNames).toEqual(['cat', 'dog'])
    expect([...set.targets]).toEqual([1, 0, 1])
    expect([...set.inputs]).toEqual([1, 2, 3, 4.5, -0.5, 0.5])
  })

  it('reads tables without header, byte order mark, other delimiters and labels by index', async () => {
    const set = await readCsv(put('\ufeff2;1.5;7\n0;2.5;8\n'), { delimiter: ';', label: 0 })
    expect(set).toMatchObject({ size: 2, shape: [2], classes: 3 })
    expect([...set.targets]).toEqual([2, 0])
    expect([...set.inputs]).toEqual([1.5, 7, 2.5, 8])
  })

  it('takes columns by name and from the end, and forced headers', async () => {
    const text = 'y,a,b\n1,2,3\n0,5,6\n'
    expect([...(await readCsv(put(text), { label: 'y' })).targets]).toEqual([1, 0])
    expect([...(await readCsv(put(text), { label: -3 })).targets]).toEqual([1, 0])
    const numeric = await readCsv(put('1,2\n3,4\n'), { header: true })
    expect(numeric.size).toBe(1)
    expect((await readCsv(put('a,b\nc,d\n'), { header: false }).catch((e) => e)).message).toMatch(
      /line 1: expected a number in column 0; got "a"/,
    )
  })

  it('is a regression when targets are real numbers, or when told so', async () => {
    const real = await readCsv(put('1,0.5\n2,1\n'))
    expect(real.classes).toBeNull()
    expect(real.targets).toEqual(Float32Array.of(0.5, 1))
    const told = await readCsv(put('1,3\n2,1\n'), { task: 'regression' })
    expect([told.classes, ...told.targets]).toEqual([null, 3, 1])
    const classes = await readCsv(put('1,0.5\n2,1.5\n'), { task: 'classification' })
    expect(classes.classNames).toEqual(['0.5', '1.5'])
  })

  it.each([
    [
      'a line with too few fields',
      'a,b\n1,2\n3\n',
      {},
      'ERR_FORMAT',
      /line 3: expected 2 fields; got 1/,
    ],
    [
      'a word among numbers',
      'a,b\n1,2\nx,4\n',
      {},
      'ERR_FORMAT',
      /line 3: expected a number in column 'a'; got "x"/,
    ],
    ['a missing number', '1,2\n,4\n', {}, 'ERR_FORMAT', /line 2: .*got nothing/],
    ['a missing label', 'a,b\n1,x\n3,\n', {}, 'ERR_FORMAT', /line 3: expected a label/],
    ['NaN', '1,2\nNaN,4\n', {}, 'ERR_NOT_FINITE', /line 2/],
    ['a number beyond float32', '1,2\n1e39,4\n', {}, 'ERR_NOT_FINITE', /line 2: column 0/],
    ['an infinite target', '1,2.5\n1,-inf\n', {}, 'ERR_NOT_FINITE', /line 2: the target/],
    [
      'a word as regression target',
      '1,2\n1,x\n',
      { task: 'regression' as const },
      'ERR_FORMAT',
      /line 2/,
    ],
    ['an open quote', 'a,b\n1,"2\n3,4\n', {}, 'ERR_FORMAT', /line 2: expected a closing quote/],
    ['a quote inside a field', 'a,b\n1,2"3\n', {}, 'ERR_FORMAT', /line 2/],
    [
      'text after a quoted field',
      'a,b\n1,"2"3\n',
      {},
      'ERR_FORMAT',
      /line 2: expected a delimiter/,
    ],
    ['an unknown column', 'a,b\n1,2\n', { label: 'c' }, 'ERR_ARGUMENT', /'c' is none of a, b/],
    ['a column outside the table', '1,2\n', { label: 2 }, 'ERR_ARGUMENT', /label '2'/],
    ['a table of one column', '1\n2\n', {}, 'ERR_ARGUMENT', /at least one other/],
    ['a header alone', 'a,b\n', {}, 'ERR_ARGUMENT', /at least one sample/],
    ['nothing', '', {}, 'ERR_ARGUMENT', /at least one sample/],
    ['a bad delimiter', '1,2\n', { delimiter: ', ' }, 'ERR_ARGUMENT', /one character/],
  ])('refuses %s', async (_, text, options, code, message) => {
    const error = await rejection(readCsv(put(text), options))
    expect(error.code).toBe(code)
    expect(error.message).toMatch(message)
  })

  it('refuses bytes that are no UTF-8', async () => {
    const path = folder.put('latin.csv', Uint8Array.of(0x31, 0x2c, 0xe4, 0x0a))
    expect((await rejection(readCsv(path))).message).toMatch(/UTF-8/)
  })

  it('survives random damage', async () => {
    const bytes = new TextEncoder().encode('a,b,"c ""q"""\n1,2,x\n3.5,-4e2,y\n5,6,"z,\n"\n')
    await surviveCorruption(bytes, (damaged) => readCsv(folder.put('damaged.csv', damaged)), {
      codes: ['ERR_FORMAT', 'ERR_ARGUMENT', 'ERR_NOT_FINITE'],
      numRuns: 300,
    })
  })
})
