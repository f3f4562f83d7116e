import { LosscapeError } from './errors.js'

/** What an argument has to be, in words and as a cheap test (never a pass over its elements). */
interface Kind {
  readonly what: string
  readonly is: (value: never) => boolean
}

type Fields = Readonly<Record<string, unknown>>

const isObject = (value: unknown): value is Fields => typeof value === 'object' && value !== null

const hasFunctions = (value: unknown, ...names: string[]): boolean =>
  isObject(value) && names.every((name) => typeof value[name] === 'function')

const isBig = (value: unknown): boolean =>
  value instanceof BigInt64Array || value instanceof BigUint64Array

/** Lists of anything but big integers; what they hold is for the reader of the elements. */
export const isVector = (value: unknown): boolean =>
  isObject(value) &&
  Number.isSafeInteger(value.length) &&
  Number(value.length) >= 0 &&
  !isBig(value)

const isTyped = (value: unknown): boolean => ArrayBuffer.isView(value) && isVector(value)

export const isShape = (value: unknown): boolean =>
  Array.isArray(value) && value.every((d) => Number.isSafeInteger(d) && d >= 1)

const isLayout = (layout: unknown): boolean =>
  isObject(layout) && Array.isArray(layout.entries) && Number.isSafeInteger(layout.size)

function isSet(set: unknown): boolean {
  if (!isObject(set) || typeof set.name !== 'string' || !isObject(set.normalization)) return false
  const { mean, std } = set.normalization
  return (
    Number.isSafeInteger(set.size) &&
    Number(set.size) >= 1 &&
    isShape(set.shape) &&
    isShape(set.targetShape) &&
    isTyped(set.inputs) &&
    isTyped(set.targets) &&
    (set.classes === null || COUNT.is(set.classes as never)) &&
    Array.isArray(mean) &&
    Array.isArray(std)
  )
}

const VECTOR: Kind = { what: 'an array of numbers', is: isVector }
const FUNCTION: Kind = { what: 'a function', is: (f) => typeof f === 'function' }
const OBJECT: Kind = { what: 'an object', is: isObject }
const LIST: Kind = { what: 'an array', is: Array.isArray }
const TEXT: Kind = { what: 'a string', is: (text) => typeof text === 'string' }
const SHAPE: Kind = { what: 'a list of positive integers', is: isShape }
const COUNT: Kind = {
  what: 'a positive integer',
  is: (count) => Number.isSafeInteger(count) && count >= 1,
}
const SET: Kind = {
  what: 'a data set (data.load(), data.fromArrays(), or all fields of DataSet)',
  is: isSet,
}
const MEASURE: Kind = {
  what: 'a spectral measure (nodes and weights, as slq() returns them)',
  is: (measure: unknown) => isObject(measure) && isRows(measure.nodes) && isRows(measure.weights),
}

function isRows(rows: unknown): boolean {
  return Array.isArray(rows) && rows.every(isVector)
}

/** What the arguments of the public functions are, by their names, which mean the same everywhere. */
const ARGUMENTS = {
  device: {
    what: 'a device from open()',
    is: (device: unknown) =>
      hasFunctions(device, 'compileEncoded') && isObject((device as Fields).binding),
  },
  model: {
    what: 'a model (models.mlp(), models.define())',
    is: (model: unknown) =>
      hasFunctions(model, 'apply', 'init') && isLayout((model as Fields).layout),
  },
  operator: {
    what: 'a linear operator (size, dtype, matvec, matmat)',
    is: (operator: Fields) =>
      hasFunctions(operator, 'matvec', 'matmat') &&
      COUNT.is(operator.size as never) &&
      (operator.dtype === 'f32' || operator.dtype === 'f64'),
  },
  program: {
    what: 'a program from trace()',
    is: (program: Fields) =>
      isObject(program) &&
      [program.inputs, program.operations, program.outputs].every(
        (list) => Array.isArray(list) && list.every(isObject),
      ),
  },
  signal: {
    what: 'an AbortSignal',
    is: (signal: unknown) =>
      hasFunctions(signal, 'addEventListener', 'removeEventListener') &&
      typeof (signal as Fields).aborted === 'boolean',
  },
  seed: {
    what: 'an integer from 0 to 2^53 - 1, or a bigint below 2^64',
    is: (seed: unknown) =>
      typeof seed === 'bigint'
        ? seed >= 0n && seed < 1n << 64n
        : Number(seed) >= 0 && Number.isSafeInteger(seed),
  },
  precision: {
    what: "'f32' or 'f64'",
    is: (precision: unknown) => precision === 'f32' || precision === 'f64',
  },
  dtype: { what: "'f32' or 'f64'", is: (dtype: unknown) => dtype === 'f32' || dtype === 'f64' },
  set: SET,
  test: SET,
  params: VECTOR,
  state: VECTOR,
  v: VECTOR,
  vs: VECTOR,
  x: VECTOR,
  xs: VECTOR,
  start: VECTOR,
  matrix: VECTOR,
  indices: VECTOR,
  t: VECTOR,
  alpha: VECTOR,
  beta: VECTOR,
  theta: VECTOR,
  terms: LIST,
  rankOne: LIST,
  deflate: LIST,
  starts: LIST,
  selected: LIST,
  inputs: LIST,
  argumentTypes: LIST,
  profile: LIST,
  shape: SHAPE,
  size: COUNT,
  count: COUNT,
  tangents: COUNT,
  maxSteps: COUNT,
  probes: COUNT,
  steps: COUNT,
  samples: {
    what: 'an iterable of samples',
    is: (samples: Iterable<unknown> & AsyncIterable<unknown>) =>
      isObject(samples) &&
      (typeof samples[Symbol.iterator] === 'function' ||
        typeof samples[Symbol.asyncIterator] === 'function'),
  },
  product: FUNCTION,
  adjoint: FUNCTION,
  gradient: FUNCTION,
  f: FUNCTION,
  apply: FUNCTION,
  path: TEXT,
  spec: TEXT,
  name: TEXT,
  pattern: TEXT,
  measure: MEASURE,
  other: MEASURE,
  resume: OBJECT,
  checkpoint: OBJECT,
  data: OBJECT,
  training: OBJECT,
  optimizer: OBJECT,
  options: OBJECT,
  array: OBJECT,
} satisfies Record<string, { what: string; is: (value: never) => boolean }>

export type ArgumentName = keyof typeof ARGUMENTS

/**
 * Checks arguments by their names: `requireArguments('train()', { device, model, set })`.
 * @throws ERR_ARGUMENT naming the argument, what it should be and what came
 */
export function requireArguments(
  where: string,
  values: Readonly<Partial<Record<ArgumentName, unknown>>>,
): void {
  for (const [name, value] of Object.entries(values)) {
    const { what, is } = ARGUMENTS[name as ArgumentName] as Kind
    if (!is(value as never)) throw argumentError(where, name, what, value)
  }
}

/** The same for options, which may be left out; names of callbacks (`onProgress`) need no entry. */
export function requireOptionKinds(where: string, options: Fields): void {
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue
    const kind = /^on[A-Z]/.test(name)
      ? FUNCTION
      : OPTIONS.has(name)
        ? ARGUMENTS[name as 'seed']
        : null
    if (kind && !(kind as Kind).is(value as never)) {
      throw argumentError(where, name, kind.what, value)
    }
  }
}

/** Options that mean the same in every function. */
const OPTIONS: ReadonlySet<string> = new Set<ArgumentName>([
  ...(['signal', 'seed', 'precision', 'dtype', 'start', 'resume'] as const),
])

/** `WHERE expected NAME to be WHAT, got GOT.` */
export function argumentError(
  where: string,
  name: string,
  what: string,
  got: unknown,
): LosscapeError {
  const hint = got instanceof Promise ? ' (await it)' : ''
  return new LosscapeError(
    'ERR_ARGUMENT',
    `${where} expected ${name} to be ${what}, got ${describe(got)}${hint}.`,
  )
}

/** A value in a message: short, and without calling anything of the value's own. */
export function describe(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return `'${value.length > 40 ? `${value.slice(0, 40)}...` : value}'`
    case 'bigint':
      return `${value}n`
    case 'function':
      return 'a function'
    case 'object':
      if (value === null) return 'null'
      if (Array.isArray(value)) return describeList(value)
      return Object.getPrototypeOf(value) === Object.prototype ? 'an object' : `a ${tag(value)}`
    default:
      return String(value)
  }
}

/** A few numbers or names are told themselves. */
function describeList(list: readonly unknown[]): string {
  const short = list.length <= 8 && list.every((item) => item === null || typeof item !== 'object')
  return short ? `[${list.map(describe).join(', ')}]` : `an array of ${list.length}`
}

function tag(value: object): string {
  const { constructor } = value
  return typeof constructor === 'function' && constructor.name ? constructor.name : 'object'
}
