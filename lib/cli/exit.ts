import { LosscapeError } from '../errors.js'
import { ioError } from '../files/errors.js'

/** Exit statuses of the command line. */
export const EXIT = {
  ok: 0,
  /** A coded error, a diverged training, a failed self-test. */
  failure: 1,
  /** The command line itself is wrong. */
  usage: 2,
  /** SIGINT; what was finished is saved. */
  interrupted: 130,
} as const

/** The user stopped a command; `resume` is the command line that goes on. */
export class Interrupted extends Error {
  constructor(
    message: string,
    readonly resume?: string,
  ) {
    super(message)
  }
}

/** Flags that are wrong, or do not go with each other or with what they are for. */
export class UsageError extends LosscapeError {
  constructor(message: string, options?: { cause?: unknown }) {
    super('ERR_ARGUMENT', message, options)
  }
}

/** What `read` makes of flags: arguments that it refuses are wrong usage. */
export async function fromFlags<T>(read: () => T | Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (error) {
    const wrong = error instanceof LosscapeError && error.code === 'ERR_ARGUMENT'
    throw wrong ? new UsageError(error.message, { cause: error }) : error
  }
}

export interface FailureStyle {
  json: boolean
  /** Also print the stack. */
  verbose: boolean
}

/** What to print on stderr for an error, and the exit status. */
export function describeFailure(
  error: unknown,
  { json, verbose }: FailureStyle,
): { text: string; status: number } {
  if (error instanceof Interrupted) {
    const resume = error.resume ? ` Resume with: ${error.resume}` : ''
    const message = `${error.message}${resume}`
    const text = json ? jsonError('ERR_ABORTED', message) : `losscape: ${message}`
    return { text, status: EXIT.interrupted }
  }
  const { code, message, stack } = asCoded(error)
  const lines = [json ? jsonError(code, message) : `losscape: ${code}: ${message}`]
  if (verbose && stack) lines.push(stack)
  const status = error instanceof UsageError ? EXIT.usage : EXIT.failure
  return { text: lines.join('\n'), status }
}

/** The one line of `--json` on stderr. */
export function jsonError(code: string, message: string): string {
  return JSON.stringify({ error: { code, message } })
}

function asCoded(error: unknown): { code: string; message: string; stack?: string } {
  if (error instanceof LosscapeError) return error
  if (!(error instanceof Error)) return { code: 'ERR_UNEXPECTED', message: String(error) }
  const { message, stack } = error
  const { code } = error as { code?: unknown }
  if (typeof code === 'string' && code.startsWith('ERR_')) return { code, message, stack }
  const { path, syscall } = error as { path?: unknown; syscall?: unknown }
  if (typeof path === 'string' && typeof syscall === 'string') {
    const verb = ['open', 'read', 'stat', 'lstat', 'scandir'].includes(syscall) ? 'read' : 'write'
    return { code: 'ERR_IO', message: ioError(path, verb, error).message, stack }
  }
  // V8 has no class of its own for a typed array that does not fit.
  if (error instanceof RangeError && /allocation failed|array length/i.test(message)) {
    return { code: 'ERR_OUT_OF_MEMORY', message, stack }
  }
  return { code: 'ERR_UNEXPECTED', message: `${message} (--verbose shows where)`, stack }
}
