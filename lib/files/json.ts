import { formatError } from './errors.js'

/** JSON with objects as maps, so that `__proto__` is a key like any other. */
export type JsonValue = null | boolean | number | string | JsonValue[] | Map<string, JsonValue>

const MAX_DEPTH = 64
const SPACE = /[ \t\n\r]*/y
const NUMBER = /-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y

/**
 * Parses JSON strictly: unlike JSON.parse it refuses duplicate keys, of which any could be meant.
 * Throws ERR_FORMAT with the byte offset (`base` is the text's offset in the file).
 */
export function parseJson(text: string, path: string, base = 0): JsonValue {
  let at = 0
  const value = parseValue(0)
  skip()
  if (at < text.length) fail('the end of the JSON text')
  return value

  function fail(expected: string, got = describe()): never {
    throw formatError(path, { offset: base + at, expected, got })
  }

  function describe(): string {
    return at < text.length ? JSON.stringify(text.slice(at, at + 20)) : 'the end of the JSON text'
  }

  function skip(): void {
    match(SPACE)
  }

  function match(pattern: RegExp): string | null {
    pattern.lastIndex = at
    const found = pattern.exec(text)
    if (!found) return null
    at = pattern.lastIndex
    return found[0]
  }

  function parseValue(depth: number): JsonValue {
    if (depth > MAX_DEPTH) fail(`at most ${MAX_DEPTH} levels`)
    skip()
    if (text[at] === '{') return parseObject(depth)
    if (text[at] === '[') return parseArray(depth)
    if (text[at] === '"') return parseString()
    for (const [word, value] of [
      ['true', true],
      ['false', false],
      ['null', null],
    ] as const) {
      if (text.startsWith(word, at)) {
        at += word.length
        return value
      }
    }
    const number = match(NUMBER)
    return number === null ? fail('a JSON value') : Number(number)
  }

  function parseString(): string {
    if (text[at] !== '"') fail('a JSON string')
    // A loop, since a regular expression may exhaust its stack on a name of megabytes.
    let end = at + 1
    while (end < text.length && text[end] !== '"') end += text[end] === '\\' ? 2 : 1
    try {
      const value = JSON.parse(text.slice(at, end + 1)) as string
      at = end + 1
      return value
    } catch {
      return fail('a JSON string')
    }
  }

  function parseArray(depth: number): JsonValue[] {
    const items: JsonValue[] = []
    at++
    skip()
    if (text[at] === ']') {
      at++
      return items
    }
    for (;;) {
      items.push(parseValue(depth + 1))
      skip()
      if (text[at] === ']') break
      if (text[at] !== ',') fail("',' or ']'")
      at++
    }
    at++
    return items
  }

  function parseObject(depth: number): Map<string, JsonValue> {
    const object = new Map<string, JsonValue>()
    at++
    skip()
    if (text[at] === '}') {
      at++
      return object
    }
    for (;;) {
      skip()
      const begin = at
      const key = parseString()
      if (object.has(key)) {
        at = begin
        fail('each key once', `${JSON.stringify(key)} twice`)
      }
      skip()
      if (text[at] !== ':') fail("':'")
      at++
      object.set(key, parseValue(depth + 1))
      skip()
      if (text[at] === '}') break
      if (text[at] !== ',') fail("',' or '}'")
      at++
    }
    at++
    return object
  }
}
