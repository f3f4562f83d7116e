import { setImmediate } from 'node:timers/promises'
import { requireArguments } from '../arguments.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import { formatError } from '../files/errors.js'
import { type ReadOptions, readBytes } from '../files/read.js'
import { requireOptions } from '../options.js'
import { type DataSet, IDENTITY, validate } from './dataset.js'

/** Options of {@link readCsv}. */
export interface CsvOptions extends ReadOptions {
  /** Column with the targets: a header's name or an index (negative: from the end). Default -1. */
  label?: string | number
  /** Default 'auto': the first line is a header when none of its fields is a number. */
  header?: boolean | 'auto'
  /** Default ','. */
  delimiter?: string
  /**
   * Default 'auto': classification when every target is a non-negative integer or any is not a
   * number, else regression.
   */
  task?: 'classification' | 'regression' | 'auto'
}

/** One line's fields and its number in the file (records may span lines). */
export interface CsvRecord {
  line: number
  fields: string[]
}

const MAX_TEXT = 2 ** 29 - 1024
/** Records between two turns of the event loop. */
const SLICE = 2000

/**
 * Reads a table with one sample a line: numeric columns and one target column. Labels that are not
 * numbers become classes in alphabetical order; integer labels keep their numbers.
 *
 * Throws ERR_IO; ERR_FORMAT with the line number (field counts that differ, a field that is no
 * number, quotes out of place); ERR_NOT_FINITE; ERR_ARGUMENT (unknown column, no sample).
 */
export async function readCsv(path: string, options: CsvOptions = {}): Promise<DataSet> {
  requireArguments('readCsv()', { path })
  requireOptions('readCsv()', options, [
    ...(['label', 'header', 'delimiter', 'task', 'signal', 'maxBytes'] as const),
  ])
  const { label = -1, header = 'auto', delimiter = ',', task = 'auto' } = options
  if (delimiter.length !== 1 || /["\r\n]/.test(delimiter)) {
    throw new LosscapeError('ERR_ARGUMENT', `delimiter must be one character; got '${delimiter}'.`)
  }
  const { signal, maxBytes = MAX_TEXT } = options
  const bytes = await readBytes(path, { signal, maxBytes: Math.min(maxBytes, MAX_TEXT) })
  const text = decodeText(path, bytes)
  const rows: number[][] = []
  const labels: { text: string; line: number }[] = []
  let names: string[] | null = null
  let column = -1
  let width = -1
  for (const record of parseCsv(text, delimiter, path)) {
    const { fields, line } = record
    if (width < 0) {
      width = fields.length
      const isHeader = header === 'auto' ? fields.every((f) => toNumber(f) === null) : header
      if (isHeader) names = fields.map((f) => f.trim())
      column = findColumn(path, label, width, names)
      if (isHeader) continue
    }
    if (fields.length !== width) {
      throw formatError(path, { line, expected: `${width} fields`, got: `${fields.length}` })
    }
    labels.push({ text: fields[column].trim(), line })
    rows.push(toRow(path, record, column, names))
    if (rows.length % SLICE === 0) {
      await setImmediate()
      throwIfAborted(signal)
    }
  }
  if (rows.length === 0) {
    throw new LosscapeError('ERR_ARGUMENT', `${path}: a data set needs at least one sample.`)
  }
  const features = width - 1
  const inputs = new Float32Array(rows.length * features)
  rows.forEach((row, i) => {
    inputs.set(row, i * features)
  })
  return validate({
    name: 'csv',
    size: rows.length,
    shape: [features],
    inputs,
    ...toTargets(path, labels, task),
    targetShape: [],
    normalization: IDENTITY,
  })
}

/**
 * The records of a CSV text (RFC 4180: quoted fields may hold delimiters, doubled quotes and line
 * ends; CRLF or LF). Empty lines are skipped. Throws ERR_FORMAT with the line number.
 */
export function* parseCsv(text: string, delimiter = ',', path = 'csv'): Generator<CsvRecord> {
  let at = 0
  let line = 1
  while (at < text.length) {
    const record: CsvRecord = { line, fields: [] }
    let ended = false
    while (!ended) {
      let field: string
      if (text[at] === '"') {
        ;({ field, at, line } = quoted(text, at, line, path))
      } else {
        const begin = at
        while (at < text.length && text[at] !== delimiter && !isLineEnd(text, at)) {
          if (text[at] === '"') {
            throw formatError(path, {
              line,
              expected: 'quotes around a whole field',
              got: 'one inside a field',
            })
          }
          at++
        }
        field = text.slice(begin, at)
      }
      record.fields.push(field)
      if (text[at] === delimiter) {
        at++
      } else if (at >= text.length || isLineEnd(text, at)) {
        ended = true
      } else {
        throw formatError(path, {
          line,
          expected: 'a delimiter after a quoted field',
          got: JSON.stringify(text[at]),
        })
      }
    }
    if (text[at] === '\r') at++
    at++
    line++
    if (record.fields.length > 1 || record.fields[0].trim() !== '') yield record
  }
}

function isLineEnd(text: string, at: number): boolean {
  return text[at] === '\n' || (text[at] === '\r' && text[at + 1] === '\n')
}

function quoted(
  text: string,
  begin: number,
  firstLine: number,
  path: string,
): { field: string; at: number; line: number } {
  let line = firstLine
  for (let at = begin + 1; at < text.length; at++) {
    if (text[at] === '\n') line++
    if (text[at] !== '"') continue
    if (text[at + 1] === '"') {
      at++
      continue
    }
    return { field: text.slice(begin + 1, at).replaceAll('""', '"'), at: at + 1, line }
  }
  throw formatError(path, {
    line: firstLine,
    expected: 'a closing quote',
    got: 'the end of the file',
  })
}

function decodeText(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw formatError(path, { expected: 'UTF-8 text', got: 'other bytes', cause })
  }
}

/** The number that a field spells, NaN and infinities included; null for any other text. */
function toNumber(field: string): number | null {
  const text = field.trim()
  if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) return Number(text)
  if (/^[+-]?(nan|inf|infinity)$/i.test(text)) return Number.NaN
  return null
}

function toRow(
  path: string,
  { fields, line }: CsvRecord,
  column: number,
  names: readonly string[] | null,
): number[] {
  const row: number[] = []
  fields.forEach((field, k) => {
    if (k === column) return
    const value = toNumber(field)
    const where = names ? `column '${names[k]}'` : `column ${k}`
    if (value === null) {
      throw formatError(path, {
        line,
        expected: `a number in ${where}`,
        got: field.trim() === '' ? 'nothing' : JSON.stringify(field.slice(0, 40)),
      })
    }
    // As stored, so that numbers beyond float32 are caught here, where the line is known.
    if (!Number.isFinite(Math.fround(value))) {
      throw new LosscapeError(
        'ERR_NOT_FINITE',
        `${path}, line ${line}: ${where} must be finite in float32; got ${field.trim()}.`,
      )
    }
    row.push(value)
  })
  return row
}

function findColumn(
  path: string,
  label: string | number,
  width: number,
  names: readonly string[] | null,
): number {
  const byName = names?.indexOf(String(label)) ?? -1
  if (byName >= 0 && typeof label === 'string') return byName
  const index = typeof label === 'number' ? label : /^-?\d+$/.test(label) ? Number(label) : NaN
  const column = index < 0 ? width + index : index
  if (width < 2 || !Number.isInteger(column) || column < 0 || column >= width) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${path}: expected a label column and at least one other; label '${label}' is none of ` +
        `${names ? names.slice(0, 20).join(', ') : `the ${width} columns`}.`,
    )
  }
  return column
}

function toTargets(
  path: string,
  labels: readonly { text: string; line: number }[],
  task: 'classification' | 'regression' | 'auto',
): Pick<DataSet, 'targets' | 'classes' | 'classNames'> {
  const numbers = labels.map(({ text }) => toNumber(text))
  const isText = numbers.includes(null)
  const isInteger = numbers.every((v) => v !== null && Number.isInteger(v) && v >= 0 && v < 2 ** 31)
  if (task === 'regression' || (task === 'auto' && !isText && !isInteger)) {
    numbers.forEach((value, i) => {
      if (value === null || !Number.isFinite(Math.fround(value))) {
        const { text, line } = labels[i]
        if (value === null) {
          throw formatError(path, {
            line,
            expected: 'a number as target',
            got: text === '' ? 'nothing' : JSON.stringify(text.slice(0, 40)),
          })
        }
        throw new LosscapeError(
          'ERR_NOT_FINITE',
          `${path}, line ${line}: the target must be finite in float32; got ${text}.`,
        )
      }
    })
    return { targets: Float32Array.from(numbers as number[]), classes: null }
  }
  const empty = labels.find(({ text }) => text === '')
  if (empty) {
    throw formatError(path, { line: empty.line, expected: 'a label', got: 'nothing' })
  }
  if (isInteger) {
    const targets = Int32Array.from(numbers as number[])
    return { targets, classes: targets.reduce((most, t) => Math.max(most, t), 0) + 1 }
  }
  const classNames = [...new Set(labels.map(({ text }) => text))].sort()
  const index = new Map(classNames.map((name, i) => [name, i]))
  return {
    targets: Int32Array.from(labels, ({ text }) => index.get(text)!),
    classes: classNames.length,
    classNames,
  }
}
