import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  formatDuration,
  formatNumber,
  formatPercent,
  formatWithError,
  superscript,
} from '../../lib/report/format.js'
import { textTable } from '../../lib/report/table.js'

describe('formatNumber', () => {
  it.each([
    [0, '0'],
    [-0, '0'],
    [269322, '269,322'],
    [-12, '−12'],
    [3.14127, '3.141'],
    [0.0123456, '0.01235'],
    [1.5e-7, '1.500 × 10⁻⁷'],
    [-2.5e9 - 0.5, '−2.500 × 10⁹'],
    [Number.NaN, '–'],
    [Number.NEGATIVE_INFINITY, '–'],
    [null, '–'],
  ])('%s is %s', (value, text) => {
    expect(formatNumber(value)).toBe(text)
  })

  it('stays within a relative half unit of its last digit', () => {
    fc.assert(
      fc.property(fc.double({ min: -1e12, max: 1e12, noNaN: true }), (value) => {
        const plain = formatNumber(value)
          .replaceAll(',', '')
          .replace('−', '-')
          .replace(/ × 10(.*)/, (_, digits: string) => {
            const back = [...digits].map((d) => (d === '⁻' ? '-' : '⁰¹²³⁴⁵⁶⁷⁸⁹'.indexOf(d)))
            return `e${back.join('')}`
          })
        expect(Math.abs(Number(plain) - value)).toBeLessThanOrEqual(5.001e-4 * Math.abs(value))
      }),
    )
  })
})

describe('formatWithError', () => {
  it.each([
    [12.3456, 0.123, '12.35 ± 0.12'],
    [-12.3456, 0.123, '−12.35 ± 0.12'],
    [1234.5, 56, '1,235 ± 56'],
    [0.5, 3, '0.5 ± 3.0'],
    [1.234e-5, 2e-7, '(1.234 ± 0.020) × 10⁻⁵'],
    [-4.2e7, 1e6, '(−4.20 ± 0.10) × 10⁷'],
    [42.5, 1e-14, '42.500000000 ± 1.0 × 10⁻¹⁴'],
    [2, 0, '2 ± 0'],
    [3.5, Number.NaN, '3.500'],
    [3.5, undefined, '3.500'],
  ])('%s with error %s is %s', (value, error, text) => {
    expect(formatWithError(value, error)).toBe(text)
  })
})

describe('other forms', () => {
  it('writes durations, percentages and superscripts', () => {
    expect(formatDuration(12.34)).toBe('12.3 ms')
    expect(formatDuration(2345)).toBe('2.35 s')
    expect(formatDuration(125_000)).toBe('2 min 5 s')
    expect(formatDuration(179_800)).toBe('3 min 0 s')
    expect(formatPercent(0.98765)).toBe('98.77 %')
    expect(formatPercent(undefined)).toBe('–')
    expect(superscript(-12)).toBe('⁻¹²')
  })
})

describe('textTable', () => {
  it('aligns columns by code points', () => {
    const table = textTable(
      ['run', 'λ max', 'note'],
      [
        ['a', '1.5'],
        ['long name', '−12 ± 1', 'x'],
      ],
      {
        align: ['left', 'right', 'left'],
      },
    )
    expect(table.split('\n')).toEqual([
      'run          λ max  note',
      '---------  -------  ----',
      'a              1.5',
      'long name  −12 ± 1  x',
    ])
  })

  it('prints a header without rows', () => {
    expect(textTable(['a', 'bc'], [])).toBe('a  bc\n-  --')
  })
})
