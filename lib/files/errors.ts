import { LosscapeError } from '../errors.js'

/** What is wrong with a file, and where. */
export interface Fault {
  /** Byte offset, where there is one. */
  offset?: number
  /** Line, counted from 1, for text. */
  line?: number
  expected: string
  got: string
  hint?: string
  cause?: unknown
}

/** The coded error for a file that is not what its format promises. */
export function formatError(path: string, fault: Fault): LosscapeError {
  const where =
    fault.line !== undefined
      ? `, line ${fault.line}`
      : fault.offset !== undefined
        ? ` at byte ${fault.offset}`
        : ''
  const hint = fault.hint ? ` ${fault.hint}` : ''
  return new LosscapeError(
    'ERR_FORMAT',
    `${path}${where}: expected ${fault.expected}; got ${fault.got}.${hint}`,
    { cause: fault.cause },
  )
}

/** The coded error for a file that could not be read or written. */
export function ioError(path: string, verb: 'read' | 'write', cause: unknown): LosscapeError {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code
  const reason =
    code === 'ENOENT'
      ? 'no such file or folder'
      : code === 'EACCES' || code === 'EPERM'
        ? 'permission denied'
        : code === 'ENOSPC'
          ? 'no space left on the device'
          : code === 'EISDIR'
            ? 'it is a folder'
            : cause instanceof Error
              ? cause.message
              : String(cause)
  return new LosscapeError('ERR_IO', `Cannot ${verb} ${path}: ${reason}.`, { cause })
}
