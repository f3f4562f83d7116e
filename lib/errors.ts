/** Machine-readable reasons of a {@link LosscapeError}. */
export type ErrorCode =
  /** A shape, length or rank does not fit. */
  | 'ERR_SHAPE'
  /** An element type does not fit. */
  | 'ERR_DTYPE'
  /** An argument's value is outside what is allowed. */
  | 'ERR_ARGUMENT'
  /** A label, index or step lies outside its range. */
  | 'ERR_RANGE'
  /** A program is malformed, or asks for a derivative that does not exist. */
  | 'ERR_PROGRAM'
  /** The device is unknown, absent or cannot do what was asked. */
  | 'ERR_DEVICE'
  /** A handle was used after it had been disposed. */
  | 'ERR_DISPOSED'
  /** A file or buffer is not what its format promises. */
  | 'ERR_FORMAT'
  /** A file could not be read or written. */
  | 'ERR_IO'
  /** NaN or infinity where only finite numbers are allowed. */
  | 'ERR_NOT_FINITE'
  /** An operator is not symmetric or not deterministic. */
  | 'ERR_OPERATOR'
  /** The native library could not be loaded. */
  | 'ERR_NATIVE'
  /** A CUDA call failed. */
  | 'ERR_CUDA'
  | 'ERR_OUT_OF_MEMORY'
  /** A worker thread failed or ended. */
  | 'ERR_WORKER'
  /** The caller's AbortSignal fired; `cause` is its reason. */
  | 'ERR_ABORTED'

/**
 * The one error class of this package. `message` says what was expected, what came
 * and how to mend it; `code` is stable and meant for programs.
 */
export class LosscapeError extends Error {
  override readonly name = 'LosscapeError'
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.code = code
  }
}

/** Throws the coded abort error when `signal` has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortError(signal)
}

/** The error with which an aborted call rejects. */
export function abortError(signal: AbortSignal): LosscapeError {
  return new LosscapeError('ERR_ABORTED', 'The operation was aborted.', { cause: signal.reason })
}
