import { describe, requireOptionKinds } from './arguments.js'
import { LosscapeError } from './errors.js'

/**
 * Refuses options that a function does not have, so that a misspelt one is not silently ignored,
 * and signals, callbacks, seeds and the like that are none.
 * @throws ERR_ARGUMENT naming the unknown option and the known ones, or what an option should be
 */
export function requireOptions<T extends object>(
  where: string,
  options: T,
  known: readonly (keyof T & string)[],
): void {
  if (options === null || typeof options !== 'object' || Array.isArray(options)) {
    throw new LosscapeError('ERR_ARGUMENT', `${where} expected options, got ${describe(options)}.`)
  }
  for (const name of Object.keys(options)) {
    if ((known as readonly string[]).includes(name)) continue
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${where} has no option '${name}'; it has ${[...known].sort().join(', ')}.`,
    )
  }
  requireOptionKinds(where, options as Readonly<Record<string, unknown>>)
}
