import { LosscapeError } from '../errors.js'

/** A data set's description, taken apart: `kind:path?key=value&...`. */
export interface DataSpec {
  readonly kind: string
  /** What stands between the colon and the question mark; '' for procedural sets. */
  readonly path: string
  readonly options: ReadonlyMap<string, string>
}

/** Takes a description such as `mnist:DIR` or `blobs?n=1000&seed=1` apart. Throws ERR_ARGUMENT. */
export function parseSpec(spec: string): DataSpec {
  const [, kind, path = '', query = ''] = /^([^:?]*)(?::(.*?))?(?:\?([^?]*))?$/s.exec(spec) ?? []
  if (kind === undefined) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `A data set is KIND, KIND:PATH or KIND?KEY=VALUE&...; got '${spec}'.`,
    )
  }
  const options = new Map<string, string>()
  for (const part of query.split('&').filter((p) => p !== '')) {
    const equals = part.indexOf('=')
    const key = decode(spec, equals < 0 ? part : part.slice(0, equals))
    if (equals < 1 || options.has(key)) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `Options of a data set are KEY=VALUE, each once; got '${part}' in '${spec}'.`,
      )
    }
    options.set(key, decode(spec, part.slice(equals + 1)))
  }
  return { kind, path, options }
}

function decode(spec: string, text: string): string {
  try {
    return decodeURIComponent(text)
  } catch (cause) {
    throw new LosscapeError('ERR_ARGUMENT', `'${text}' in '${spec}' is no valid escape.`, { cause })
  }
}

/** Reads the options of a {@link DataSpec}; what nobody asked for is an error. */
export class SpecOptions {
  private readonly known = new Set<string>()

  constructor(private readonly spec: DataSpec) {}

  text(key: string): string | undefined {
    this.known.add(key)
    return this.spec.options.get(key)
  }

  number(key: string): number | undefined {
    const text = this.text(key)
    if (text === undefined) return undefined
    const value = Number(text)
    if (text.trim() === '' || !Number.isFinite(value)) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `Option '${key}' of '${this.spec.kind}' must be a number; got '${text}'.`,
      )
    }
    return value
  }

  choice<T extends string>(key: string, values: readonly T[]): T | undefined {
    const text = this.text(key)
    if (text === undefined || (values as readonly string[]).includes(text)) return text as T
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `Option '${key}' of '${this.spec.kind}' must be one of ${values.join(', ')}; got '${text}'.`,
    )
  }

  /** The numbers that were given among `keys`, as an object. */
  numbers<K extends string>(...keys: readonly K[]): Partial<Record<K, number>> {
    const found: Partial<Record<K, number>> = {}
    for (const key of keys) {
      const value = this.number(key)
      if (value !== undefined) found[key] = value
    }
    return found
  }

  /** Throws ERR_ARGUMENT for the first option that was never asked for. */
  finish(): void {
    for (const key of this.spec.options.keys()) {
      if (this.known.has(key)) continue
      const known = [...this.known]
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `Unknown option '${key}' of '${this.spec.kind}'; ${
          known.length > 0
            ? `known are ${known.join(', ')}.${suggestion(key, known)}`
            : 'it takes none.'
        }`,
      )
    }
  }
}

/** " Did you mean 'x'?" for the nearest of `known`, or '' when none is near. */
export function suggestion(word: string, known: readonly string[]): string {
  let best = ''
  let least = Math.max(2, Math.ceil(word.length / 2)) + 1
  for (const candidate of known) {
    const distance = editDistance(word.toLowerCase(), candidate)
    if (distance < least) {
      least = distance
      best = candidate
    }
  }
  return best === '' ? '' : ` Did you mean '${best}'?`
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const substitution = row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(substitution, row[j] + 1, next[j - 1] + 1))
    }
    row = next
  }
  return row[b.length]
}
