import { argumentError, isShape } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import type { Shape } from '../program/types.js'
import { type MlpOptions, mlp } from './mlp.js'
import type { Model } from './model.js'

/** What a model string leaves open. */
export interface ParseContext {
  /** Shape of one sample; must have as many elements as the string's first width. */
  readonly input?: Shape
  readonly options?: Partial<MlpOptions>
}

type Family = (body: string, context: ParseContext) => Model

/** Model strings by their prefix; further families register here. */
const families: Record<string, Family> = {
  mlp(body, { input, options }) {
    const widths = body.split('-').map(Number)
    if (widths.length < 2 || widths.some((w) => !Number.isInteger(w) || w < 1)) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `'mlp:${body}' is not a model: expected widths such as mlp:784-256-256-10.`,
      )
    }
    const features = input?.reduce((n, d) => n * d, 1)
    if (features !== undefined && features !== widths[0]) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `'mlp:${body}' takes ${widths[0]} inputs, but a sample of shape [${input}] has ${features}.`,
      )
    }
    return mlp({
      ...options,
      input: input ?? widths[0],
      hidden: widths.slice(1, -1),
      classes: widths[widths.length - 1],
    })
  },
}

/**
 * A model from its string, `mlp:784-256-256-10`.
 * @throws ERR_ARGUMENT for an unknown family, naming the known ones
 */
export function parseModel(text: string, context: ParseContext = {}): Model {
  if (typeof text !== 'string') throw argumentError('parse()', 'the model', 'a string', text)
  requireOptions('parse()', context, ['input', 'options'])
  const { input } = context
  if (input !== undefined && !isShape(input)) {
    throw argumentError('parse()', 'input', 'the shape of a sample', input)
  }
  const colon = text.indexOf(':')
  const prefix = text.slice(0, Math.max(colon, 0))
  const family = Object.hasOwn(families, prefix) ? families[prefix] : null
  if (!family) {
    const known = Object.keys(families)
      .map((name) => `${name}:..`)
      .join(', ')
    throw new LosscapeError('ERR_ARGUMENT', `Unknown model '${text}'; known models: ${known}.`)
  }
  return family(text.slice(colon + 1), context)
}
